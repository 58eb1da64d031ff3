"""A probe that drifts while the scan is taken (OPR): image, verdict and files know of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import DataError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, scan_from_arrays, solve
from ptycho_core.metrics import compare
from ptycho_core.physics.residual import data_residual
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.simulate.scan import expected_intensity

NUMPY = SolverExecutionConfig(arrays="numpy")
TILT_PX = 0.8


def tilting(*, shuffled: bool = False) -> tuple[SimulatedScan, Scan]:
    """A scan whose beam tilts by so many detector pixels from begin to end, or from frame to frame."""
    made = simulate_scan(frames=90, frame_px=48, photons=1e6, modes=2, start_kind="true", seed=4)
    random, n = np.random.default_rng(4), made.scan.frame_px
    drift = np.linspace(-0.5, 0.5, made.scan.n_frames)
    drift = random.permutation(drift) if shuffled else drift
    along = (np.arange(n) - n / 2) / n
    counts = np.empty((made.scan.n_frames, n, n), np.uint32)
    for frame, tilt in enumerate(TILT_PX * drift):
        probe = (made.probe * np.exp(2j * np.pi * tilt * along)).astype(np.complex64)
        position = made.scan.positions_px[frame : frame + 1]
        counts[frame] = random.poisson(expected_intensity(made.obj, probe, position)[0])
    given = made.scan
    scan = scan_from_arrays(
        counts, given.positions_px, given.probe, measurement="counts", dc="center", bad_frames="off"
    )
    return made, scan


@pytest.fixture(scope="module")
def drifted() -> tuple[SimulatedScan, Scan, Reconstruction]:
    made, scan = tilting()
    return made, scan, solve(scan, SolverConfig(probe_variations=2, prior="none"), NUMPY)


def object_error(result: Reconstruction, made: SimulatedScan) -> float:
    return compare(result, made.obj.astype(np.complex64)).values["object_error"]


def test_a_drift_of_the_beam_does_not_become_a_slope_of_the_image(drifted) -> None:
    made, scan, result = drifted
    without = solve(scan, SolverConfig(prior="none"), NUMPY)
    assert object_error(result, made) < 0.5 * object_error(without, made)


def test_beams_that_differ_from_frame_to_frame_are_found_too() -> None:
    made, scan = tilting(shuffled=True)
    without, result = (
        solve(scan, SolverConfig(probe_variations=count, prior="none"), NUMPY) for count in (0, 2)
    )
    assert result.data_residual < 0.9 * without.data_residual
    assert object_error(result, made) < object_error(without, made)


def test_residual_and_verdict_are_those_of_the_probe_of_each_frame(drifted) -> None:
    _, scan, result = drifted
    assert result.verdict is not None
    assert result.verdict.measures["unexplained"] < 0.05
    where = result.positions_on_canvas_px()
    shared = data_residual(result.object, result.probe, where, scan)
    own = data_residual(result.object, result.probe, where, scan, variations=result.variations)
    assert own.value == pytest.approx(result.data_residual, rel=1e-5)
    assert own.value < 0.8 * shared.value
    bilinear = data_residual(
        *(result.object, result.probe, where, scan), subpixel="object_bilinear", variations=result.variations
    )
    assert bilinear.value < 0.9 * shared.value


def test_files_keep_how_the_probe_varies(drifted, tmp_path: Path) -> None:
    result = drifted[2]
    result.save(tmp_path)
    again = Reconstruction.load(tmp_path)
    assert again.variations is not None
    np.testing.assert_array_equal(again.probe_variations, result.probe_variations)
    np.testing.assert_array_equal(again.variation_weights, result.variation_weights)


def test_weights_without_variations_are_refused(drifted, tmp_path: Path) -> None:
    replace(drifted[2], probe_variations=None).save(tmp_path)
    with pytest.raises(DataError, match="only together"):
        Reconstruction.load(tmp_path / "reconstruction.npz")


def test_weights_do_not_depend_on_which_mode_comes_first(drifted) -> None:
    """Modes are sorted by power; what frames add to each is sorted with it."""
    result = drifted[2]
    power = np.square(np.abs(result.probe)).sum(axis=(1, 2))
    assert (np.diff(power) <= 0).all()
    assert result.variations is not None
    assert result.variations.shapes.shape[:2] == (len(result.probe), 2)


def test_the_product_file_keeps_how_the_probe_varies(drifted, tmp_path: Path) -> None:
    result = drifted[2]
    result.save(tmp_path)
    again = Reconstruction.load(tmp_path / "reconstruction.h5")
    np.testing.assert_allclose(again.probe_variations, result.probe_variations, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again.variation_weights, result.variation_weights, atol=1e-9)


def test_a_run_goes_on_with_the_variations_of_an_earlier_result(drifted) -> None:
    _, scan, result = drifted
    config = SolverConfig(probe_variations=2, prior="none", epochs=1)
    again = solve(scan, config, NUMPY, start=result)
    without = replace(result, probe_variations=None, variation_weights=None)
    anew = solve(scan, config, NUMPY, start=without)
    # Whoever goes on begins with long steps, which cost a tenth of the residual without OPR too.
    assert again.history[0]["residual"] < 1.2 * result.history[-1]["residual"]
    assert again.history[0]["residual"] < 0.9 * anew.history[0]["residual"]
    (told,) = (event.message for event in again.events if event.kind == "taken_up")
    assert told == "Taken up of the result to start from: 2 of 2 OPR modes, with their weights."
    assert not [event for event in anew.events if event.kind == "taken_up"]


#: Steps so small that the first epoch measures what a run begins with.
AT_REST = SolverConfig(probe_variations=2, prior="none", epochs=1, object_step=1e-6, probe_step=0)


def test_a_run_begins_where_the_result_ended(drifted) -> None:
    _, scan, result = drifted
    again = solve(scan, AT_REST, NUMPY, start=result)
    assert again.history[0]["residual"] <= result.history[-1]["residual"]
    assert again.data_residual == pytest.approx(result.data_residual, rel=1e-3)


def test_a_run_begins_where_a_product_file_ended(drifted, tmp_path: Path) -> None:
    """Of another program too, which counts from another origin and gives its modes another size."""
    _, scan, result = drifted
    result.save(tmp_path, figures=False)
    product = Reconstruction.load(tmp_path / "reconstruction.h5")
    assert product.probe_variations is not None
    assert product.variation_weights is not None
    apart_px = np.array([40.25, -13.5])
    theirs = replace(
        product,
        probe=7 * product.probe,
        probe_variations=7e3 * product.probe_variations,
        variation_weights=1e-3 * product.variation_weights,
        positions_px=product.positions_px + apart_px,
        origin_px=product.origin_px + apart_px,
    )
    for start in (product, theirs):
        again = solve(scan, AT_REST, NUMPY, start=start)
        assert again.history[0]["residual"] <= result.history[-1]["residual"]
        assert again.data_residual == pytest.approx(result.data_residual, rel=1e-3)


def test_a_run_with_more_modes_and_variations_takes_up_what_there_is(drifted) -> None:
    _, scan, result = drifted
    config = SolverConfig(probe_variations=3, probe_modes=2, prior="none", epochs=1)
    more = solve(scan, config, NUMPY, start=result)
    assert more.probe_variations is not None
    assert more.probe_variations.shape[:2] == (2, 3)
    fewer = solve(scan, SolverConfig(probe_variations=1, prior="none", epochs=1), NUMPY, start=result)
    (told,) = (event.message for event in fewer.events if event.kind == "taken_up")
    assert told.endswith("1 of 2 OPR modes, with their weights.")
    (lost,) = (event.message for event in fewer.events if event.kind == "not_taken_up")
    assert "has 2 OPR modes and this run looks for 1" in lost
    assert "`--opr-modes 2`" in lost


def test_what_a_run_does_not_take_up_is_said(drifted) -> None:
    _, scan, result = drifted
    left = solve(scan, SolverConfig(prior="none", epochs=1), NUMPY, start=result)
    (told,) = (event.message for event in left.events if event.kind == "not_taken_up")
    assert "`--opr-modes`" in told
    some = scan.select(slice(0, 60))
    config = SolverConfig(probe_variations=2, prior="none", epochs=1)
    (told,) = (
        event.message
        for event in solve(some, config, NUMPY, start=result).events
        if event.kind == "not_taken_up"
    )
    assert "has 90 frames" in told
    assert "60 frames of this scan" in told


def test_frames_are_known_by_their_places(drifted) -> None:
    _, scan, result = drifted
    config = SolverConfig(probe_variations=2, prior="none", epochs=1)
    random = np.random.default_rng(3)
    shaken = scan.moved_to(scan.positions_px + random.normal(scale=0.3, size=scan.positions_px.shape))
    turned = scan.moved_to(scan.positions_px[::-1].copy())
    kinds = [
        {event.kind for event in solve(one, config, NUMPY, start=result).events} for one in (shaken, turned)
    ]
    assert "taken_up" in kinds[0]
    assert "not_taken_up" not in kinds[0]
    assert "not_taken_up" in kinds[1]


def test_a_run_goes_on_with_the_intensities_of_an_earlier_result() -> None:
    made = simulate_scan(frames=60, frame_px=32, photons=1e6, start_kind="true", seed=5)
    intensity = np.random.default_rng(5).uniform(0.5, 1.5, made.scan.n_frames)
    counts = np.rint(made.scan.counts() * intensity[:, None, None])
    scan = scan_from_arrays(
        *(counts, made.scan.positions_px, made.scan.probe),
        measurement="counts",
        dc="center",
        bad_frames="off",
    )
    result = solve(scan, SolverConfig(frame_intensity=True, prior="none"), NUMPY)
    config = SolverConfig(frame_intensity=True, prior="none", epochs=1)
    again = solve(scan, config, NUMPY, start=result)
    assert again.history[0]["residual"] < 1.2 * result.history[-1]["residual"]
    np.testing.assert_allclose(again.frame_intensity, result.frame_intensity, rtol=0.1)
    assert any(event.kind == "taken_up" for event in again.events)
