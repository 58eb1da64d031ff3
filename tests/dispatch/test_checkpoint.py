"""A long run keeps its state on disk; a run in the same directory adds to its log."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, open_scan, solve
from ptycho_core.ranks import in_threads
from ptycho_core.result.callbacks import Callback
from ptycho_dispatch.checkpoint import Checkpoint, TileCheckpoint


class Crash(Callback):
    """End the run without any chance to clean up, as far as the checkpoint can tell."""

    def on_epoch(self, epoch) -> None:
        if epoch.epoch == 3:
            raise SystemError("crash")


def test_a_crash_leaves_the_last_state_behind(scan_file: Path, tmp_path: Path) -> None:
    config, where = SolverConfig(probe_search=False), SolverExecutionConfig(arrays="numpy")
    callbacks = [Checkpoint(tmp_path, seconds_between=0.0, share=float("inf")), Crash()]
    with pytest.raises(SystemError):
        solve(open_scan(scan_file), config, where, callbacks)
    kept = Reconstruction.load(tmp_path)
    assert kept.interrupted
    assert [row["epoch"] for row in kept.history] == [1, 2]


def test_a_crash_of_several_ranks_leaves_tiles_from_which_any_number_goes_on(
    scan_file: Path, tmp_path: Path, ptycho, mpiexec: tuple[str, ...]
) -> None:
    config, where = SolverConfig(probe_search=False), SolverExecutionConfig(arrays="numpy", threads=1)
    scan = open_scan(scan_file)

    def work(ranks) -> None:
        keeper = TileCheckpoint(tmp_path / "out", ranks, seconds_between=0.0, share=float("inf"))
        solve(scan, config, where, [keeper, Crash()] if ranks.is_first else [keeper], ranks=ranks)

    (tmp_path / "out").mkdir()
    with pytest.raises(SystemError):
        in_threads(3, work)
    assert [row["epoch"] for row in Reconstruction.load(tmp_path / "out").history] == [1, 2]
    Reconstruction.load(tmp_path / "out").save_arrays(tmp_path / "whole")
    shutil.copytree(tmp_path / "out", tmp_path / "alone")
    words = ("reconstruct", scan_file, "--resume", "--effort", "fast", "--frc", "false", "--threads", "1")
    alone = ptycho(*words, "--output-dir", tmp_path / "alone")
    assert alone.code == 0, alone.err
    for name in ("out", "whole"):
        command = [*mpiexec, "-n", "2", sys.executable, "-m", "ptycho_dispatch", *map(str, words)]
        command += ["--output-dir", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
    results = [Reconstruction.load(tmp_path / name) for name in ("out", "whole", "alone")]
    assert np.array_equal(results[0].object, results[1].object)
    # Where between two pixels the canvas begins is free, and so is a row at its rim.
    assert np.abs(np.subtract(results[0].object.shape, results[2].object.shape)).max() <= 1
    assert results[0].data_residual == pytest.approx(results[2].data_residual, abs=0.01)
    assert not any(result.interrupted for result in results)
    assert not list(tmp_path.glob("*/*tile*"))


def test_a_short_run_writes_nothing_on_the_way(scan_file: Path, tmp_path: Path) -> None:
    solve(open_scan(scan_file), SolverConfig(effort="fast"), callbacks=[Checkpoint(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_no_more_than_its_share_of_the_run_goes_into_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("ptycho_dispatch.checkpoint.time.monotonic", lambda: now[0])
    checkpoint, written = Checkpoint(tmp_path, seconds_between=60.0, share=0.1), []

    class Slow:
        def save_arrays(self, directory: Path) -> Path:
            now[0] += 30.0
            written.append(now[0])
            return directory

    for _ in range(100):
        now[0] += 10.0
        checkpoint.on_state(Slow)  # type: ignore[arg-type]
    assert written[0] == 90.0
    assert all(later - earlier >= 300 for earlier, later in itertools.pairwise(written))
