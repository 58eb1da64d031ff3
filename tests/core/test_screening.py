"""Pixels that are no data are found, with the reason, and nothing else is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ptycho_core import scan_from_arrays
from ptycho_core.scan.bad_pixels import screen_pixels, wrapped_around
from ptycho_core.scan.survey import survey_frames
from ptycho_core.simulate import PROBE_KINDS, simulate_scan

STOP = np.zeros((32, 32), dtype=bool)
STOP[14:18, 14:18] = True


@pytest.fixture
def counts() -> np.ndarray:
    """Poisson counts (40, 32, 32) under a bright centre."""
    y, x = np.mgrid[-16:16, -16:16]
    return np.random.default_rng(0).poisson(300 * np.exp(-(y**2 + x**2) / 200.0), (40, 32, 32))


def screened(frames: np.ndarray) -> dict[str, np.ndarray]:
    return screen_pixels(survey_frames(frames), frames.dtype)


@pytest.mark.parametrize(
    ("dtype", "value", "reason"),
    [
        ("u4", 2**32 - 1, "limit"),
        ("u2", 65535, "limit"),
        ("i4", -1, "negative"),
        ("i2", -2, "negative"),
        ("u4", 5000, "equal"),
        ("f4", 70000, "equal"),
    ],
)
def test_a_value_that_stands_in_every_frame_is_found(
    counts: np.ndarray, dtype: str, value: int, reason: str
) -> None:
    frames = counts.astype(dtype)
    frames[:, 20:22] = value
    found = screened(frames)
    ((said, mask),) = found.items()
    assert reason in said
    np.testing.assert_array_equal(np.flatnonzero(mask.any(axis=1)), [20, 21])
    assert mask.sum() == 64


def test_hot_dead_stopped_and_struck_pixels_are_found(counts: np.ndarray) -> None:
    frames = counts.astype("u4")
    frames[:, 3, 28] = np.random.default_rng(1).poisson(4000, 40)
    frames[:, STOP] = 0
    frames[7, 25, 9] = 3_000_000_000
    found = {reason.split()[0]: mask for reason, mask in screened(frames).items()}
    assert set(found) == {"hot", "dark", "with"}
    np.testing.assert_array_equal(np.argwhere(found["hot"]), [[3, 28]])
    np.testing.assert_array_equal(np.argwhere(found["with"]), [[25, 9]])
    np.testing.assert_array_equal(found["dark"], STOP)


def test_counts_that_wrapped_around_are_read_as_unsigned(counts: np.ndarray) -> None:
    # Twice as bright again and again, with the noise of single photons each time.
    unsigned = np.random.default_rng(3).poisson(counts.mean(axis=0) * (45000 / counts.max()), counts.shape)
    unsigned = unsigned.astype("u2")
    y, x = np.mgrid[:8, :5].reshape(2, -1) * 3.0
    with pytest.warns(UserWarning, match="wrapped around and are read as uint16"):
        scan = scan_from_arrays(unsigned.view("i2"), np.stack([y, x], 1))
    np.testing.assert_array_equal(scan.frames, unsigned)
    np.testing.assert_allclose(scan.counts_per_frame(), unsigned.sum(axis=(1, 2), dtype=float), rtol=1e-6)


def test_dark_subtracted_counts_are_neither_marks_nor_wrapped(counts: np.ndarray) -> None:
    frames = (counts - 200).astype("i2")
    frames[:, 0, :] = np.random.default_rng(2).integers(-3, 4, (40, 32)) + 1
    survey = survey_frames(frames)
    assert not wrapped_around(survey, frames.dtype)


def test_the_mask_joins_the_scan_with_one_warning(counts: np.ndarray) -> None:
    frames = counts.astype("i4")
    frames[:, 20] = -1
    y, x = np.mgrid[:8, :5].reshape(2, -1) * 3.0
    with pytest.warns(UserWarning, match="32 pixels are left out as bad: 32 negative"):
        scan = scan_from_arrays(frames, np.stack([y, x], 1), dc="center")
    assert scan.bad_pixels is not None
    np.testing.assert_array_equal(np.flatnonzero(scan.bad_pixels.any(axis=1)), [20])
    good = np.delete(frames, 20, axis=1)
    np.testing.assert_allclose(scan.counts_per_frame(), good.sum(axis=(1, 2)))


@pytest.mark.parametrize("photons", [1e2, 1e4, 1e7])
@pytest.mark.parametrize("probe", PROBE_KINDS)
def test_nothing_is_flagged_in_a_sound_scan(probe: str, photons: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scan = simulate_scan(probe_kind=probe, photons=photons, frames=60, frame_px=32).scan  # pyright: ignore[reportArgumentType]
    assert screened(np.round(scan.counts()).astype("u4")) == {}
