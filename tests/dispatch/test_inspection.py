"""`ptycho inspect` points at what is wrong with a scan or a result, by frame number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho_core import Reconstruction, open_scan, save_scan, scan_from_arrays


@pytest.fixture
def strange_scan(scan_file: Path, tmp_path: Path) -> Path:
    """The small scan with an empty, a dim and a bright frame, and a position that occurs twice."""
    good = open_scan(scan_file)
    frames = np.array(good.frames)
    frames[3] = 0
    frames[5] //= 10
    frames[8] *= 10
    positions = good.positions_px.copy()
    positions[11] = positions[10]
    path = tmp_path / "strange.npz"
    save_scan(
        scan_from_arrays(
            frames,
            positions,
            good.probe,
            measurement="counts",
            dc="center",
            name="strange",
            bad_frames="off",
        ),
        path,
    )
    return path


def test_strange_frames_are_named(ptycho, strange_scan: Path) -> None:
    seen = ptycho("inspect", strange_scan).out
    for said in ("1 empty (3)", "1 far brighter than all around (8)", "1 far darker than all around (5)"):
        assert said in seen
    done = ptycho("inspect", strange_scan, "--bad-frames", "off")
    assert done.code == 0, done.err
    assert "without any counts: 3\n" in done.out
    assert "of the usual counts: 5\n" in done.out
    assert "times the usual counts: 8\n" in done.out
    assert "1 positions occur more than once" in done.out


def test_a_good_scan_is_not_suspected(ptycho, scan_file: Path) -> None:
    assert "suspicious" not in ptycho("inspect", scan_file).out


def test_a_physical_size_given_is_shown(ptycho, scan_file: Path) -> None:
    shown = ptycho("inspect", scan_file, "--pixel-size-m", "8e-9", "--energy-ev", "8000").out
    assert "8e-09 m" in shown
    assert "8000 eV" in shown


def test_a_result_tells_its_residuals_and_has_a_picture(ptycho, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    residual = np.full(20, 0.1, np.float32)
    residual[4], residual[9] = 0.5, np.nan
    Reconstruction(
        object=np.ones((64, 64), np.complex64),
        probe=rng.normal(size=(2, 32, 32)).astype(np.complex64),
        origin_px=np.zeros(2),
        positions_px=rng.uniform(16, 48, (20, 2)),
        coverage=np.ones((64, 64), np.float32),
        residual_per_frame=residual,
        data_residual=0.12,
        method="solver",
        scan_name="made",
    ).save(tmp_path / "made", figures=False)
    done = ptycho("inspect", "made", "--picture", "made.png")
    assert done.code == 0, done.err
    for text in ("result of the solver", "0.1200", "over twice the usual R: 4", "without any counts: 9"):
        assert text in done.out
    assert (tmp_path / "made.png").stat().st_size > 10_000
    assert Reconstruction.load(tmp_path / "made").n_frames == 20


def test_a_product_has_no_picture_and_says_so(ptycho, scan_file: Path, tmp_path: Path) -> None:
    assert ptycho("reconstruct", scan_file, "--effort", "fast", "--output-dir", "out").code == 0
    product = ptycho("inspect", "out/reconstruction.h5")
    assert "40 positions" in product.out
    refused = ptycho("inspect", "out/reconstruction.h5", "--picture", "x.png")
    assert refused.code == 2
    assert "--picture" in refused.err
    assert not (tmp_path / "x.png").exists()


def test_the_orientation_is_found_and_the_command_that_is_printed_uses_it(
    ptycho, scan_file: Path, tmp_path: Path
) -> None:
    good = open_scan(scan_file)
    turned = good.positions_px[:, ::-1] * [1.0, -1.0]
    path = save_scan(
        scan_from_arrays(
            np.array(good.frames), turned, good.probe, measurement="counts", dc="center", name="turned"
        ),
        tmp_path / "turned.npz",
    )
    done = ptycho("inspect", path, "--orientations")
    assert done.code == 0, done.err
    assert "trying eight orientations on" in done.out
    (command,) = (line for line in done.out.splitlines() if line.startswith("reconstruct it: "))
    words = command.removeprefix("reconstruct it: ").split()
    assert words[:2] == ["ptycho", "reconstruct"]
    assert words[words.index("--positions-orientation") + 1] in ("rotate-90", "rotate-270")
    (picture,) = (line for line in done.out.splitlines() if line.startswith("picture: "))
    assert (tmp_path / picture.removeprefix("picture: ")).stat().st_size > 1000
    again = ptycho(*words[1:], "--effort", "fast", "--output-dir", "out")
    assert again.code == 0, again.err


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n" + b"\0" * 40, b"PK\x03\x04" + b"\1" * 30])
def test_a_file_that_cannot_be_read_ends_with_exit_code_3(ptycho, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.h5").write_bytes(content)
    done = ptycho("inspect", tmp_path / "broken.h5")
    assert done.code == 3
    assert done.err.count("\n") == 1
    assert done.err.startswith("ptycho: broken.h5")
    assert done.out == ""


def test_a_mask_for_each_frame_and_a_directory_of_frames_are_looked_at(
    ptycho, scan_file: Path, tmp_path: Path
) -> None:
    scan = open_scan(scan_file)
    frames = np.asarray(scan.frames)
    mask = np.zeros(frames.shape, bool)
    mask[:, 0, :3] = True
    np.save(tmp_path / "mask.npy", mask)
    done = ptycho("inspect", scan_file, "--mask", tmp_path / "mask.npy", "--picture", tmp_path / "seen.png")
    assert done.code == 0, done.err
    assert "3 in each frame, on average" in done.out
    assert (tmp_path / "seen.png").is_file()
    directory = tmp_path / "frames"
    directory.mkdir()
    for number, frame in enumerate(frames):
        np.save(directory / f"frame_{number}.npy", frame)
    np.savetxt(directory / "positions.csv", scan.positions_px, delimiter=",")
    done = ptycho("inspect", directory)
    assert done.code == 0, done.err
    assert f"frames         {len(frames)} of" in done.out
    assert f"ptycho reconstruct {directory}" in done.out


def test_a_pixel_that_is_nan_in_one_frame_is_no_reason_to_stop(
    ptycho, scan_file: Path, tmp_path: Path
) -> None:
    with np.load(scan_file) as scan:
        arrays = {key: scan[key] for key in scan.files}
    arrays["diff3d"] = arrays["diff3d"].astype(np.float32)
    arrays["diff3d"][3, 10, 10] = np.nan
    np.savez(tmp_path / "nan.npz", **arrays)
    done = ptycho("inspect", "nan.npz", "--picture", "nan.png")
    assert done.code == 0, done.err
    assert "bad pixels" in done.out
