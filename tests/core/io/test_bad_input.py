"""Whatever is wrong with a scan file: one clear line, exit code 3, each on a real file."""

from __future__ import annotations

import bz2
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import EXIT_DATA, ConfigError, DataError, exit_code
from ptycho_core import Reconstruction, open_scan

Arrays = dict[str, np.ndarray]
Save = Callable[..., Path]


def refusal(source: Path | str, **options: object) -> str:
    """Open what must be refused; return the message after checking its form."""
    with pytest.raises(DataError) as caught:
        open_scan(source, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert exit_code(caught.value) == EXIT_DATA
    assert "\n" not in message
    assert len(message) < 700
    return message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file. Expected an NPZ file or the name of a data set" in refusal(tmp_path / "absent.npz")


def test_a_mistyped_data_set_gets_the_right_name() -> None:
    assert "Did you mean `siemens-star`?" in refusal("simens-star")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


def test_a_file_below_a_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    assert "no such file" in refusal(tmp_path / "plain" / "scan.npz")


def test_a_name_that_no_system_takes_is_refused() -> None:
    refusal("x" * 5000)
    refusal("scan\0.npz")
    refusal("~nobody-of-that-name/scan.npz")


@pytest.mark.skipif(os.name != "posix", reason="device files are a POSIX idea")
def test_a_device_is_refused() -> None:
    assert "not a regular file" in refusal("/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_an_unreadable_file_is_refused(arrays: Arrays, save: Save) -> None:
    path = save(arrays)
    path.chmod(0)
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5 file"),
        (b"hello, world", "not an NPZ archive"),
        (pickle.dumps({"diff3d": 1}), "pickle, which is never loaded"),
        (b"PK\x05\x06" + bytes(18), "is missing. Found nothing. Known names"),
        (b"PK\x03\x04" + bytes(200), "truncated or damaged"),
        (b"BZh91AY&SY" + bytes(50), "bzip2 stream is truncated or damaged"),
        (bz2.compress(b"not a zip"), "not an NPZ archive"),
        (bz2.compress(b""), "the file is empty"),
    ],
)
def test_other_kinds_of_files_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    path.write_bytes(content)
    message = refusal(path)
    assert "scan.npz" in message
    assert said in message


def test_a_single_array_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", arrays["diff3d"])
    assert "no positions were found" in refusal(tmp_path / "scan.npy")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.99])
