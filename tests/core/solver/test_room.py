"""Room for the frames of a large scan: a file without a name where there is room for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho_config.models import SolverConfig
from ptycho_core import solve
from ptycho_core.coded_frames import CodedFrames
from ptycho_core.simulate import simulate_scan
from ptycho_core.solver import frames as ordered_frames
from ptycho_core.solver.frames import room_for, room_for_frames


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_small_array_is_in_memory_and_a_large_one_in_a_file_without_a_name(folder: Path) -> None:
    small, in_file = room_for((10, 8, 8))
    assert not in_file
    large, in_file = room_for((10, 8, 8), in_memory_bytes=100)
    assert in_file
    assert (small.shape, small.dtype) == (large.shape, large.dtype) == ((10, 8, 8), np.float32)
    large[:] = np.arange(640).reshape(10, 8, 8)
    assert large.sum() == 640 * 639 / 2
    assert list(folder.iterdir()) == []


def test_a_disk_without_room_is_not_filled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 29))
    array, in_file = room_for((10, 8, 8), in_memory_bytes=100)
    assert not in_file
    assert array.shape == (10, 8, 8)


def test_a_folder_that_is_gone_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert not room_for((10, 8, 8), in_memory_bytes=100)[1]


def test_frames_in_a_file_are_solved_like_frames_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = simulate_scan(frames=40, frame_px=32, seed=4).scan
    config = SolverConfig(effort="fast", seed=1)
    monkeypatch.setattr(ordered_frames, "IN_MEMORY_BYTES", 0)
    mapped = solve(scan, config)
    assert list(folder.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 29))
    held = solve(scan, config)
    assert np.array_equal(mapped.object, held.object)
    assert np.array_equal(mapped.probe, held.probe)


def test_two_bytes_a_pixel_are_half_the_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered_frames, "IN_MEMORY_BYTES", 100)
    room, in_file = room_for_frames((10, 8, 8))
    assert in_file
    assert isinstance(room, CodedFrames)
    assert room.codes.nbytes == 2 * 640
    assert isinstance(room_for_frames((1, 5, 5))[0], np.ndarray)
