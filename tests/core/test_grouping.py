"""Groups: always valid, always the same for a seed, and clear about what they refuse."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import ConfigError, DataError, PolicyWarning
from ptycho_core.scan.grouping import choose_frames, group_frames, nearest_neighbours

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


@st.composite
def scans(draw, smallest=9, largest=60):
    """Random, raster and repeated positions."""
    count = draw(st.integers(smallest, largest))
    rng = np.random.default_rng(draw(seeds))
    kind = draw(st.sampled_from(["random", "raster", "repeated", "column"]))
    if kind == "random":
        return rng.uniform(-500, 500, (count, 2))
    if kind == "raster":
        side = int(np.ceil(np.sqrt(count)))
        return np.stack(np.divmod(np.arange(count), side), axis=1) * 4.0
    if kind == "repeated":
        return rng.integers(0, 3, (count, 2)).astype(float)
    return np.stack([np.arange(count) * 3.3, np.zeros(count)], axis=1)


def oracle_neighbours(positions, count):
    """All distances of one frame at a time, ties by number."""
    found = []
    for frame, here in enumerate(positions):
        distance = [round(float(np.hypot(*(p - here))), 9) for p in positions]
        others = sorted((d, i) for i, d in enumerate(distance) if i != frame)
        found.append([i for _, i in others[:count]])
    return np.array(found)


@few
@given(positions=scans(), count=st.integers(1, 12))
def test_neighbours_are_the_nearest_with_ties_by_number(positions, count):
    expected = oracle_neighbours(positions, min(count, len(positions) - 1))
    np.testing.assert_array_equal(nearest_neighbours(positions, count), expected)


def test_neighbours_on_the_worked_raster():
    raster = np.stack(np.divmod(np.arange(9), 3), axis=1) * 4.0
    found = nearest_neighbours(raster, 5)
    assert found[4, :4].tolist() == [1, 3, 5, 7]
    assert found[0].tolist() == [1, 3, 4, 2, 6]


@few
@given(
    positions=scans(),
    gridsize=st.sampled_from([1, 2, 3]),
    seed=seeds,
    sequential=st.booleans(),
    data=st.data(),
)
def test_groups_are_valid(positions, gridsize, seed, sequential, data):
    n_groups = data.draw(st.integers(1, len(positions)))
    neighbor_count = data.draw(st.integers(max(1, gridsize**2 - 1), 12))
    groups = group_frames(
        positions,
        gridsize,
        neighbor_count=neighbor_count,
        n_groups=n_groups,
        seed=seed,
        sequential=sequential,
    )
    assert groups.indices.shape == (n_groups, gridsize**2) == (groups.n_groups, groups.group_size)
    assert groups.indices.min() >= 0
    assert groups.indices.max() < len(positions)
    assert all(len(set(row)) == gridsize**2 for row in groups.indices.tolist())
    np.testing.assert_allclose(groups.positions_px(), positions[groups.indices], atol=1e-9)
    np.testing.assert_allclose(groups.relative.mean(axis=1), 0, atol=1e-9)
    assert set(groups.frames_used) == set(groups.indices.ravel())


@few
@given(positions=scans(), gridsize=st.sampled_from([2, 3]), seed=seeds)
def test_every_group_has_its_seed_and_only_neighbours_of_it(positions, gridsize, seed):
    count = 10
    groups = group_frames(positions, gridsize, neighbor_count=count, seed=seed, sequential=True)
    near = nearest_neighbours(positions, count)
    for frame, members in enumerate(groups.indices.tolist()):
        assert frame in members
        assert set(members) - {frame} <= set(near[frame].tolist())
    assert set(groups.frames_used) == set(range(len(positions)))


@few
@given(positions=scans(), gridsize=st.sampled_from([2, 3]), seed=seeds)
def test_members_run_row_by_row(positions, gridsize, seed):
    groups = group_frames(positions, gridsize, neighbor_count=10, seed=seed)
    rows = positions[groups.indices].reshape(-1, gridsize, gridsize, 2)
    assert (np.diff(rows[..., 1], axis=2) >= 0).all()
    assert (rows[:, 1:, :, 0].min(axis=2) >= rows[:, :-1, :, 0].max(axis=2)).all()


@few
@given(positions=scans(), seed=seeds, n_groups=st.integers(1, 150))
def test_the_same_seed_gives_the_same_groups(positions, seed, n_groups):
    def form():
        return group_frames(
            positions, 2, neighbor_count=7, n_groups=n_groups, seed=seed, enable_oversampling=True
        ).indices

    np.testing.assert_array_equal(form(), form())


def test_another_process_finds_the_same_groups():
    program = (
        "import numpy as np; from ptycho_core.scan.grouping import group_frames;"
        "p = np.stack(np.divmod(np.arange(64), 8), axis=1) * 5.0;"
        "print(group_frames(p, 2, neighbor_count=7, n_groups=40, seed=11).indices.tolist())"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first == second
    positions = np.stack(np.divmod(np.arange(64), 8), axis=1) * 5.0
    assert (
        str(group_frames(positions, 2, neighbor_count=7, n_groups=40, seed=11).indices.tolist())
        == first.strip()
    )


def test_grouping_does_not_touch_the_global_generator():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    group_frames(np.random.default_rng(0).random((20, 2)), 2, neighbor_count=5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_worked_group_has_the_known_offsets():
    square = np.array([[40.0, 30.0], [40, 34], [46, 30], [46, 34]])
    groups = group_frames(square, 2, n_groups=1, seed=3)
    assert groups.indices.tolist() == [[0, 1, 2, 3]]
    assert groups.offsets.tolist() == [[43.0, 32.0]]
    assert groups.relative[0, :, 1].tolist() == [2, -2, 2, -2]
    assert groups.relative[0, :, 0].tolist() == [3, 3, -3, -3]


def test_one_group_for_each_frame_uses_every_frame_as_seed():
    positions = np.random.default_rng(1).random((30, 2))
    assert group_frames(positions, 2, neighbor_count=4, seed=5).frames_used.tolist() == list(range(30))


def test_sequential_groups_do_not_depend_on_the_seed():
    positions = np.random.default_rng(2).random((30, 2))
    one, other = (group_frames(positions, 2, n_groups=8, seed=s, sequential=True).indices for s in (1, 2))
    np.testing.assert_array_equal(one, other)
    assert all(frame in members for frame, members in enumerate(one.tolist()))


def test_frames_at_one_position_can_still_be_grouped():
    groups = group_frames(np.zeros((40, 2)), 2, neighbor_count=6, seed=0)
    assert all(len(set(row)) == 4 for row in groups.indices.tolist())


# Oversampling


@few
@given(positions=scans(smallest=10, largest=20), seed=seeds, factor=st.integers(2, 6))
def test_oversampling_visits_all_seeds_evenly_with_distinct_members(positions, seed, factor):
    wanted = factor * len(positions) - 3
    groups = group_frames(
        positions,
        2,
        neighbor_count=4,
        n_groups=wanted,
        seed=seed,
        enable_oversampling=True,
        neighbor_pool_size=7,
    )
    assert groups.n_groups == wanted
    assert all(len(set(row)) == 4 for row in groups.indices.tolist())
    assert groups.frames_used.tolist() == list(range(len(positions)))


def test_a_seed_does_not_repeat_its_members_while_there_are_others():
    far_apart = np.repeat(np.arange(3) * 1e6, 8)[:, None] + np.tile(np.arange(8.0) ** 2, 3)[:, None]
    positions = np.column_stack([far_apart, np.zeros(24)])
    groups = group_frames(
        positions,
        2,
        neighbor_count=7,
        n_groups=24 * 35,
        seed=1,
        enable_oversampling=True,
        neighbor_pool_size=7,
    )
    # Each cluster of 8 has binom(8, 4) = 70 subsets, each reached once from each of its 4 members.
    subsets, times = np.unique(np.sort(groups.indices, axis=1), axis=0, return_counts=True)
    assert len(subsets) == 3 * 70
    assert (times == 4).all()


@pytest.mark.finding("OVERSAMPLING-001")
def test_more_groups_than_frames_need_the_opt_in():
    positions = np.random.default_rng(0).random((20, 2))
    with pytest.raises(ConfigError, match=r"^OVERSAMPLING-001: .*enable_oversampling") as caught:
        group_frames(positions, 2, n_groups=21)
    assert caught.value.finding == "OVERSAMPLING-001"


@pytest.mark.finding("OVERSAMPLING-001")
@pytest.mark.parametrize("pool", [{"neighbor_pool_size": 3}, {"neighbor_count": 3}])
def test_oversampling_needs_a_pool_of_at_least_the_group(pool):
    positions = np.random.default_rng(0).random((20, 2))
    with pytest.raises(ConfigError, match=r"^OVERSAMPLING-001: .*neighbor_pool_size >= C"):
        group_frames(positions, 2, n_groups=21, enable_oversampling=True, **pool)


@pytest.mark.finding("OVERSAMPLING-001")
def test_groups_repeat_with_a_warning_when_the_pool_is_used_up():
    positions = np.random.default_rng(0).random((10, 2))
    with pytest.warns(PolicyWarning, match=r"OVERSAMPLING-001: .*groups repeat"):
        groups = group_frames(positions, 2, neighbor_count=4, n_groups=95, enable_oversampling=True, seed=0)
    assert groups.n_groups == 95


def test_single_frames_are_capped_with_a_warning():
    with pytest.warns(PolicyWarning, match="each is used once"):
        groups = group_frames(np.random.default_rng(0).random((5, 2)), n_groups=9)
    assert sorted(groups.indices.ravel().tolist()) == [0, 1, 2, 3, 4]


def test_impossible_groups_are_refused():
    positions = np.random.default_rng(0).random((20, 2))
    with pytest.raises(DataError, match="need 9 frames and the scan has 4"):
        group_frames(positions[:4], 3, neighbor_count=8)
    with pytest.raises(ConfigError, match="`neighbor_count` is 2 and gridsize 2 needs 3"):
        group_frames(positions, 2, neighbor_count=2)
    with pytest.raises(ConfigError, match="at least 1"):
        group_frames(positions, 2, n_groups=0)
    assert group_frames(positions, 2, neighbor_count=3).n_groups == 20


# A part of the frames


@few
@given(n=st.integers(1, 200), seed=seeds, data=st.data())
def test_chosen_frames_are_sorted_distinct_and_repeatable(n, seed, data):
    count = data.draw(st.integers(1, n))
    chosen = choose_frames(n, count, seed)
    assert len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] <= chosen[-1] < n
    np.testing.assert_array_equal(chosen, choose_frames(n, count, seed))


def test_no_number_means_all_frames():
    assert choose_frames(5, None).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigError, match="`n_subsample` is 0"):
        choose_frames(5, 0)