def test_truncated_files_are_refused(
    fraction: float, compressed: bool, packed: bool, arrays: Arrays, save: Save
) -> None:
    path = save(arrays, compressed=compressed)
    content = bz2.compress(path.read_bytes()) if packed else path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    assert "truncated or damaged" in refusal(path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("key", ["diff3d", "xcoords", "probeGuess", "objectGuess"])
def test_a_flipped_bit_in_the_values_is_found(key: str, compressed: bool, arrays: Arrays, save: Save) -> None:
    path = save(arrays, compressed=compressed)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{key}.npy")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + info.compress_size // 2 + 20] ^= 0x10
    path.write_bytes(content)
    assert "damaged" in refusal(path)


@pytest.mark.finding("DATA-001")
@pytest.mark.parametrize("key", ["diff3d", "xcoords", "probeGuess", "objectGuess"])
def test_pickled_arrays_are_refused(key: str, arrays: Arrays, save: Save) -> None:
    message = refusal(save(arrays | {key: np.array([{"a": 1}, None], dtype=object)}))
    assert f"`{key}` holds pickled Python objects, which are never loaded" in message


def test_opening_pickled_arrays_runs_no_code(arrays: Arrays, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    np.savez(tmp_path / "scan.npz", **(arrays | {"diff3d": np.array([Trap()], dtype=object)}))  # type: ignore[arg-type]
    refusal(tmp_path / "scan.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.finding("DATA-001")
@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("diff3d", "the diffraction, `diff3d`,"),
        ("xcoords", "positions `xcoords`"),
        ("ycoords", "positions `ycoords`"),
    ],
)
def test_missing_keys_are_named_with_what_was_found(key: str, said: str, arrays: Arrays, save: Save) -> None:
    message = refusal(save(arrays | {"scratch": np.ones((3, 4))}, **{key: None}))
    assert message.startswith("DATA-001: scan.npz")
    assert said in message
    assert "Found" in message
    assert "`scratch` (3, 4)" in message
    assert "Known names: frames `diff3d`, `diffraction`, `data` or `intensities`" in message


@pytest.mark.parametrize(
    ("key", "shape", "said"),
    [
        ("diff3d", (16, 16), "Expected (frames, N, N)"),
        ("diff3d", (2, 25, 16, 16), "shape (50, 16, 16), but there are 25 positions"),
        ("diff3d", (2, 2, 25, 16, 16), "Expected (frames, N, N)"),
        ("diff3d", (), "Expected (frames, N, N)"),
        ("diff3d", (25, 0, 0), "empty"),
        ("xcoords", (25, 2), "Expected (frames,)"),
        ("xcoords", (0,), "`xcoords` has 0 values, `ycoords` has 25"),
        ("probeGuess", (16,), "Expected (16, 16)"),
        ("probeGuess", (2, 2, 16, 16), "Expected (16, 16)"),
        ("probeGuess", (0, 16, 16), "Expected (16, 16)"),
        ("probeGuess", (16, 8), "Expected (16, 16)"),
        ("mask", (25, 16), "Expected (16, 16) or (25, 16, 16)"),
        ("bad_pixels", (24, 16, 16), "Expected (16, 16) or (25, 16, 16)"),
    ],
)
def test_wrong_shapes_are_refused(
    key: str, shape: tuple[int, ...], said: str, arrays: Arrays, save: Save
) -> None:
    message = refusal(save(arrays | {key: np.ones(shape)}))
    assert said in message


def test_positions_as_pairs_must_be_pairs(arrays: Arrays, save: Save) -> None:
    message = refusal(save(arrays, xcoords=None, ycoords=None, scan=np.ones((2, 25))))
    assert "Expected (frames, 2), one (y, x) pair in pixels" in message
    assert "no positions" in refusal(save(arrays, xcoords=None, ycoords=None, scan=np.ones((0, 2))))


@pytest.mark.finding("FORMAT-001")
def test_far_fewer_positions_than_frames_are_refused(arrays: Arrays, save: Save) -> None:
    message = refusal(save(arrays, xcoords=np.arange(19.0), ycoords=np.arange(19.0)))
    assert message.startswith("FORMAT-001")
    assert "shape (25, 16, 16), but there are 19 positions" in message


def test_coordinates_of_different_length_are_refused(arrays: Arrays, save: Save) -> None:
    message = refusal(save(arrays, xcoords=np.arange(24.0)))
    assert "`xcoords` has 24 values, `ycoords` has 25" in message


def test_an_all_nan_frame_is_refused_where_bad_frames_are_kept(arrays: Arrays, save: Save) -> None:
    arrays["diff3d"][7] = np.nan
    message = refusal(save(arrays), bad_frames="off")
    assert "frame 7 is NaN everywhere" in message
    assert "`--exclude-frames 7`" in message and "`--bad-frames auto`" in message


def test_frames_without_a_value_are_refused_and_another_array_asked_for(arrays: Arrays, save: Save) -> None:
    arrays["diff3d"][:] = np.nan
    message = refusal(save(arrays))
    assert "all values of the frames are NaN" in message and "`--frames-key`" in message


def test_mostly_nan_is_refused(arrays: Arrays, save: Save) -> None:
    arrays["diff3d"][:, :10] = np.nan
    assert "62 % of all values are NaN" in refusal(save(arrays))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_refused_where_bad_pixels_are_kept(
    value: float, arrays: Arrays, save: Save
) -> None:
    arrays["diff3d"][11, 3, 4] = value
    assert "frame 11 holds infinite values" in refusal(save(arrays), bad_pixels="file")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_none_of_which_is_finite_are_refused(value: float, arrays: Arrays, save: Save) -> None:
    arrays["xcoords"][:] = value
    assert "none of the 25 positions is finite" in refusal(save(arrays))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_a_probe_that_is_not_finite_is_refused(value: float, arrays: Arrays, save: Save) -> None:
    arrays["probeGuess"][2, 2] = value
    with np.errstate(invalid="ignore"):
        arrays["probeGuess"] = arrays["probeGuess"].astype(np.complex128) * 10
    assert "the probe holds NaN, infinite or overflowing values" in refusal(save(arrays))


def test_a_dark_probe_is_refused(arrays: Arrays, save: Save) -> None:
    assert "the probe is zero everywhere" in refusal(
        save(arrays, probeGuess=np.zeros((16, 16), np.complex64))
    )


def test_negative_amplitudes_are_refused(arrays: Arrays, save: Save) -> None:
    arrays["diff3d"][0, 0, 0] = -0.5
    assert "1 values are negative, the smallest is -0.5" in refusal(save(arrays))


def test_values_beyond_float32_are_refused(arrays: Arrays, save: Save) -> None:
    huge = arrays["diff3d"].astype(np.float64) * 1e30 + 0.1
    assert "more than float32 can square" in refusal(save(arrays, diff3d=huge))
    assert "more than float32 can square" in refusal(save(arrays, diff3d=huge), measurement="counts")
    assert "less than float32 can" in refusal(save(arrays, diff3d=np.full_like(huge, 1e-30)))


def test_complex_diffraction_is_refused(arrays: Arrays, save: Save) -> None:
    assert "the diffraction is complex (complex64)" in refusal(save(arrays, diff3d=arrays["diff3d"] * 1j))


@pytest.mark.parametrize("key", ["diff3d", "xcoords", "probeGuess", "mask"])
def test_text_is_refused(key: str, arrays: Arrays, save: Save) -> None:
    assert "<U" in refusal(save(arrays | {key: np.full((25, 16, 16), "ten")}))


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_all_zero_frames_are_refused(dtype: str, arrays: Arrays, save: Save) -> None:
    assert "all frames are zero" in refusal(save(arrays, diff3d=np.zeros((25, 16, 16), dtype)))


def test_a_mask_that_leaves_nothing_is_refused(arrays: Arrays, save: Save) -> None:
    assert "every pixel is marked bad" in refusal(save(arrays, mask=np.zeros((16, 16), bool)))


def test_a_probe_of_another_size_is_refused(arrays: Arrays, save: Save) -> None:
    message = refusal(save(arrays, probeGuess=np.ones((32, 32), np.complex64)))
    assert "the probe is 32 x 32 pixels, the frames are 16 x 16" in message


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-9])
def test_positions_in_metres_are_recognised(scale: float, arrays: Arrays, save: Save) -> None:
    step = {key: arrays[key] * scale / 12 for key in ("xcoords", "ycoords")}
    message = refusal(save(arrays | step))
    assert "look like metres" in message
    assert "by which they are then divided" in message


