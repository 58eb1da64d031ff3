"""The orientation in which positions belong to frames is found from the overlap of a few frames."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from ptycho_config.values import Orientation
from ptycho_core import Scan, open_scan
from ptycho_core.io.geometry import turned_positions
from ptycho_core.orientations import Trial, explaining, neighbours, try_orientations, twin_of

#: What brings positions back that were turned so.
BACK = {"rotate-90": "rotate-270", "rotate-270": "rotate-90"}


@pytest.fixture(scope="module")
def star() -> Scan:
    return open_scan("siemens-star")


def test_every_orientation_has_one_twin_and_is_its_twin_s() -> None:
    for orientation in get_args(Orientation):
        assert twin_of(orientation) != orientation
        assert twin_of(twin_of(orientation)) == orientation


@pytest.mark.parametrize("orientation", get_args(Orientation))
def test_turning_back_is_known(orientation: str) -> None:
    places = np.random.default_rng(1).normal(size=(7, 2))
    turned = turned_positions(places, orientation)
    assert np.array_equal(turned_positions(turned, BACK.get(orientation, orientation)), places)


def test_neighbours_lie_around_the_middle_in_the_order_of_the_scan(star: Scan) -> None:
    chosen = neighbours(star, 60)
    assert len(chosen) == 60
    assert np.array_equal(chosen, np.unique(chosen))
    middle = np.median(star.positions_px, axis=0)
    distance = np.linalg.norm(star.positions_px - middle, axis=1)
    assert distance[chosen].max() <= np.delete(distance, chosen).min()


@pytest.mark.parametrize(
    "turned",
    [
        pytest.param(name, marks=() if name == "flip-x" else pytest.mark.slow)
        for name in get_args(Orientation)
    ],
)
def test_positions_of_the_real_scan_that_were_turned_are_turned_back(star: Scan, turned: str) -> None:
    """Its start probe is poor, so its twin explains it as well and only the pair is found."""
    wrong = replace(star, positions_px=turned_positions(star.positions_px, turned))
    heard: list[Trial] = []
    trials = try_orientations(wrong, n_frames=80, say=heard.append)
    assert sorted(trial.orientation for trial in heard) == sorted(get_args(Orientation))
    assert [trial.residual for trial in trials] == sorted(trial.residual for trial in heard)
    right = explaining(trials)
    back = BACK.get(turned, turned)
    assert back in right
    assert set(right) <= {back, twin_of(back)}


def test_nothing_is_said_where_nothing_stands_out(star: Scan) -> None:
    mixed = np.random.default_rng(2).permutation(star.positions_px)
    assert explaining(try_orientations(replace(star, positions_px=mixed), n_frames=40)) == ()
