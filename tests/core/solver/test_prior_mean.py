"""An image that is expected: wanted where photons that it has not seen say so, else as if there were none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from ptycho_config.errors import ConfigError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, scan_from_arrays, solve
from ptycho_core.held_out import SHARE
from ptycho_core.metrics import compare
from ptycho_core.result.history import RunEvent
from ptycho_core.simulate import SimulatedScan, simulate_scan

NUMPY = SolverExecutionConfig(arrays="numpy")
ZERO = np.zeros(2)
Image = tuple[np.ndarray, np.ndarray]


@dataclass
class Expected:
    """A prior mean that remembers the scans that it was asked with."""

    image: Callable[[Scan], Image | Reconstruction]

    def __post_init__(self) -> None:
        self.scans: list[Scan] = []

    def __call__(self, scan: Scan) -> Image | Reconstruction:
        self.scans.append(scan)
        return self.image(scan)


@pytest.fixture(scope="module")
def made() -> SimulatedScan:
    return simulate_scan(frames=60, frame_px=32, photons=1e3, seed=0)


@pytest.fixture(scope="module")
def truth(made: SimulatedScan) -> np.ndarray:
    return made.obj.astype(np.complex64)


@pytest.fixture(scope="module")
def alone(made: SimulatedScan) -> Reconstruction:
    return solve(made.scan, SolverConfig(), NUMPY)


@pytest.fixture(scope="module")
def asked(truth: np.ndarray) -> Expected:
    """The true image, and with which scans it was asked for while `followed` was made."""
    return Expected(lambda scan: (truth, ZERO))


@pytest.fixture(scope="module")
def followed(made: SimulatedScan, asked: Expected) -> Reconstruction:
    """The reconstruction that expects the true image."""
    return solve(made.scan, SolverConfig(), NUMPY, prior_mean=asked)


def solved(made: SimulatedScan, image: np.ndarray, origin: np.ndarray = ZERO) -> Reconstruction:
    return solve(made.scan, SolverConfig(), NUMPY, prior_mean=lambda scan: (image, origin))


def error(result: Reconstruction, truth: np.ndarray) -> float:
    return compare(result, truth).values["object_error"]


def said(result: Reconstruction) -> RunEvent:
    (event,) = (event for event in result.events if event.kind == "prior_mean")
    return event


def test_a_true_image_is_followed(truth: np.ndarray, alone: Reconstruction, followed: Reconstruction) -> None:
    assert error(followed, truth) < 0.4 * error(alone, truth)
    told = said(followed)
    assert told.data["strength"] > 0 and told.data["gain"] > 0
    assert "taken, with a strength of" in told.message
    chosen = next(event for event in followed.events if event.kind == "prior")
    assert chosen.data["to_mean"] == told.data["strength"]


def test_an_image_that_is_half_right_is_followed_a_little(
    made: SimulatedScan, truth: np.ndarray, alone: Reconstruction, followed: Reconstruction
) -> None:
    random = np.random.default_rng(0)
    noisy = truth + 0.15 * (random.normal(size=truth.shape) + 1j * random.normal(size=truth.shape))
    result = solved(made, noisy)
    assert error(result, truth) < 0.85 * error(alone, truth)
    assert 0 < said(result).data["strength"] < said(followed).data["strength"]


@pytest.mark.parametrize("kind", ["noise", "another sample", "nothing", "far away"])
def test_nonsense_changes_nothing(
    kind: str, made: SimulatedScan, truth: np.ndarray, alone: Reconstruction
) -> None:
    random, origin = np.random.default_rng(1), ZERO
    image = np.ones_like(truth)
    if kind == "noise":
        image = 1 + 0.3 * (random.normal(size=truth.shape) + 1j * random.normal(size=truth.shape))
    if kind == "another sample":
        image = simulate_scan(frames=60, frame_px=32, photons=1e3, seed=5, object_kind="star").obj
    if kind == "far away":
        image, origin = truth, np.array([1e4, -1e4])
    result = solved(made, image, origin)
    assert said(result).data["strength"] == 0
    assert "not wanted (strength 0)" in said(result).message
    assert np.array_equal(result.object, alone.object) and np.array_equal(result.probe, alone.probe)


@pytest.mark.parametrize("kind", ["phase", "place", "ramp", "canvas", "result"])
def test_what_frames_cannot_tell_of_an_image_does_not_matter(
    kind: str, made: SimulatedScan, truth: np.ndarray, alone: Reconstruction, followed: Reconstruction
) -> None:
    image, origin = truth, ZERO
    if kind == "phase":
        image = truth * 3 * np.exp(2j)
    if kind == "place":
        image = np.roll(truth, (2, -3), (0, 1))
    if kind == "ramp":
        y, x = np.indices(truth.shape)
        image = truth * np.exp(0.05j * y - 0.03j * x)
    if kind == "canvas":  # the same image in the same place, on other pixels
        image, origin = np.pad(truth, ((7, 0), (3, 5)), constant_values=1), np.array([-7.0, -3.0])
    if kind == "result":
        result = solve(made.scan, SolverConfig(), NUMPY, prior_mean=lambda scan: followed)
    else:
        result = solved(made, image, origin)
    assert error(result, truth) < 0.4 * error(alone, truth)
    if kind != "result":  # which has errors of its own
        assert error(result, truth) == pytest.approx(error(followed, truth), rel=0.2)


def test_photons_held_out_are_not_shown(
    made: SimulatedScan, asked: Expected, followed: Reconstruction
) -> None:
    assert said(followed).data["strength"] > 0
    kept, whole = asked.scans
    for scan in asked.scans:
        assert scan.n_frames == made.scan.n_frames
        assert np.array_equal(scan.positions_px, made.scan.positions_px)
        assert np.array_equal(scan.probe, made.scan.probe)
    measured, shown = made.scan.counts(), kept.counts()
    held = measured - shown
    assert np.array_equal(shown, np.rint(shown)) and held.min() >= 0
    assert held.sum() / measured.sum() == pytest.approx(SHARE, rel=0.05)
    assert kept.ground_truth is None and kept.patch_truth is None
    assert np.array_equal(whole.counts(), measured)


def test_an_image_that_is_not_wanted_is_asked_for_once(made: SimulatedScan, truth: np.ndarray) -> None:
    expected = Expected(lambda scan: (np.ones_like(truth), ZERO))
    solve(made.scan, SolverConfig(), NUMPY, prior_mean=expected)
    assert len(expected.scans) == 1


def test_the_same_scan_gives_the_same_image(
    made: SimulatedScan, truth: np.ndarray, followed: Reconstruction
) -> None:
    again = solved(made, truth)
    assert np.array_equal(again.object, followed.object) and np.array_equal(again.probe, followed.probe)


def test_every_array_library_follows_it(
    quick_execution: SolverExecutionConfig, made: SimulatedScan, truth: np.ndarray, alone: Reconstruction
) -> None:
    result = solve(made.scan, SolverConfig(), quick_execution, prior_mean=lambda scan: (truth, ZERO))
    assert error(result, truth) < 0.5 * error(alone, truth)


@pytest.mark.parametrize(
    "settings",
    [
        {"probe_modes": 2},
        pytest.param({"frame_intensity": True}, marks=pytest.mark.slow),
        pytest.param({"refine_positions": True, "epochs": 6}, marks=pytest.mark.slow),
        {"prior": "huber", "prior_strength": 3.0},
        pytest.param({"final_size": 24}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_goes_with_every_option(
    settings: dict[str, object], made: SimulatedScan, truth: np.ndarray
) -> None:
    found = [
        error(solve(made.scan, SolverConfig(**settings), NUMPY, **more), truth)
        for more in ({}, {"prior_mean": lambda scan: (truth, ZERO)})
    ]
    assert found[1] < 0.75 * found[0]


@pytest.mark.parametrize("kind", ["bright", "amplitudes"])
def test_where_no_photons_are_held_out_it_is_not_asked_for(kind: str, truth: np.ndarray) -> None:
    scan = simulate_scan(frames=40, frame_px=32, photons=1e6, seed=0).scan
    if kind == "amplitudes":
        told = {"measurement": "amplitude", "dc": "center"}
        scan = scan_from_arrays(scan.amplitude() * 0.37, scan.positions_px, scan.probe, **told)
    expected = Expected(lambda scan: (truth, ZERO))
    result = solve(scan, SolverConfig(), NUMPY, prior_mean=expected)
    assert not expected.scans
    assert said(result).data["strength"] == 0 and "not asked for (strength 0)" in said(result).message
    assert np.array_equal(result.object, solve(scan, SolverConfig(), NUMPY).object)


def test_a_stop_on_the_way_keeps_an_image(made: SimulatedScan, truth: np.ndarray) -> None:
    result = solve(made.scan, SolverConfig(max_time=1e-3), NUMPY, prior_mean=lambda scan: (truth, ZERO))
    assert result.interrupted and np.isfinite(result.object).all()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "expects a Reconstruction, or an object"),
        ((np.ones((4, 4)),), "has got (4, 4)"),
        ((np.ones(4), ZERO), "has got (4,) and (2,)"),
        ((np.full((9, 9), np.nan), ZERO), "NaN or infinity"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(given: object, expected: str, made: SimulatedScan) -> None:
    with pytest.raises(TypeError) as caught:
        solve(made.scan, SolverConfig(), NUMPY, prior_mean=lambda scan: given)
    text = str(caught.value)
    assert expected in text and "`prior_mean`" in text and "\n" not in text


def test_what_leaves_no_place_for_it_is_refused(
    made: SimulatedScan, truth: np.ndarray, alone: Reconstruction
) -> None:
    def image(scan: Scan) -> Image:
        return truth, ZERO

    with pytest.raises(ConfigError, match="has seen all of them"):
        solve(made.scan, SolverConfig(), NUMPY, start=alone, prior_mean=image)
    for settings in ({"prior": "none"}, {"effort": "fast"}):
        with pytest.raises(ConfigError, match="leaves out"):
            solve(made.scan, SolverConfig(**settings), NUMPY, prior_mean=image)
