"""Frames that came: each good one once, in its place, as a finished scan would have it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.errors import ConfigError, DataError
from ptycho_core import Scan, open_scan
from ptycho_core.io import RawScan, ReadOptions
from ptycho_core.live import Arrival, Intake
from ptycho_core.simulate import simulate_scan

SCAN = simulate_scan(object_kind="star", frames=30, frame_px=32, seed=2).scan
COUNTS = np.rint(SCAN.counts()).astype(np.uint32)


class Given:
    """A source that says nothing but its name; frames are handed over by the test."""

    name = "given"

    def __init__(self, arrays: RawScan | None = None) -> None:
        self._arrays = arrays or RawScan(
            name="given", frames=np.empty((0, 0, 0)), positions_px=None, probe=SCAN.probe
        )

    def head(self) -> RawScan:
        return self._arrays

    def poll(self, *, last: bool = False) -> list[Arrival]:
        return []

    def positions_known(self) -> np.ndarray | None:
        return None

    @property
    def expected(self) -> int | None:
        return None

    @property
    def ended(self) -> bool:
        return True

    def missing(self) -> dict[int, str]:
        return {}


def arrival(index: int, frame: np.ndarray | None = None, position: np.ndarray | None = None) -> Arrival:
    frame = COUNTS[index] if frame is None else frame
    return Arrival(
        index, frame, SCAN.positions_px[index] if position is None else position, time.perf_counter()
    )


@given(order=st.permutations(list(range(30))), again=st.lists(st.integers(0, 29)), cut=st.integers(1, 29))
def test_any_order_and_any_repetition_make_the_same_scan(
    order: list[int], again: list[int], cut: int
) -> None:
    intake = Intake(Given())
    came = [*order[:cut], *[index for index in again if index in order[:cut]], *order[cut:]]
    for first in range(0, len(came), 7):
        intake.take([arrival(index) for index in came[first : first + 7]])
    intake.take([], last=True)
    scan = intake.scan()
    assert len(intake) == 30
    assert intake.repeated == len(came) - 30
    np.testing.assert_allclose(scan.positions_px, SCAN.positions_px, rtol=1e-12)
    np.testing.assert_array_equal(scan.amplitude(), SCAN.amplitude())


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (arrival(5, COUNTS[5][:16]), "pixels"),
        (arrival(5, np.full((32, 32), np.nan)), "NaN"),
        (arrival(5, np.where(np.eye(32) > 0, np.inf, COUNTS[5])), "infinite"),
        (arrival(5, np.where(np.eye(32) > 0, 1e300, COUNTS[5])), "1e+300, more than float32 can square"),
        (arrival(5, np.where(np.eye(32) > 0, 1e17, COUNTS[5])), "1e+17, more than float32 can square"),
        (arrival(5, np.zeros((32, 32), np.uint32)), "dark"),
        (arrival(5, COUNTS[5].astype(np.complex64)), "no frame"),
        (arrival(5, position=np.array([np.nan, 0.0])), "position is not finite"),
        (arrival(5, position=np.array([1e9, 0.0])), "far from all others"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_frame_is_left_out_until_it_comes_whole(broken: Arrival, why: str) -> None:
    intake = Intake(Given())
    intake.take([arrival(index) for index in range(20) if index != 5])
    intake.take([broken])
    assert why in intake.left_out[5]
    assert len(intake) == 19
    intake.take([arrival(5)])
    assert intake.left_out == {}
    np.testing.assert_array_equal(intake.scan().amplitude(), SCAN.amplitude(slice(20)))


def test_a_broken_frame_among_the_first_does_not_hinder_the_others() -> None:
    intake = Intake(Given())
    intake.take([arrival(0, COUNTS[0][:4]), *[arrival(index) for index in range(1, 20)]])
    assert len(intake) == 19
    assert list(intake.left_out) == [0]


def test_pixels_that_are_nan_in_one_frame_are_bad_in_that_frame() -> None:
    hurt = COUNTS[3].astype(np.float32)
    hurt[4, 7] = np.nan
    intake = Intake(Given())
    intake.take([arrival(index, hurt if index == 3 else None) for index in range(20)])
    scan = intake.scan()
    assert np.argwhere(~scan.good_pixels()).tolist() == [[3, 4, 7]]
    assert scan.amplitude()[3, 4, 7] == 0


def test_oblong_pixels_are_refused_and_not_taken_for_square_ones() -> None:
    head = RawScan(
        name="given",
        frames=np.empty((0, 0, 0)),
        positions_px=None,
        position_unit_m=1.0,
        probe=SCAN.probe,
        energy_ev=8000.0,
        distance_m=2.0,
        detector_pixel_m=75e-6,
        detector_aspect=0.5,
    )
    intake = Intake(Given(head))
    with pytest.raises(ConfigError, match=r"pixels are 0\.5 times as high as wide, which the live image"):
        intake.take(
            [arrival(index, position=SCAN.positions_px[index] * 1e-7) for index in range(30)], last=True
        )


def test_nothing_usable_is_said_in_the_end() -> None:
    intake = Intake(Given())
    intake.take([arrival(0, np.zeros((32, 32)))])
    with pytest.raises(DataError, match="none of the 1 frames"):
        intake.take([], last=True)
    with pytest.raises(DataError, match="no frame came"):
        Intake(Given()).scan()


@pytest.mark.parametrize(
    "options",
    [
        {"frames_orientation": "transpose", "positions_orientation": "flip-y"},
        {"crop_px": 24},
        {"rebin": 2},
        {"pixel_size_m": 1.25e-6, "positions_unit": "um"},
        {"dc": "corner"},
        {"measurement": "amplitude"},
    ],
    ids=lambda options: ",".join(options),
)
def test_frames_are_read_as_those_of_a_finished_scan(options: dict, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", COUNTS)
    np.save(tmp_path / "positions.npy", SCAN.positions_px)
    offline = open_scan(tmp_path / "frames.npy", positions_file=tmp_path / "positions.npy", **options)
    given = Given(RawScan(name="given", frames=np.empty((0, 0, 0)), positions_px=None))
    intake = Intake(given, ReadOptions(**options))
    intake.take([arrival(index) for index in range(30)])
    live: Scan = intake.scan()
    np.testing.assert_allclose(live.positions_px, offline.positions_px, rtol=1e-9)
    np.testing.assert_allclose(live.amplitude(), offline.amplitude(), rtol=1e-6)
    assert live.pixel_size_m == offline.pixel_size_m


def taken(positions: np.ndarray) -> Intake:
    intake = Intake(Given())
    intake.take([arrival(index, position=positions[index]) for index in range(30)], last=True)
    return intake


@pytest.mark.parametrize("wild", [0, 3, 29])
def test_one_wild_position_is_left_out_wherever_it_comes(wild: int) -> None:
    positions = SCAN.positions_px.copy()
    positions[wild] = 1e12
    intake = taken(positions)
    assert len(intake) == 29
    assert "far from all others" in intake.left_out[wild]


def test_a_position_that_a_canvas_can_hold_is_left_out_of_the_finished_scan() -> None:
    positions = SCAN.positions_px.copy()
    positions[1] += (2000.0, 0.0)
    intake = taken(positions)
    assert len(intake) == 30
    with pytest.warns(UserWarning, match="1 of the frames that came lie far from all others"):
        scan = intake.scan()
    np.testing.assert_allclose(scan.positions_px, np.delete(SCAN.positions_px, 1, axis=0))


def test_a_half_that_jumps_is_left_out_and_the_first_goes_on() -> None:
    positions = SCAN.positions_px.copy()
    positions[15:] += 1e5
    intake = taken(positions)
    assert len(intake) == 15
    assert list(intake.left_out) == list(range(15, 30))


class Declaring(Given):
    """A source that declares far more frames than will come, one of them far away."""

    @property
    def expected(self) -> int | None:
        return 10**9

    def positions_known(self) -> np.ndarray | None:
        return np.concatenate([SCAN.positions_px, [[1e12, 0.0]]])


def test_room_that_is_declared_is_bounded_by_the_memory() -> None:
    intake = Intake(Declaring())
    intake.take([arrival(index) for index in range(20)])
    assert len(intake) == 20
    ahead = intake.positions_ahead()
    assert ahead is not None
    assert np.array_equal(ahead, intake.positions_of(SCAN.positions_px))
