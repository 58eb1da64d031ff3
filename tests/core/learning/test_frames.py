"""Frames as a network takes them: gathered batch by batch, thinned where a dimmer scan is learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.learning.frames import Frames
from ptycho_core.learning.order import GroupBatches, Neighbourhoods, Shuffled, batches_of


@pytest.fixture(scope="module")
def scan(simulated) -> Scan:
    return simulated(frames=60, frame_px=32, start_kind="true", seed=2).scan


def test_a_batch_is_the_frames_in_unit_amplitude_and_in_counts(scan: Scan) -> None:
    frames = Frames(scan)
    batch = frames.batch(np.array([7, 3, 7]))
    measured = np.square(scan.amplitude(np.array([7, 3, 7])), dtype=np.float64)
    assert np.allclose(batch.counts, measured, rtol=1e-5, atol=1e-5)
    assert np.allclose(batch.amplitude * frames.intensity_scale, np.sqrt(measured), rtol=1e-5, atol=1e-5)
    energy = np.square(frames.batch(np.arange(60)).amplitude, dtype=np.float64).sum((1, 2)).mean()
    assert energy == pytest.approx((32 / 2) ** 2, rel=1e-5)
    position = batch.corners + batch.rests_px - (batch.corners[1] + batch.rests_px[1])
    given = scan.positions_px[[7, 3, 7]] - scan.positions_px[3]
    assert np.allclose(position, given, atol=1e-5)
    assert batch.good is None
    assert batch.truth is None


def test_bad_pixels_are_dark_and_named(scan: Scan) -> None:
    bad = np.zeros((32, 32), bool)
    bad[4:6] = True
    batch = Frames(replace(scan, bad_pixels=bad)).batch(np.arange(3))
    assert batch.good is not None
    assert np.array_equal(batch.good[0], ~bad)
    assert not batch.counts[:, bad].any()
    assert not batch.amplitude[:, bad].any()


def test_labels_are_the_object_in_the_window_of_each_frame(scan: Scan) -> None:
    batch = Frames(scan, with_truth=True).batch(np.arange(60))
    assert batch.truth is not None
    whole = np.floor(scan.positions_px + 0.5).astype(int) - 16
    truth = np.asarray(scan.ground_truth)
    for patch, (y, x) in zip(batch.truth, whole, strict=True):
        assert np.array_equal(patch, truth[y : y + 32, x : x + 32].astype(np.complex64))


def test_thinned_frames_have_the_statistics_of_a_dim_measurement(scan: Scan) -> None:
    frames = Frames(scan, thin_to=300.0, seed=1)
    batches = [frames.batch(np.arange(60)) for _ in range(20)]
    full = Frames(scan).batch(np.arange(60))
    assert all(np.array_equal(batch.counts, full.counts) for batch in batches)
    seen = np.stack([np.square(batch.amplitude / frames.alpha) for batch in batches])
    dim = seen * (300.0 / frames.mean_counts)  # in thinned counts again
    assert np.allclose(dim, dim.round(), atol=1e-3)
    assert float(dim.sum((2, 3)).mean()) == pytest.approx(300, rel=0.02)
    bright = full.counts.mean(0) > full.counts.mean()
    variance_over_mean = dim.var(0, ddof=1).mean(0)[bright] / dim.mean((0, 1))[bright]
    assert float(variance_over_mean.mean()) == pytest.approx(1, abs=0.1)
    assert not np.array_equal(batches[0].amplitude, batches[1].amplitude)


@given(
    n_items=st.integers(1, 40),
    size=st.integers(1, 5),
    n_ranks=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_an_epoch_shows_every_item_and_every_epoch_has_its_own_order(
    n_items: int, size: int, n_ranks: int, seed: int
) -> None:
    n_batches = -(-n_items // (size * n_ranks))
    orders = [
        Shuffled(n_items, n_batches, size=size, seed=seed, rank=r, n_ranks=n_ranks) for r in range(n_ranks)
    ]
    first = [item for order in orders for batch in order for item in batch]
    assert set(first) == set(range(n_items))
    assert len(first) == n_batches * size * n_ranks
    again = [item for order in orders for batch in order for item in batch]
    for order in orders:
        order.set_epoch(0)
    assert [item for order in orders for batch in order for item in batch] == first
    if n_items > 8:
        assert again != first


def test_batches_are_neighbourhoods_where_frames_must_agree_and_groups_elsewhere(scan: Scan) -> None:
    frames = Frames(scan)
    near, order = batches_of(frames, TrainingConfig(model=ModelConfig(N=32)), seed=0)
    assert isinstance(near, Neighbourhoods)
    assert len(order) == 3
    for chosen in order:
        batch = near[chosen]
        assert len(batch.counts) == 24
        assert np.ptp(batch.corners, axis=0).max() < np.ptp(frames.corners, axis=0).max()
    model = ModelConfig(N=32, architecture="cnn", gridsize=2, overlap_constraint="group")
    groups, order = batches_of(frames, TrainingConfig(model=model, batch_size=1), seed=0)
    assert isinstance(groups, GroupBatches)
    assert len(groups[next(iter(order))].counts) == 4