def test_positions_that_need_a_giant_canvas_are_refused(arrays: Arrays, save: Save) -> None:
    scaled = {key: arrays[key] * 1e6 for key in ("xcoords", "ycoords")}
    message = refusal(save(arrays | scaled))
    assert "a canvas of 1.4e+14 pixels" in message
    assert "bytes), of which this process may have" in message
    scaled = {key: arrays[key] * 1e300 * np.sign(np.arange(25) - 12) for key in ("xcoords", "ycoords")}
    assert "a canvas of inf pixels" in refusal(save(arrays | scaled))
    # Steps of a motor in one direction: any machine could hold it, and nearly all of it would be empty.
    scaled = {"xcoords": arrays["xcoords"] * 1e5}
    assert "Expected at most 1.7e+07 pixels for 25 frames" in refusal(save(arrays | scaled))


def test_a_scan_without_overlap_warns_with_the_overlap(arrays: Arrays, save: Save) -> None:
    spread = {key: arrays[key] * 10 for key in ("xcoords", "ycoords")}
    with pytest.warns(UserWarning, match=r"scan: .*do not overlap: the step is 30 px.*the overlap -\d+ %"):
        scan = open_scan(save(arrays | spread))
    assert scan.n_frames == 25


def test_positions_that_are_all_equal_warn(arrays: Arrays, save: Save) -> None:
    still = {key: np.full(25, 4.0) for key in ("xcoords", "ycoords")}
    with pytest.warns(UserWarning, match="all 25 positions are equal"):
        open_scan(save(arrays | still))


@pytest.mark.parametrize("side", [6, 2, 1])
def test_sides_that_cannot_be_used_are_refused(side: int, arrays: Arrays, save: Save) -> None:
    message = refusal(save(arrays, diff3d=np.ones((25, side, side))))
    assert f"a side of N = {side} pixels. Expected an even N" in message


