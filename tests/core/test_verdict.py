"""The verdict follows what is known of a result: right readings are good, wrong ones are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, scan_from_arrays, solve
from ptycho_core.metrics import compare
from ptycho_core.physics.residual import data_residual
from ptycho_core.result.judgement import AGREE, decide
from ptycho_core.result.measures import noise_of_amplitude
from ptycho_core.result.verdict import Verdict
from ptycho_core.simulate import SimulatedScan, simulate_scan
from ptycho_core.simulate.scan import expected_intensity
from ptycho_core.verdict import judged
from ptycho_core.verdict.halves import agreement_of_halves

NUMPY = SolverExecutionConfig(arrays="numpy", threads=1)
GOOD = {"unexplained": 0.01, "over_noise": 1.05, "uneven": 1.2, "overlap": 0.7, "halves_agree": 0.97}
GOOD |= {"halves_agree_coarsely": 0.98, "resolution_px": 2.4}


@pytest.fixture(scope="module")
def made() -> SimulatedScan:
    return simulate_scan(frames=80, frame_px=48, overlap=0.7, photons=1e6, seed=0)


def verdict_of(scan: Scan):
    return judged(scan, solve(scan, execution=NUMPY), execution=NUMPY)


def turned(scan: Scan) -> Scan:
    return replace(scan, positions_px=np.ascontiguousarray(scan.positions_px[:, ::-1]))


def in_the_corner(scan: Scan) -> Scan:
    return replace(scan, dc="corner")


def shuffled(scan: Scan) -> Scan:
    order = np.random.default_rng(0).permutation(scan.n_frames)
    return replace(scan, positions_px=scan.positions_px[order])


def too_small(scan: Scan) -> Scan:
    return replace(scan, positions_px=scan.positions_px * 0.7)


def test_a_right_reading_is_good_and_says_how_far_it_goes(made: SimulatedScan) -> None:
    result = verdict_of(made.scan)
    assert result.verdict is not None
    assert result.verdict.grade == "good", result.verdict
    assert result.image_reliable
    assert "agree down to a period of" in str(result.verdict)
    assert result.verdict.measures["over_noise"] < 1.3
    rings = {len(curve) for curve in result.verdict.curves.values()}
    assert set(result.verdict.curves) == {"correlation", "half_bit", "one_bit"}
    assert len(rings) == 1


@pytest.mark.parametrize("wrong", [turned, in_the_corner, shuffled, too_small])
def test_a_wrong_reading_is_not_good(made: SimulatedScan, wrong) -> None:
    result = verdict_of(wrong(made.scan))
    assert result.verdict is not None
    assert result.verdict.grade != "good"
    assert not result.image_reliable
    assert result.verdict.reasons


def test_every_result_has_a_verdict_and_it_survives_the_file(made: SimulatedScan, tmp_path) -> None:
    result = solve(made.scan, SolverConfig(effort="fast"), NUMPY)
    assert result.verdict is not None
    record = result.run_record()["verdict"]
    assert record["grade"] == result.verdict.grade
    assert record["measures"]["unexplained"] == pytest.approx(result.verdict.measures["unexplained"])
    result.save(tmp_path, figures=False)
    again = Reconstruction.load(tmp_path)
    assert again.image_reliable == result.image_reliable
    assert again.verdict is not None
    assert (again.verdict.grade, again.verdict.reasons) == (result.verdict.grade, result.verdict.reasons)
    assert again.verdict.measures == pytest.approx(dict(result.verdict.measures))


def test_a_beam_that_fades_is_judged_with_the_intensities_found() -> None:
    made = simulate_scan(frames=100, frame_px=48, overlap=0.7, photons=1e6, seed=0)
    random, bright = np.random.default_rng(1), np.linspace(1, 0.2, 100)
    light = expected_intensity(made.obj, made.probe, made.scan.positions_px).astype(np.float64)
    counts = random.poisson(light * bright[:, None, None]).astype(np.float32)
    scan = replace(made.scan, frames=counts)
    result = judged(scan, solve(scan, SolverConfig(frame_intensity=True), NUMPY), execution=NUMPY)
    assert result.verdict is not None
    assert result.verdict.grade == "good", result.verdict
    assert result.verdict.measures["over_noise"] < 1.5
    doubted = solve(scan, SolverConfig(prior="none"), NUMPY).verdict
    assert doubted is not None
    assert doubted.grade != "good"
    # Whoever predicts frames of equal intensity does not explain them.
    on_canvas = result.positions_on_canvas_px()
    equal = data_residual(result.object, result.probe, on_canvas, scan)
    found = data_residual(
        result.object, result.probe, on_canvas, scan, frame_intensity=result.frame_intensity
    )
    assert found.value == pytest.approx(result.data_residual, rel=1e-4)
    assert found.value < 0.7 * equal.value


@pytest.mark.parametrize("record", [None, 3, {}, {"grade": "best"}, {"grade": "good", "measures": 5}])
def test_what_is_no_verdict_is_none(record: object) -> None:
    assert Verdict.of_record(record) is None


@pytest.mark.parametrize(
    ("changed", "grade", "said"),
    [
        ({}, "good", "two halves of the frames agree down to a period of 2.4 px"),
        ({"unexplained": 0.9, "over_noise": 30.0}, "failed", "hardly better than by their mean"),
        ({"unexplained": 0.4, "halves_agree": 0.3}, "failed", "halves of the frames give different objects"),
        ({"unexplained": 0.015, "halves_agree": 0.3}, "doubtful", "halves of the frames give different"),
        ({"unexplained": 0.015, "halves_agree": 0.7}, "doubtful", "agree badly"),
        ({"unexplained": 0.015, "uneven": 1.6}, "doubtful", "positions that are off"),
        ({"unexplained": 0.005, "uneven": 1.5, "halves_agree": 0.79}, "good", "what can be explained"),
        ({"unexplained": 0.005, "uneven": 1.2, "halves_agree": 0.4}, "good", "what can be explained"),
        ({"unexplained": 0.005, "halves_agree": 0.2}, "doubtful", "give different objects"),
        ({"unexplained": 0.4, "over_noise": 13.0}, "doubtful", "13 times the photon noise"),
        ({"unexplained": 0.15, "halves_agree": 0.9}, "doubtful", "does not reach the photon noise"),
        ({"overlap": 0.28}, "doubtful", "overlap by 28 % only"),
        ({"amplitude_high": 1.9}, "doubtful", "more than a sample can"),
        ({"probe_extent": 0.35}, "doubtful", "fills its window"),
        ({"frames_left_out": 0.2}, "doubtful", "20 % of the frames were left out"),
        ({"bad_pixels": 0.3}, "doubtful", "30 % of the pixels are bad"),
    ],
)
def test_each_measure_has_its_say(changed: dict[str, float], grade: str, said: str) -> None:
    verdict = decide(GOOD | changed, n_frames=100)
    assert verdict.grade == grade
    assert said in str(verdict)


def test_without_halves_the_fit_alone_decides() -> None:
    alone = {name: value for name, value in GOOD.items() if "halves" not in name}
    assert decide(alone, n_frames=100).grade == "good"
    assert decide(alone | {"unexplained": 0.3}, n_frames=100).grade == "doubtful"
    few = decide(alone | {"unexplained": 0.018}, n_frames=20, why_no_halves="20 frames are too few")
    assert few.grade == "doubtful"
    assert "20 frames are too few" in str(few)


def test_a_single_frame_is_undetermined_and_no_photons_are_no_image(made: SimulatedScan) -> None:
    one = made.scan.select([0])
    assert "single frame" in str(solve(one, SolverConfig(effort="fast"), NUMPY).verdict)
    dark = simulate_scan(frames=40, frame_px=32, photons=5.0)
    result = verdict_of(dark.scan)
    assert result.verdict is not None
    assert result.verdict.grade == "failed"
    assert not result.dose_carries_image


def test_dark_counts_change_nothing() -> None:
    """A flat 0.3 counts a pixel, more in all than a tenth of the signal, decide no plan and no verdict."""
    side = 64
    clean = simulate_scan(frames=80, frame_px=side, overlap=0.75, photons=41_000.0, seed=3)
    dark = np.random.default_rng(0).poisson(0.3, clean.scan.frames.shape)
    told = {"measurement": "counts", "dc": "center"}
    dim = scan_from_arrays(clean.scan.counts() + dark, clean.scan.positions_px, clean.scan.probe, **told)
    results = [verdict_of(scan) for scan in (clean.scan, dim)]
    assert [result.verdict.grade for result in results] == ["good", "good"]  # type: ignore[union-attr]
    assert all(result.dose_carries_image for result in results)
    levels = [sorted({row["size_px"] for row in result.history}) for result in results]
    assert levels[0][0] == levels[1][0]
    # Only where they drown what little speckle there is, nothing is fitted any more.
    assert levels[1][-1] in (side, 48)
    truth = clean.obj.astype(np.complex64)
    errors = [compare(result, truth).values["object_error"] for result in results]
    assert errors[1] < 1.15 * errors[0]  # the noise of the dark counts is real
    plain = [solve(scan, SolverConfig(prior="none"), NUMPY) for scan in (clean.scan, dim)]
    without = [compare(result, truth).values["object_error"] for result in plain]
    assert without[1] < 1.1 * without[0]
    assert errors[1] < 0.7 * without[0]


@pytest.mark.parametrize("mean", [0.01, 0.3, 3.0, 30.0, 3000.0])
def test_the_expected_noise_is_that_of_poisson_counts(mean: float) -> None:
    counts = np.random.default_rng(0).poisson(mean, 200_000)
    away = np.abs(np.sqrt(counts) - np.sqrt(mean)).mean()
    assert float(noise_of_amplitude(np.float32([mean]))[0]) == pytest.approx(away, rel=0.03)


def test_halves_that_hardly_overlap_are_compared_with_a_prior() -> None:
    made = simulate_scan(frames=60, frame_px=48, overlap=0.45, photons=1e6, seed=1, object_kind="discs")
    result = solve(made.scan, SolverConfig(), NUMPY)
    without = agreement_of_halves(made.scan, result)
    verdict = judged(made.scan, result).verdict
    assert without is not None
    assert verdict is not None
    with_prior = verdict.curves["correlation"]
    assert without.mean_correlation < AGREE < np.mean(with_prior[1 : len(with_prior) // 2])
    assert compare(result, made.obj.astype(np.complex64)).values["object_error"] < 0.3
    assert verdict.grade == "good", verdict.reasons
