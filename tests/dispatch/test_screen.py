"""What a command says: plain text whatever names hold, in any encoding, never at the cost of the result."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_core import Reconstruction

#: A Latin-1 letter that is no UTF-8, a colour, a clear screen, and a line that is not ours.
NAME = b"m\xfcller\x1b[31m\x1b[2J\n2026-01-01 00:00:00,000 INFO forged"
FAST = ("--effort", "fast", "--solver-epochs", "2")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `ptycho` is ours; its exit code is that of `ptycho`."""
    line = line.replace("ptycho", f"{sys.executable} -m ptycho_dispatch", 1)
    return subprocess.run(
        ["bash", "-c", f"{line}\nexit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def odd(scan_file: Path, tmp_path: Path) -> Path:
    """The small scan in a folder and under a name that nobody should have chosen."""
    folder = tmp_path / os.fsdecode(NAME)
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such names")
    return Path(shutil.copy(scan_file, folder / os.fsdecode(b"s" + NAME + b".npz")))


def assert_plain(text: bytes) -> None:
    assert b"\x1b" not in text
    assert not re.search(rb"^2026-01-01", text, re.MULTILINE)
    assert b"Traceback" not in text


def test_a_name_that_is_no_text_works_end_to_end_and_reaches_no_terminal(ptycho, odd: Path) -> None:
    source, out, compared = str(odd), str(odd.parent / f"o{odd.parent.name}"), str(odd.parent / "compared")
    for words in (
        ("inspect", source),
        ("reconstruct", source, *FAST, "--output-dir", out, "--save-tiff", "true", "--save-mat", "true"),
        ("reconstruct", source, *FAST, "--output-dir", out, "--start", out),
        ("compare", out, source, "--output-dir", compared),
        ("report", out),
        ("watch", source, "--replay", "1000", "--finish", "none", "--output-dir", out),
    ):
        done = ptycho(*words)
        assert done.code == 0, (words, done.err)
        assert_plain((done.out + done.err).encode(errors="surrogateescape"))
    assert_plain(Path(out, "ptycho.log").read_bytes())
    result = Reconstruction.load(out)
    assert r"m\xfcller\x1b[31m" in result.scan_name
    page = Path(out, "report.html").read_text()
    assert r"m\xfcller" in page


def test_names_inside_a_file_reach_no_terminal(ptycho, scan_file: Path, tmp_path: Path) -> None:
    with np.load(scan_file) as scan, h5py.File(tmp_path / "s.h5", "w") as file:
        file["\x1b[31mevil\n2026-01-01 00:00:00,000 INFO forged"] = scan["diff3d"]
        file["positions"] = np.c_[scan["ycoords"], scan["xcoords"]]
        file["positions"].attrs["units"] = "px"
    (tmp_path / "c.yaml").write_text('"\\e[31mkey": 1\n')
    for words, code in (
        (("inspect", "s.h5"), 0),
        (("reconstruct", "s.h5", *FAST, "--output-dir", "out"), 0),
        (("reconstruct", "s.h5", "--config", "c.yaml"), 2),
        (("reconstruct", "s.h5", "--config", "c.yaml", "--debug"), 2),
    ):
        done = ptycho(*words)
        assert done.code == code, done.err
        assert b"\x1b" not in (done.out + done.err).encode()
    assert_plain((tmp_path / "out" / "ptycho.log").read_bytes())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("| head -1", 0, b""),
        ("2>&1 | head -1", 0, b""),
        ("> /dev/full", 1, b"No space left on device"),
        ("2> /dev/full", 0, b""),
        (">&-", 1, b"Bad file descriptor"),
        ("2>&-", 0, b""),
        ("<&- >&- 2>&-", 1, b""),
    ],
)
def test_where_nobody_can_read_it_the_result_is_complete(
    scan_file: Path, tmp_path: Path, end: str, code: int, said: bytes
) -> None:
    done = shell(f"ptycho reconstruct {scan_file} {' '.join(FAST)} --output-dir out {end}", tmp_path)
    assert done.returncode == code, done.stderr
    assert_plain(done.stderr)
    assert said in done.stderr
    assert np.isfinite(Reconstruction.load(tmp_path / "out").object).all()
    assert (tmp_path / "out" / "run.json").read_text().endswith("}\n")
    log = (tmp_path / "out" / "ptycho.log").read_text()
    assert all("INFO" in line or "WARNING" in line for line in log.splitlines())


def test_python_without_docstrings_will_do(ptycho_process) -> None:
    done = ptycho_process("simulate", "--help", environment={"PYTHONOPTIMIZE": "2"})
    assert done.code == 0, done.err
    assert "--frames" in done.out


@pytest.mark.parametrize(
    "encoding",
    [
        "ascii:strict",
        "utf-8",
        pytest.param("ascii", marks=pytest.mark.slow),
        pytest.param("utf-8:strict", marks=pytest.mark.slow),
    ],
)
def test_every_encoding_will_do(ptycho_process, encoding: str) -> None:
    done = ptycho_process("--help", environment={"PYTHONIOENCODING": encoding, "LC_ALL": "C"})
    assert done.code == 0, done.err
    assert "ptycho COMMAND" in done.out
    done = ptycho_process("inspect", "nö\u2028.npz", environment={"PYTHONIOENCODING": encoding})
    assert done.code == 3
    assert "Traceback" not in done.err
