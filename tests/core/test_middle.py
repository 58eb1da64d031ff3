"""The frames around the middle of a scan are its nearest, and ties go to the earlier."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.scan.middle import frames_near_the_middle


def test_the_middle_is_the_median_so_that_one_stray_frame_does_not_move_it() -> None:
    positions = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 1e6]])
    assert frames_near_the_middle(positions, 3).tolist() == [2, 1, 3]


def test_frames_at_one_distance_come_in_their_order() -> None:
    around = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 0.0]])
    assert frames_near_the_middle(around, 4).tolist() == [4, 0, 1, 2]


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 1000))
def test_no_other_frame_is_nearer_than_those_chosen(n_frames: int, count: int, seed: int) -> None:
    positions = np.random.default_rng(seed).integers(-5, 6, (n_frames, 2)).astype(np.float64)
    chosen = frames_near_the_middle(positions, count)
    assert len(set(chosen.tolist())) == min(count, n_frames)
    distance = np.hypot(*(positions - np.median(positions, axis=0)).T)
    others = np.delete(distance, chosen)
    assert (np.diff(distance[chosen]) >= 0).all()
    assert distance[chosen].max() <= others.min(initial=np.inf)
