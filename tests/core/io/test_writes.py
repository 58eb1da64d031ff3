"""Files are written whole or not at all, and the reason is one line."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import EXIT_FAILED, OutputError, exit_code
from ptycho_core.files import reserve
from ptycho_core.io import atomic_path, make_directory, write_json, write_npz, write_text
from ptycho_core.io.product import read_product, write_product


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == tmp_path
    assert path.read_text() == "half"
    assert os.listdir(tmp_path) == ["notes.txt"]  # noqa: PTH208


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = write_text(tmp_path / "notes.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "notes.txt"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="permissions are a POSIX idea")
def test_results_have_the_permissions_of_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    path = write_text(tmp_path / "ours", "x")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_names_as_long_as_the_system_allows_can_be_written(tmp_path: Path) -> None:
    assert write_text(tmp_path / ("x" * 250), "long").read_text() == "long"


def test_a_directory_below_a_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    for attempt in (
        lambda: make_directory(tmp_path / "plain" / "results"),
        lambda: write_text(tmp_path / "plain" / "notes.txt", "x"),
        lambda: write_npz(tmp_path / "plain" / "result.npz", {"object": np.ones(3)}),
        lambda: make_directory(tmp_path / "plain"),
    ):
        with pytest.raises(OutputError, match=r"cannot be written \(.*Choose a directory") as caught:
            attempt()
        assert exit_code(caught.value) == EXIT_FAILED
        assert str(tmp_path / "plain") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_absent_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"absent.*No such file or directory"):
        write_text(tmp_path / "absent" / "notes.txt", "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_read_only_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        make_directory(tmp_path)
    tmp_path.chmod(0o755)


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from ptycho_config.errors import OutputError, exit_code
from ptycho_core.io import write_json, write_npz, write_text, save_scan
from ptycho_core.io.product import write_product
from ptycho_core import Scan, scan_from_arrays
kind, directory = sys.argv[1], Path(sys.argv[2])
values = np.random.default_rng(0).normal(size=(9, 64, 64))
scan = scan_from_arrays(np.abs(values), np.arange(18).reshape(9, 2), np.ones((64, 64)))
attempts = {
    "npz": lambda: write_npz(directory / "x", {"first": values, "second": values}),
    "compressed": lambda: write_npz(directory / "x", {"first": values}, compressed=True),
    "json": lambda: write_json(directory / "x", values),
    "text": lambda: write_text(directory / "x", "x" * 100_000),
    "scan": lambda: save_scan(scan, directory / "x"),
    "product": lambda: write_product(directory / "x", obj=np.ones((200, 200), np.complex64),
        probe=np.ones((1, 64, 64), np.complex64), positions_px=np.zeros((9, 2)), origin_px=np.zeros(2),
        name="x"),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    attempts[kind]()
except OutputError as error:
    print(error)
    raise SystemExit(exit_code(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes of a subprocess")
@pytest.mark.parametrize("kind", ["npz", "compressed", "json", "text", "scan", "product"])
def test_a_full_disk_is_one_line_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, kind, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_FAILED, done.stderr
    assert "cannot be written (File too large)" in done.stdout
    assert "Free some space" in done.stdout
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_of_all_kinds_come_back(compressed: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    arrays = {
        "frames": rng.normal(size=(3, 8, 8)).astype(np.float32),
        "fortran": np.asfortranarray(rng.normal(size=(4, 5))),
        "big_endian": np.arange(7, dtype=">i8"),
        "text": np.array("a text with ä"),
        "empty": np.zeros((0, 3)),
        "number": np.array(2.5),
    }
    path = write_npz(tmp_path / "result.npz", arrays, compressed=compressed)
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == set(arrays)
        for key, array in arrays.items():
            assert file[key].dtype == array.dtype
            np.testing.assert_array_equal(file[key], array)


def test_plain_members_are_aligned_and_equal_arrays_make_equal_files(tmp_path: Path) -> None:
    arrays = {f"array_{'x' * length}": np.arange(3.0) for length in range(12)}
    first = write_npz(tmp_path / "first.npz", arrays)
    assert first.read_bytes() == write_npz(tmp_path / "second.npz", arrays).read_bytes()
    content = first.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            name_bytes, extra_bytes = (
                int.from_bytes(content[info.header_offset + at : info.header_offset + at + 2], "little")
                for at in (26, 28)
            )
            assert (info.header_offset + 30 + name_bytes + extra_bytes) % 64 == 0


def test_objects_are_never_pickled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`things` holds Python objects"):
        write_npz(tmp_path / "result.npz", {"things": np.array([{}], dtype=object)})
    assert not list(tmp_path.iterdir())


def test_json_knows_numpy_paths_and_numbers_that_are_none(tmp_path: Path) -> None:
    data = {
        "array": np.arange(3, dtype=np.uint8),
        "number": np.float32(0.5),
        "nan": float("nan"),
        "numpy_inf": np.array([np.inf, 1.0]),
        "path": Path("a/b"),
        "nested": {"tuple": (1, True, None), 2: "two"},
        "complex": 1 + 2j,
    }
    assert json.loads(write_json(tmp_path / "run.json", data).read_text()) == {
        "array": [0, 1, 2],
        "number": 0.5,
        "nan": None,
        "numpy_inf": [None, 1.0],
        "path": "a/b",
        "nested": {"tuple": [1, True, None], "2": "two"},
        "complex": "(1+2j)",
    }


@pytest.mark.parametrize("promise", ["kept", "unknown", "none"])
def test_room_is_taken_before_a_product_is_written(
    promise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file system cannot promise room, or the system knows no promise."""

    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if promise == "none":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    elif promise == "unknown":
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with (tmp_path / "room").open("w+b") as file:
        reserve(file, 3_000_000)
        assert os.fstat(file.fileno()).st_size >= 3_000_000
    obj = np.arange(600, dtype=np.complex64).reshape(20, 30)
    path = write_product(
        tmp_path / "product.h5",
        obj=obj,
        probe=np.ones((1, 8, 8), np.complex64),
        positions_px=np.zeros((2, 2)),
        origin_px=np.zeros(2),
        name="made",
    )
    assert path.stat().st_size < 100_000  # no more than is in it
    assert np.array_equal(read_product(path).obj, obj)
