"""A scan gives what it holds as float32, centred, in pieces, and reads its frames no more than needed."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import DataError
from ptycho_core import Scan, open_scan, save_scan, scan_from_arrays
from ptycho_core.scan import scan as scan_module
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.survey import survey_frames

N_FRAMES, N = 10, 8


def make_scan(
    dtype: str = "uint16", *, corner: bool = False, mask: str = "none", amplitude: bool = False
) -> Scan:
    rng = np.random.default_rng(4)
    frames = rng.integers(0, 500, size=(N_FRAMES, N, N)).astype(dtype)
    shape = {"none": None, "one": (N, N), "per frame": (N_FRAMES, N, N)}[mask]
    return scan_from_arrays(
        frames,
        np.stack(np.divmod(np.arange(N_FRAMES), 4), axis=1) * 1.5,
        np.ones((N, N)),
        measurement="amplitude" if amplitude else "counts",
        dc="corner" if corner else "center",
        bad_pixels=None if shape is None else rng.random(shape) < 0.2,
    )


def reference_counts(scan: Scan, frame: int) -> np.ndarray:
    """One frame, slowly and plainly."""
    values = scan.frames[frame].astype(np.float64)
    if scan.dc == "corner":
        values = np.fft.fftshift(values)
    if scan.measurement == "amplitude":
        values = values**2
    if scan.bad_pixels is not None:
        values[scan.bad_pixels if scan.bad_pixels.ndim == 2 else scan.bad_pixels[frame]] = 0
    return values


KINDS = {
    "dtype": st.sampled_from(["uint16", "int32", "float32", "float64", ">f4"]),
    "corner": st.booleans(),
    "mask": st.sampled_from(["none", "one", "per frame"]),
    "amplitude": st.booleans(),
}


@settings(max_examples=40, deadline=None)
@given(**KINDS, indices=st.lists(st.integers(-N_FRAMES, N_FRAMES - 1), min_size=1, max_size=12))
def test_any_frames_come_as_the_reference_says(
    dtype: str, corner: bool, mask: str, amplitude: bool, indices: list[int]
) -> None:
    scan = make_scan(dtype, corner=corner, mask=mask, amplitude=amplitude)
    expected = np.stack([reference_counts(scan, frame) for frame in indices])
    counts = scan.counts(np.array(indices))
    assert counts.dtype == np.float32
    np.testing.assert_allclose(counts, expected, rtol=1e-6)
    np.testing.assert_allclose(scan.amplitude(indices), np.sqrt(expected), rtol=1e-6)
    good = np.broadcast_to(scan.good_pixels(indices), counts.shape)
    assert (counts[~good] == 0).all()


@settings(max_examples=40, deadline=None)
@given(**KINDS)
def test_sums_agree_with_the_reference(dtype: str, corner: bool, mask: str, amplitude: bool) -> None:
    scan = make_scan(dtype, corner=corner, mask=mask, amplitude=amplitude)
    expected = np.stack([reference_counts(scan, frame) for frame in range(N_FRAMES)])
    good = np.broadcast_to(scan.good_pixels(), expected.shape)
    np.testing.assert_allclose(scan.counts_per_frame(), expected.sum(axis=(1, 2)))
    assert scan.mean_counts_per_frame() == pytest.approx(expected.sum(axis=(1, 2)).mean())
    np.testing.assert_allclose(scan.mean_pattern(), expected.sum(axis=0) / np.maximum(good.sum(axis=0), 1))


@settings(max_examples=40, deadline=None)
@given(
    **KINDS,
    indices=st.one_of(
        st.builds(slice, st.integers(0, 4), st.integers(5, 10), st.integers(1, 3)),
        st.lists(st.integers(0, N_FRAMES - 1), min_size=1, max_size=9).map(np.array),
        st.just(np.arange(0, 10, 3)),
        st.none(),
    ),
)
def test_a_selection_is_the_scan_of_these_frames(
    dtype: str, corner: bool, mask: str, amplitude: bool, indices: slice | np.ndarray | None
) -> None:
    scan = make_scan(dtype, corner=corner, mask=mask, amplitude=amplitude)
    chosen = scan.select(indices)
    key = slice(None) if indices is None else indices
    np.testing.assert_array_equal(chosen.counts(), scan.counts(key))
    np.testing.assert_array_equal(chosen.positions_px, scan.positions_px[key])
    np.testing.assert_allclose(chosen.counts_per_frame(), scan.counts_per_frame()[key])
    np.testing.assert_array_equal(chosen.good_pixels(), scan.good_pixels(key))


def test_evenly_spaced_selections_share_memory() -> None:
    scan = make_scan()
    for indices in (slice(2, 9), slice(None, None, 3), np.arange(1, 10, 2), [4]):
        assert np.shares_memory(scan.select(indices).frames, scan.frames)
    assert not np.shares_memory(scan.select([5, 1]).frames, scan.frames)


def test_a_selection_by_truth_values_is_one_by_number() -> None:
    scan = make_scan()
    truth = np.arange(N_FRAMES) % 3 == 1
    np.testing.assert_array_equal(scan.select(truth).frames, scan.frames[truth])


def test_a_changed_copy_counts_afresh() -> None:
    scan = make_scan()
    doubled = replace(scan, frames=scan.frames * 2)
    assert doubled.mean_counts_per_frame() == pytest.approx(2 * scan.mean_counts_per_frame())


def test_a_scan_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        make_scan().name = "other"  # type: ignore[misc]


def test_arrays_in_memory_are_checked_like_files() -> None:
    with pytest.raises(DataError, match=r"DATA-001: mine: the probe is 16 x 16"):
        scan_from_arrays(np.ones((4, 8, 8)), np.arange(8).reshape(4, 2), np.ones((16, 16)), name="mine")


def test_arrays_in_memory_may_come_without_a_probe() -> None:
    scan = make_scan()
    assert scan_from_arrays(scan.frames, scan.positions_px).probe_source == "estimated"


def test_pixel_centre_positions_move_by_half_a_pixel() -> None:
    scan = make_scan()
    moved = scan_from_arrays(scan.frames, scan.positions_px, scan.probe, position_convention="center")
    np.testing.assert_array_equal(moved.positions_px, scan.positions_px + 0.5)


def test_opening_a_long_scan_needs_little_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.poisson(4, size=(6000, 64, 64)).astype(np.uint8)
    positions_px = np.stack(np.divmod(np.arange(6000), 80), axis=1) * 4.0
    path = save_scan(scan_from_arrays(frames, positions_px, np.ones((64, 64))), tmp_path / "long.npz")
    expected = frames.sum(axis=(1, 2)).mean()
    stored_bytes = frames.nbytes
    del frames
    tracemalloc.start()
    try:
        scan = open_scan(path)
        scan.mean_pattern()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Chunks of 4 MiB as stored are 16 MiB in float32, and some of their sums and squares live beside them.
    assert stored_bytes > 24_000_000
    assert peak < 64 << 20
    assert isinstance(scan.frames, LazyFrames)
    assert scan.mean_counts_per_frame() == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(step=st.integers(1, 7), fraction_in=st.integers(-1, N_FRAMES - 1))
def test_the_survey_does_not_depend_on_its_chunks(step: int, fraction_in: int) -> None:
    frames = np.random.default_rng(1).integers(0, 50, size=(N_FRAMES, N, N)).astype(np.float32)
    if fraction_in >= 0:
        frames[fraction_in, 2, 2] = 0.25
    frames[3, 1, 1] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptycho_core.scan.survey.CHUNK_BYTES", step * N * N * 4)
        found = survey_frames(frames)
    values = np.nan_to_num(frames.astype(np.float64))
    counts = values if fraction_in < 0 else values**2
    assert found.measurement == ("counts" if fraction_in < 0 else "amplitude")
    np.testing.assert_allclose(found.counts_sum, counts.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.counts_per_frame, counts.sum(axis=(1, 2)), rtol=1e-6)
    assert found.n_nan == 1
    assert found.nan_ever is not None
    assert found.nan_ever[1, 1]
    assert found.nan_always is not None
    assert not found.nan_always.any()


@pytest.mark.parametrize("module", ["scan", "datasets", "io", "io.door", "io.writes", "io.product", "survey"])
def test_each_module_can_be_the_first_one_imported(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import ptycho_core.{module}"], check=True)


def test_frames_that_are_moved_are_not_read_again(simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = simulated(frames=9, frame_px=32).scan
    counts = scan.counts_per_frame()
    monkeypatch.setattr(scan_module, "survey_frames", lambda *_, **__: pytest.fail("read again"))
    moved = scan.moved_to(scan.positions_px + 1)
    np.testing.assert_array_equal(moved.counts_per_frame(), counts)
    np.testing.assert_array_equal(moved.positions_px, scan.positions_px + 1)


def test_some_of_a_billion_frames_are_chosen_without_a_list_of_all() -> None:
    class Endless:
        shape, dtype = (10**9, 4, 4), np.dtype(np.uint16)

        def frames_first(self) -> Endless:
            return self

        def read(self, chosen: np.ndarray) -> np.ndarray:
            return np.broadcast_to((chosen % 7).astype(np.uint16)[:, None, None], (chosen.size, 4, 4)).copy()

    frames = LazyFrames(Endless())
    tracemalloc.start()
    try:
        assert frames[np.array([9, 5, -1])][:, 0, 0].tolist() == [2, 5, (10**9 - 1) % 7]
        assert frames[3:9:2][:, 0, 0].tolist() == [3, 5, 0]
        assert frames.select(slice(10**9 - 2, None)).shape == (2, 4, 4)
        with pytest.raises(IndexError, match="out of bounds"):
            frames[np.array([10**9])]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
