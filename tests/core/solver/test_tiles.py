"""Tiles of several ranks: what is computed on them is what one canvas would have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.arrays.numpy_arrays import NumpyArrays
from ptycho_core.ranks import in_threads
from ptycho_core.solver.batches import plan_batches
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import Level
from ptycho_core.solver.posterior import Posterior
from ptycho_core.solver.prior import Prior
from ptycho_core.solver.team import Team
from ptycho_core.solver.tiles import _DARK, Tiles

SIDE, MARGIN = 16, 4


def tiles_of(ranks, positions: np.ndarray) -> tuple[Team, Tiles, np.ndarray]:
    """Cut frames at whole positions, the least of which is (0, 0)."""
    team = Team.of(ranks, positions)
    corners = positions[team.mine(len(positions))].astype(np.int64) + MARGIN
    tiles = Tiles(team, corners, size_px=SIDE, margin_px=MARGIN, to_canvas=lambda px: px + MARGIN)
    return team, tiles, corners


def cut_out(tiles: Tiles, image: np.ndarray) -> np.ndarray:
    rows, columns = (slice(at, at + side) for at, side in zip(tiles.origin, tiles.shape, strict=True))
    return image[rows, columns].copy()


@st.composite
def cut_scans(draw) -> tuple[int, np.ndarray]:
    count, seed = draw(st.integers(1, 7)), draw(st.integers(0, 1000))
    random = np.random.default_rng(seed)
    sides = draw(st.tuples(st.integers(30, 150), st.integers(30, 150)))
    positions = np.floor(random.uniform(0, 1, (draw(st.integers(4 * count, 80)), 2)) * sides)
    return count, positions - positions.min(axis=0)


@given(cut_scans())
def test_every_frame_and_every_pixel_belongs_to_one_rank(case) -> None:
    count, positions = case

    def work(ranks):
        team, tiles, _ = tiles_of(ranks, positions)
        owned = np.zeros(tiles.whole, np.int64)
        cut_out_of = tuple(slice(at, at + side) for at, side in zip(tiles.origin, tiles.shape, strict=True))
        owned[cut_out_of][tiles.mine] = 1
        return team.mine(len(positions)), team.here(positions), ranks.sum(owned), tiles.whole

    found = in_threads(count, work)
    frames = np.concatenate([mine for mine, *_ in found])
    assert np.array_equal(np.sort(frames), np.arange(len(positions)))
    here = np.concatenate([where for _, where, *_ in found])
    assert np.array_equal(np.sort(here), np.arange(len(positions)))
    sizes = [len(mine) for mine, *_ in found]
    assert max(sizes) - min(sizes) <= max(1, count - 1)
    assert np.all(found[0][2] == 1)
    last = positions.max(axis=0) + SIDE + 2 * MARGIN
    assert found[0][3] == (int(last[0]), int(last[1]))


@given(cut_scans())
def test_sums_and_means_over_tiles_are_those_of_one_canvas(case) -> None:
    count, positions = case
    arrays = NumpyArrays(threads=1)

    def work(ranks):
        _, tiles, corners = tiles_of(ranks, positions)
        random = np.random.default_rng(1)
        image = random.normal(size=tiles.whole) + 1j * random.normal(size=tiles.whole)
        image = image.astype(np.complex64)
        light = np.zeros(tiles.shape, np.float32)
        for row, column in corners - tiles.origin:
            light[row : row + SIDE, column : column + SIDE] += 1
        # Each rank is off by its own amount: the mean is off by the mean amount, by the light.
        mine = cut_out(tiles, image) + np.complex64(ranks.rank)
        tiles.averaged(arrays, (mine,), light)
        summed = light.copy()
        tiles.summed(arrays, (summed,))
        owned = np.where(summed > 0, np.float32(ranks.rank), -1).astype(np.float32)
        tiles.as_owned(arrays, (owned,))
        return tiles, mine, light, summed, owned, image

    found = in_threads(count, work)
    whole, image = found[0][0].whole, found[0][5]
    total, weighted, owner, all_counts = (np.zeros(whole) for _ in range(4))
    for rank, (tiles, _, light, *_) in enumerate(found):
        rows, columns = (slice(at, at + side) for at, side in zip(tiles.origin, tiles.shape, strict=True))
        total[rows, columns] += light
        # Every rank counts a little everywhere in its tile, so that nobody divides by 0.
        counts = light.astype(np.float64) + _DARK * light.max()
        all_counts[rows, columns] += counts
        weighted[rows, columns] += rank * counts
        owner[rows, columns][tiles.mine] = rank
    for tiles, mine, _, summed, owned, _ in found:
        assert np.array_equal(summed, cut_out(tiles, total))
        lit = summed > 0
        off = mine - cut_out(tiles, image)
        expected = cut_out(tiles, weighted) / cut_out(tiles, all_counts)
        assert np.abs(off - expected)[lit].max() < 1e-5
        assert np.array_equal(owned[lit], cut_out(tiles, owner)[lit])


def test_ranks_have_the_same_bits_where_they_share_pixels() -> None:
    positions = np.floor(np.random.default_rng(3).uniform(0, 90, (60, 2)))
    positions -= positions.min(axis=0)

    def work(ranks):
        _, tiles, _ = tiles_of(ranks, positions)
        random = np.random.default_rng(ranks.rank)
        mine = random.normal(size=tiles.shape).astype(np.complex64)
        tiles.averaged(NumpyArrays(threads=1), (mine,), random.uniform(size=tiles.shape).astype(np.float32))
        canvas = np.full(tiles.whole, np.nan, np.complex64)
        canvas[tuple(slice(at, at + n) for at, n in zip(tiles.origin, tiles.shape, strict=True))] = mine
        return canvas

    one, *others = in_threads(5, work)
    for other in others:
        both = np.isfinite(one) & np.isfinite(other)
        assert np.array_equal(one[both], other[both])


@pytest.mark.parametrize("count", [2, 5])
def test_the_most_probable_object_of_tiles_is_that_of_one_canvas(make_scan, count: int) -> None:
    scan = make_scan().scan
    spectrum = np.fft.fftshift(np.fft.fft2(scan.probe, norm="ortho"), axes=(-2, -1)).astype(np.complex64)
    arrays = NumpyArrays(threads=1)

    def work(ranks):
        team = Team.of(ranks, scan.positions_px)
        order, batches = plan_batches(
            scan.positions_px,
            frame_px=scan.frame_px,
            frames_per_batch=24,
            random=np.random.default_rng(0),
            members=team.mine(scan.n_frames),
        )
        level = Level(
            OrderedFrames.read(scan, order, least_px=scan.positions_px.min(axis=0)),
            arrays,
            batches=batches,
            size_px=scan.frame_px,
            background=0.0,
            softening=0.0,
            object_floor=0.05,
            misfit="poisson",
            count_softening=0.1,
            team=team,
        )
        level.start(spectrum)
        posterior = Posterior(
            level,
            arrays,
            spectrum=level.spectrum,
            obj=level.object,
            n_frames=scan.n_frames,
            counts_per_frame=scan.mean_counts_per_frame(),
            mean_pattern=scan.mean_pattern(),
        )
        posterior.improve(Prior("log", 20.0, passes=1), iterations=9, probe="free")
        return level.tiles, posterior.object, posterior.misfit(), posterior.spectrum

    (_, whole, misfit, probe), *_ = in_threads(1, work)
    for tiles, obj, same_misfit, same_probe in in_threads(count, work):
        inside = obj[tiles.mine]
        assert np.abs(inside - cut_out(tiles, whole)[tiles.mine]).max() < 2e-3 * np.abs(whole - 1).max()
        assert same_misfit == pytest.approx(misfit, rel=1e-4)
        assert np.abs(same_probe - probe).max() < 1e-3 * np.abs(probe).max()
