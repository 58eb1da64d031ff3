"""The standard deviation of each pixel: right on simulated scans, larger with fewer photons, saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import DataError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_core import Callback, Reconstruction, Scan, scan_from_arrays, solve
from ptycho_core.figures import FIGURE_FILES, UNCERTAINTY_FILE, UNWRAPPED_FILE
from ptycho_core.figures.position_map import POSITIONS_FILE
from ptycho_core.metrics import compare
from ptycho_core.result.exports import MATLAB_FILE, TIFF_FILES
from ptycho_core.result.reconstruction import FILES_ON_REQUEST
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.verdict import with_uncertainty
from ptycho_core.verdict.uncertainty import _Halves

NUMPY = SolverExecutionConfig(arrays="numpy", threads=2)


def made_with(**changes: object) -> SimulatedScan:
    usual: dict[str, object] = {"frames": 100, "frame_px": 32, "overlap": 0.75, "photons": 1e6, "seed": 4}
    return simulate_scan(**(usual | changes))


def sure(made: SimulatedScan) -> Reconstruction:
    return with_uncertainty(made.scan, solve(made.scan, execution=NUMPY), execution=NUMPY)


@pytest.fixture(scope="module")
def bright() -> tuple[SimulatedScan, Reconstruction]:
    made = made_with(frame_px=64, frames=50)
    return made, sure(made)


def told_and_true(made: SimulatedScan, result: Reconstruction) -> tuple[np.ndarray, np.ndarray]:
    """Return standard deviations (2, pixel) of amplitude and phase, and the errors."""
    found = compare(result, made.obj)
    top, left = np.rint(found.window_origin_px - result.origin_px).astype(int)
    height, width = found.aligned.shape
    box = slice(top, top + height), slice(left, left + width)
    assert result.amplitude_std is not None
    assert result.phase_std_rad is not None
    told = np.array([result.amplitude_std[box], result.phase_std_rad[box]])
    true = np.array(
        [
            np.abs(np.abs(found.aligned) - np.abs(found.truth)),
            np.abs(np.angle(found.aligned * found.truth.conj())),
        ]
    )
    seen = found.region & np.isfinite(told[0])
    return told[:, seen], true[:, seen]


def test_about_two_thirds_of_the_pixels_are_within_it(bright: tuple[SimulatedScan, Reconstruction]) -> None:
    told, true = told_and_true(*bright)
    within = (true <= told).mean(axis=1)
    assert ((within > 0.55) & (within < 0.8)).all(), within
    # Where it says that pixels are known worse, they are.
    for deviation, error in zip(told, true, strict=True):
        parts = np.array_split(np.argsort(deviation), 4)
        assert error[parts[-1]].mean() > 1.5 * error[parts[0]].mean()


def test_fewer_photons_make_it_larger() -> None:
    many, few = (
        sure(made_with(frames=50, photons=photons)).run_record()["uncertainty"] for photons in (1e6, 2e4)
    )
    for key in ("median_amplitude", "median_phase_rad"):
        assert few[key] > 2 * many[key]


def test_it_lies_where_the_object_is_illuminated(bright: tuple[SimulatedScan, Reconstruction]) -> None:
    _, result = bright
    assert result.amplitude_std is not None
    known = np.isfinite(result.amplitude_std)
    np.testing.assert_array_equal(known, np.isfinite(result.phase_std_rad))
    assert known.sum() > 1000
    assert (result.coverage[known] > 0.1).all()
    assert (result.amplitude_std[known] > 0).all()


def test_it_is_kept_with_the_result(bright: tuple[SimulatedScan, Reconstruction], tmp_path: Path) -> None:
    _, result = bright
    files = result.save(tmp_path)
    assert "uncertainty.png" in files
    again = Reconstruction.load(tmp_path)
    np.testing.assert_array_equal(again.amplitude_std, result.amplitude_std)
    np.testing.assert_array_equal(again.phase_std_rad, result.phase_std_rad)
    record = json.loads((tmp_path / "run.json").read_text())["uncertainty"]
    assert record["halves_of"] == "frames"
    assert record["pairs"] == 3
    cut = result.cropped()
    assert cut.amplitude_std is not None
    assert cut.amplitude_std.shape == cut.object.shape
    assert np.nansum(cut.amplitude_std) == pytest.approx(np.nansum(result.amplitude_std), rel=1e-5)
    with np.load(tmp_path / "reconstruction.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    np.savez(tmp_path / "reconstruction.npz", **(arrays | {"phase_std_rad": np.zeros((3, 3), np.float32)}))
    with pytest.raises(DataError, match="do not fit together"):
        Reconstruction.load(tmp_path)


def test_a_result_without_it_says_nothing_of_it(tmp_path: Path) -> None:
    result = solve(made_with(frames=20).scan, execution=NUMPY)
    assert "uncertainty.png" not in result.save(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["uncertainty"] is None
    assert Reconstruction.load(tmp_path).amplitude_std is None


def test_pictures_of_an_earlier_run_do_not_stay_beside_another_image(
    bright: tuple[SimulatedScan, Reconstruction], tmp_path: Path
) -> None:
    _, result = bright
    asked = result.save(tmp_path, tiff=True, mat=True, unwrap=True)
    (tmp_path / "notes.txt").write_text("mine")
    plain = replace(result, amplitude_std=None, phase_std_rad=None).save(tmp_path)
    assert set(asked) - set(plain) >= {"uncertainty.png", "amplitude.tif", "reconstruction.mat"}
    assert {path.name for path in tmp_path.iterdir()} == {*plain, "notes.txt"}


class Stop(Callback):
    """Ask for the end at once."""

    def should_stop(self) -> bool:
        return True


def test_stopped_on_the_way_the_result_is_as_it_was(bright: tuple[SimulatedScan, Reconstruction]) -> None:
    made, known = bright
    result = replace(known, amplitude_std=None, phase_std_rad=None)
    stopped = with_uncertainty(made.scan, result, execution=NUMPY, callbacks=(Stop(),))
    assert stopped.amplitude_std is None
    np.testing.assert_array_equal(stopped.object, result.object)
    assert "stopped" in stopped.events[-1].message


def halves_of(scan: Scan) -> _Halves:
    halves = _Halves.of(scan, np.random.default_rng(0))
    assert halves is not None
    return halves


def test_where_frames_hardly_overlap_the_photons_of_each_are_halved() -> None:
    scan = made_with(overlap=0.3, photons=1e4).scan
    halves = halves_of(scan)
    assert halves.of_what == "photons"
    one, other = halves.draw()
    np.testing.assert_array_equal(one.counts() + other.counts(), np.rint(scan.counts()))
    share = one.counts().sum() / scan.counts().sum()
    assert abs(share - 0.5) < 0.01
    again, _ = halves.draw()
    assert not np.array_equal(one.counts(), again.counts())


def test_halves_of_the_frames_are_drawn_anew() -> None:
    scan = made_with().scan
    halves = halves_of(scan)
    assert halves.of_what == "frames"
    firsts = []
    for _ in range(3):
        one, other = halves.draw()
        assert one.n_frames + other.n_frames == scan.n_frames
        assert abs(one.n_frames - other.n_frames) <= 10
        firsts.append(one.positions_px)
    assert not np.array_equal(firsts[0], firsts[1])


def test_without_overlap_and_without_counts_nothing_is_told_and_nothing_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = made_with(overlap=0.3, frames=40)
    amplitudes = made.scan.amplitude() * 0.37
    scan = scan_from_arrays(
        amplitudes, made.scan.positions_px, made.scan.probe, measurement="amplitude", dc="center"
    )
    assert _Halves.of(scan, np.random.default_rng(0)) is None
    result = solve(scan, execution=NUMPY)
    with caplog.at_level("WARNING", "ptycho"):
        told = with_uncertainty(scan, result, execution=NUMPY)
    assert "--counts-per-photon" in told.events[-1].message
    assert told.events[-1].message in caplog.text
    assert told.amplitude_std is None
    np.testing.assert_array_equal(told.object, result.object)


def test_a_result_that_is_read_back_still_knows_its_uncertainty(
    bright: tuple[SimulatedScan, Reconstruction], tmp_path: Path
) -> None:
    _, result = bright
    result.save_arrays(tmp_path)
    known, again = result.uncertainty(), Reconstruction.load(tmp_path).uncertainty()
    assert known is not None
    assert again is not None
    for key in ("median_amplitude", "median_phase_rad"):
        assert again[key] == known[key] > 0


def test_every_file_that_is_written_on_request_is_known() -> None:
    pictures = {*FIGURE_FILES, UNCERTAINTY_FILE, UNWRAPPED_FILE, POSITIONS_FILE}
    assert {*FILES_ON_REQUEST} == pictures | {*TIFF_FILES, MATLAB_FILE}


def test_no_image_has_no_uncertainty() -> None:
    made = made_with(frames=20)
    result = replace(solve(made.scan, execution=NUMPY), dose_carries_image=False)
    told = with_uncertainty(made.scan, result, execution=NUMPY)
    assert told.amplitude_std is None
    assert "no image" in told.events[-1].message
