"""What a run will need: bytes that follow the scan, seconds that are measured once, and refusals in words."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Scan, solve
from ptycho_core.costs import Needs, Speed, measured_speed, needs, needs_of, plan_of, refused
from ptycho_core.costs import speed as measuring
from ptycho_core.costs.needs import canvas_of, share_of_a_rank
from ptycho_core.scan.overlap import probe_diameter_px, typical_step_px
from ptycho_core.simulate import simulate_scan
from ptycho_core.solver import frames as ordered_frames

SPEED = Speed(
    step_s={32: 1e-5, 64: 5e-5, 128: 2.4e-4},
    batch_s={32: 1e-4, 64: 3e-4, 128: 1e-3},
    gradient_s={64: 5e-5, 128: 2.4e-4},
    residual_s={64: 1e-4, 128: 5e-4},
    more_modes=0.8,
    moving=1.4,
    varied=2.0,
    canvas_s=1e-7,
    coding_s=1e-9,
)


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate_scan(frames=60, frame_px=32, seed=1).scan


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptycho_core.costs.plan.measured_speed", lambda execution: SPEED)


def of_many_frames(scan: Scan, n_frames: int) -> Scan:
    """A scan whose frames are views of a single one, so that nothing is held."""
    side = int(np.ceil(np.sqrt(n_frames)))
    index = np.arange(n_frames)
    positions = np.stack([index // side, index % side], axis=1) * 6.0 + 20
    frames = np.broadcast_to(scan.frames[0], (n_frames, *scan.frames.shape[1:]))
    return replace(scan, frames=frames, positions_px=positions, ground_truth=None)


def test_the_canvas_is_the_one_that_the_solver_makes(scan: Scan) -> None:
    plain, refining = (SolverConfig(effort="fast", refine_positions=moved) for moved in (False, True))
    made = solve(scan, plain).object.shape
    assert np.abs(np.subtract(canvas_of(scan, plain), made)).max() <= 2
    # Frames may move out of it; where the refined positions are not taken it stays as it was.
    assert (np.subtract(canvas_of(scan, refining), solve(scan, refining).object.shape) >= -2).all()


def test_large_scans_go_into_a_file_of_two_bytes_a_pixel(scan: Scan) -> None:
    small = needs_of(scan, SolverConfig())
    assert not small.frames_in_file
    assert small.frames_bytes == 4 * scan.n_frames * 32**2
    assert small.scratch_bytes == 0
    n_frames = 400_000
    large = needs_of(of_many_frames(scan, n_frames), SolverConfig(effort="fast"))
    assert large.frames_in_file
    assert large.frames_bytes == 2 * n_frames * 32**2
    assert large.scratch_bytes >= large.frames_bytes
    in_memory = large.with_frames_in_memory()
    assert in_memory.memory_bytes - large.memory_bytes == large.frames_bytes
    assert in_memory.scratch_bytes == large.scratch_bytes - large.frames_bytes


@given(
    frames=st.integers(100, 10**7),
    side=st.sampled_from([64, 128, 256]),
    shape=st.tuples(st.integers(3000, 60000), st.integers(3000, 60000)),
    ranks=st.integers(1, 600),
)
def test_shares_of_ranks_cover_the_scan(frames: int, side: int, shape: tuple[int, int], ranks: int) -> None:
    share, tile = share_of_a_rank(frames, shape, side, n_ranks=ranks)
    assert frames <= share * ranks
    assert share <= frames
    assert np.prod(tile, dtype=float) * ranks >= np.prod(shape, dtype=float)
    assert tile[0] <= shape[0]
    assert tile[1] <= shape[1]
    if ranks == 1:
        assert (share, tile) == (frames, shape)


def test_more_ranks_need_less_each(scan: Scan) -> None:
    many = of_many_frames(scan, 1_000_000)
    found = [needs_of(many, SolverConfig(effort="fast"), n_ranks=ranks).memory_bytes for ranks in (1, 4, 16)]
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize(
    ("config", "more"),
    [({"probe_modes": 3}, "time"), ({"refine_positions": True}, "time"), ({"effort": "thorough"}, "time")],
)
def test_freedoms_cost(scan: Scan, known_speed: None, config: dict[str, Any], more: str) -> None:
    plain = plan_of(scan, SolverConfig())
    assert plan_of(scan, SolverConfig(**config)).total_s > plain.total_s
    assert more == "time"


def test_a_plan_is_json_with_all_that_is_told(scan: Scan, known_speed: None) -> None:
    plan = plan_of(scan, SolverConfig(effort="fast"), open_s=1.0)
    record = json.loads(json.dumps(plan.record()))
    assert record["total_s"] == pytest.approx(plan.total_s, abs=0.01)
    assert record["fits"] is True
    assert record["frames"] == 60
    assert record["seconds"]["open"] >= 1.0
    assert record["epochs"]["32"] >= 1


def test_what_cannot_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(needs, "memory_bytes", lambda: 4 << 30)
    free = {"bytes": 100 << 30}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free["bytes"]))
    fits = Needs(2 << 30, 8 << 30, 8 << 30, True, (1000, 1000))
    assert refused(fits, n_frames=10**6, frame_px=64) == ""
    free["bytes"] = 2 << 30
    said = refused(fits, n_frames=10**6, frame_px=64)
    for part in ("10.0 GiB", "TMPDIR", str(tmp_path), "--rebin 2", "ranks"):
        assert part in said
    too_large = replace(fits, memory_bytes=5 << 30)
    said = refused(too_large, n_frames=10**6, frame_px=64)
    assert "1000000 frames of 64 x 64 px" in said
    assert "--crop-px 32" in said
    # Without a file the frames go into memory, where that has room.
    assert refused(replace(fits, scratch_bytes=1 << 30, frames_bytes=1 << 30), n_frames=9, frame_px=64) == ""
    monkeypatch.setattr(needs, "memory_bytes", lambda: None)
    assert refused(too_large, n_frames=10**6, frame_px=64) == ""


@pytest.fixture
def quick_measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(measuring, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(measuring, "_SECONDS", 0.0)
    monkeypatch.setattr(measuring, "_FRAMES", 8)
    monkeypatch.setattr(measuring, "_FRAMES_PER_BATCH", 4)
    monkeypatch.setattr(measuring, "_CANVAS", (140, 140))
    return tmp_path / "speed"


def test_speed_is_measured_once_and_kept(quick_measure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = SolverExecutionConfig(arrays="numpy", accelerator="cpu", threads=1)
    first = measured_speed(where)
    (file,) = quick_measure.iterdir()
    kept = json.loads(file.read_text())
    assert {"host", "version", "kernel", "threads"} <= set(kept["about"])
    monkeypatch.setattr(measuring, "_measured", lambda arrays: pytest.fail("measured again"))
    assert measured_speed(where) == first
    assert first.step(64) < first.step(128) < first.step(512)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"form": 1}', "\x00", '{"form": 1, "about": null, "seconds": {}}', "[" * 10_000],
)
def test_a_spoiled_cache_is_measured_anew(
    quick_measure: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(measuring, "_measured", lambda arrays: SPEED)
    assert measured_speed() == SPEED
    (file,) = quick_measure.iterdir()
    file.write_text(content)
    assert measured_speed() == SPEED
    assert json.loads(file.read_text())["seconds"]["varied"] == SPEED.varied


def test_numbers_that_are_none_are_not_believed(quick_measure: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_measured", lambda arrays: SPEED)
    measured_speed()
    (file,) = quick_measure.iterdir()
    for wrong in (-1.0, 0, None, "x"):
        kept = json.loads(file.read_text())
        kept["seconds"]["canvas_s"] = wrong
        file.write_text(json.dumps(kept))
        assert measured_speed() == SPEED


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(measuring, "cache_directory", lambda: blocked)
    monkeypatch.setattr(measuring, "_measured", lambda arrays: SPEED)
    assert measured_speed() == SPEED


def test_a_run_uses_the_room_that_was_foretold(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for module in (ordered_frames, needs):
        monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    told = next(event for event in solve(scan, SolverConfig(effort="fast")).events if event.kind == "room")
    assert told.data is not None
    assert told.data["bytes"] == needs_of(scan, SolverConfig(effort="fast")).frames_bytes


@pytest.mark.parametrize(
    ("overlap", "surely", "may"), [(0.3, True, False), (0.5, False, True), (0.8, False, False)]
)
def test_rounds_are_told_as_far_as_the_start_probe_knows(
    scan: Scan, known_speed: None, overlap: float, surely: bool, may: bool
) -> None:
    positions, diameter = scan.positions_px, probe_diameter_px(scan.probe)
    spread = (1 - overlap) * diameter / typical_step_px(positions)
    plan = plan_of(replace(scan, positions_px=positions * spread), SolverConfig(prior="tv"))
    assert bool(plan.seconds.get("rounds", 0.0)) == surely
    assert bool(plan.rounds_s_more) == may
    assert plan.record()["rounds_s_more"] == pytest.approx(plan.rounds_s_more, abs=1e-3)
