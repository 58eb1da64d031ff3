"""Pixels that are no data are found, with the reason, and nothing else is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ptycho_core import scan_from_arrays
from ptycho_core.scan.bad_pixels import screen_pixels, wrapped_around
from ptycho_core.scan.bad_values import find_bad_values
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


# Hot pixels


@pytest.mark.parametrize("amplitude", [False, True])
def test_noisy_hot_pixels_are_found_anywhere_but_in_the_beam(counts: np.ndarray, amplitude: bool) -> None:
    rng = np.random.default_rng(4)
    pattern = counts.mean(axis=0)
    places = [(0, 1), (2, 30), (4, 4), (4, 5), (27, 8), (31, 31)]
    frames = np.random.default_rng(5).poisson(pattern / 10, counts.shape).astype("u4")
    for y, x in places:
        frames[:, y, x] += rng.poisson(3000, len(frames)).astype("u4")
    found = screened(np.sqrt(frames).astype("f4") if amplitude else frames)
    assert set(found) == {"hot"}
    np.testing.assert_array_equal(np.argwhere(found["hot"]), sorted(places))


def test_pixels_that_flicker_are_found(counts: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    frames = counts.astype("u4")
    frames[:, 2, 3] = rng.choice([0, 8000], len(frames))
    frames[:, 29, 20] = rng.integers(0, 20000, len(frames))
    frames[[3, 8, 20], 27, 3] += 20000
    pixels = np.logical_or.reduce(list(screened(frames).values()))
    np.testing.assert_array_equal(np.argwhere(pixels), [[2, 3], [27, 3], [29, 20]])


@pytest.mark.parametrize(
    "beam", [np.s_[16:17, 16:17], np.s_[15:17, 16:18], np.s_[18:19, 13:14], np.s_[15, 14:18]]
)
@pytest.mark.parametrize("corner", [False, True])
def test_an_unscattered_beam_of_few_pixels_is_none(beam: tuple, corner: bool) -> None:
    y, x = np.mgrid[-16:16, -16:16]
    pattern = 0.5 * np.exp(-(y**2 + x**2) / 50.0)
    pattern[beam] = 5000
    pattern = np.fft.ifftshift(pattern) if corner else pattern
    frames = np.random.default_rng(0).poisson(pattern, (30, 32, 32)).astype("u4")
    assert screened(frames) == {}


def test_a_detector_with_many_hot_pixels_is_searched_for_more() -> None:
    rng = np.random.default_rng(6)
    y, x = np.mgrid[-32:32, -32:32]
    pattern = np.where(np.hypot(y, x) < 8, 5000.0, 5 * np.exp(-(y**2 + x**2) / 400.0))
    frames = rng.poisson(pattern, (40, 64, 64)).astype("u4")
    hot = (rng.random((64, 64)) < 0.05) & (np.hypot(y, x) > 3)
    hot[3:5, 3:5] = True
    n_hot = np.count_nonzero(hot)
    frames[:, hot] += rng.poisson(rng.uniform(1500, 4000, n_hot), (40, n_hot)).astype("u4")
    pixels = np.logical_or.reduce(list(screened(frames).values()))
    assert np.count_nonzero(hot & ~pixels) <= 0.04 * n_hot  # clusters at the edge of the light
    assert np.count_nonzero(pixels & ~hot) <= 2


# Marks


@pytest.mark.parametrize("value", [-1, -1e30])
@pytest.mark.parametrize("kind", ["whole", "amplitude", "at most 1"])
def test_one_negative_value_in_all_frames_is_a_mark_in_floats_too(
    counts: np.ndarray, kind: str, value: float
) -> None:
    frames = (counts if kind == "whole" else np.sqrt(counts)).astype("f4")
    frames /= frames.max() if kind == "at most 1" else 1
    frames[:, 20] = value
    y, x = np.mgrid[:8, :5].reshape(2, -1) * 3.0
    with pytest.warns(UserWarning, match="32 negative, the mark of a masked pixel"):
        scan = scan_from_arrays(frames, np.stack([y, x], 1), dc="center")
    assert scan.measurement == ("counts" if kind == "whole" else "amplitude")
    assert scan.bad_pixels is not None
    np.testing.assert_array_equal(np.flatnonzero(scan.bad_pixels.any(axis=1)), [20])


def test_noise_below_zero_is_no_mark(counts: np.ndarray) -> None:
    frames = np.random.default_rng(1).normal(-3, 2, counts.shape).round().astype("i4") + counts
    assert not any("negative" in reason for reason in screened(frames))


def test_a_mark_in_some_frames_is_left_out_there(counts: np.ndarray) -> None:
    frames = counts.astype("i4") + 20
    frames[5:9, 10:12] = -1
    (values,) = find_bad_values(frames, survey_frames(frames)).values()
    np.testing.assert_array_equal(values, frames < 0)


@pytest.mark.parametrize("dark", [1, 2])
def test_a_dark_level_that_was_taken_off_leaves_no_marks(dark: int) -> None:
    rng = np.random.default_rng(3)
    frames = rng.poisson(rng.exponential(15, (60, 32, 32))).astype("i4") - dark
    assert find_bad_values(frames, survey_frames(frames)) == {}


# Shadows


@pytest.mark.parametrize("arm", [np.s_[:16, 15:18], np.s_[15:17, :], "diagonal"])
@pytest.mark.parametrize("corner", [False, True])
def test_a_stop_whose_arm_reaches_the_edge_is_found(counts: np.ndarray, arm: object, corner: bool) -> None:
    y, x = np.mgrid[:32, :32]
    stop = np.hypot(y - 16, x - 16) < 4
    if arm == "diagonal":
        stop |= (abs(y - x) < 2) & (y < 16)
    else:
        stop[arm] = True  # type: ignore[index]
    frames = counts.astype("u4")
    frames[:, stop] = 0
    (mask,) = screened(np.fft.ifftshift(frames, axes=(1, 2)) if corner else frames).values()
    expected = np.fft.ifftshift(stop) if corner else stop
    assert not (mask & ~expected).any()
    assert mask.sum() > 0.8 * expected.sum()


# Saturation


@pytest.mark.parametrize(("limit", "dtype"), [(255, "u1"), (1000, "u2"), (4095, "f4"), (40.5, "f4")])
def test_values_that_end_at_one_limit_are_saturated(counts: np.ndarray, limit: float, dtype: str) -> None:
    # As strong in each frame as its intensity, so that a pixel is at the limit in some of them.
    light = np.random.default_rng(1).uniform(0.5, 1.3, len(counts))[:, None, None] * counts.mean(axis=0)
    frames = np.random.default_rng(2).poisson(light * (1.2 * int(limit) / 300)).astype(float)
    frames = frames + (0.5 if limit % 1 else 0)
    clipped = np.minimum(frames, limit).astype(dtype)
    (found,) = find_bad_values(clipped, survey_frames(clipped, measurement="counts")).items()
    assert f"at {limit:g}" in found[0]
    np.testing.assert_array_equal(found[1], frames >= limit)


def test_saturated_values_are_left_out_of_their_frames_only(counts: np.ndarray) -> None:
    clipped = np.minimum(counts, 250).astype("u2")
    y, x = np.mgrid[:8, :5].reshape(2, -1) * 3.0
    with pytest.warns(UserWarning, match=r"saturated in some frames \(at 250\), in \d+ frames"):
        scan = scan_from_arrays(clipped, np.stack([y, x], 1), dc="center")
    assert scan.bad_pixels is not None
    np.testing.assert_array_equal(scan.bad_pixels, counts >= 250)


def test_largest_values_that_no_limit_cuts_are_data(counts: np.ndarray) -> None:
    single = np.random.default_rng(0).poisson(0.05, counts.shape).astype("u2")
    coarse = (np.random.default_rng(0).poisson(0.3, counts.shape) * 40).astype("u2")
    scaled = (counts / counts.max(axis=(1, 2), keepdims=True)).astype("f4")
    shut = counts.astype("u2")
    shut[3] = 65535
    for frames in (counts, single, coarse, scaled, shut, np.tile(counts, (12, 1, 1))):
        assert find_bad_values(frames, survey_frames(frames)) == {}