def test_an_archive_that_lies_about_its_sizes_allocates_nothing(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 4096, 4096), }"
    header += b" " * (117 - len(header)) + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "diff3d.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(1000)
        )
    assert "its header declares 67108864000000 bytes" in refusal(path)


def test_an_honest_bomb_is_weighed_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptycho_core.memory.physical_memory_bytes", lambda: 1 << 20)
    frames = np.zeros((64, 64, 64), np.float64)
    np.savez_compressed(tmp_path / "bomb.npz", diff3d=frames, xcoords=np.arange(64), ycoords=np.arange(64))
    said = "`diff3d` needs 2 MiB (2097152 bytes), this process may have 1 MiB (1048576 bytes)"
    assert said in refusal(tmp_path / "bomb.npz")
    packed = tmp_path / "bomb.npz.bz2"
    packed.write_bytes(bz2.compress(bytes(9 << 20)))
    assert "its decompressed content needs" in refusal(packed)


def test_an_array_that_grows_out_of_next_to_nothing_is_refused_before_it_is_made(
    arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTYCHO_LARGEST_ARRAY_GIB", "0.001")
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, **{**arrays, "diff3d": np.zeros((25, 256, 256), np.float32)})
    assert "`diff3d` would grow from" in refusal(path)
    np.savez_compressed(path, **{**arrays, "probeGuess": np.zeros((9, 128, 128), np.complex64)})
    assert "`probeGuess` (9, 128, 128) needs" in refusal(path)
    packed = tmp_path / "bomb.npz.bz2"
    packed.write_bytes(bz2.compress(b"PK" + bytes(9 << 20)))
    assert "its decompressed content would grow from" in refusal(packed)
    assert "set PTYCHO_LARGEST_ARRAY_GIB=1." in refusal(packed)
    monkeypatch.setenv("PTYCHO_LARGEST_ARRAY_GIB", "1")
    assert "cannot be read" in refusal(packed)


def test_numbers_beyond_64_bits_and_names_of_a_megabyte_end_in_one_line(arrays: Arrays, save: Save) -> None:
    path, long = save(arrays), "q" * 1_000_000
    for number in ("9" * 30, "9" * 5000):
        with pytest.raises(ConfigError, match="names frame"):
            open_scan(path, exclude_frames=number)
    assert open_scan(path, frames=f"-{'9' * 30}:{'9' * 30}").n_frames == len(arrays["diff3d"])
    attempts: tuple[dict[str, Any], ...] = (
        {"mask": long},
        {"probe_file": f"{long}.h5"},
        {"positions_file": long},
        {"frames_key": long},
        {"exclude_frames": long},
    )
    for options in attempts:
        with pytest.raises((ConfigError, DataError)) as caught:
            open_scan(path, **options)
        assert len(str(caught.value)) < 1200
    with pytest.raises(DataError, match="no such file"):
        Reconstruction.load(long)
    about = f'{{"physics_parameters": {{"energy_ev": {"9" * 400}}}}}'
    assert open_scan(save(arrays, _metadata=np.array(about))).energy_ev is None


def test_encrypted_and_unknown_compressions_are_refused(arrays: Arrays, save: Save) -> None:
    for offset, value in ((8, 1), (10, 99)):  # flag bit 0, compression method, in the central directory
        path = save(arrays)
        content = bytearray(path.read_bytes())
        entry = content.index(b"PK\x01\x02")
        content[entry + offset] = value
        path.write_bytes(content)
        assert "cannot be read" in refusal(path)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space of a subprocess")
def test_not_enough_memory_is_one_line(arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    frames = np.ones((400, 512, 512), np.uint8)
    np.savez_compressed(path, diff3d=frames, xcoords=np.arange(400) * 9.0, ycoords=np.arange(400) * 9.0)
    code = (
        "import resource, sys; from ptycho_core import open_scan; from ptycho_config.errors import "
        "DataError\nimport ptycho_core.io.opening\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20),) * 2)\n"
        "try: open_scan(sys.argv[1])\n"
        "except DataError as error: print(error); raise SystemExit(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_DATA, done.stderr
    assert "`diff3d` needs 100 MiB (104857600 bytes), this process may have" in done.stdout
