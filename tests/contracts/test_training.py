"""What a training of any core tells while it runs, what it remembers, and what it leaves on the disk."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core import Scan
from ptycho_core.bundle import read_bundle
from ptycho_core.learning import report

EPOCHS, BATCHES = 5, 3


@dataclass(frozen=True)
class Run:
    """A training of some epochs, all that was heard of it, and where it wrote."""

    trained: Any
    heard: Any
    directory: Path

    @property
    def losses(self) -> list[float]:
        return [row["train_loss"] for row in self.trained.history]


@pytest.fixture(scope="module")
def run(core, scan: Scan, listening, tmp_path_factory: pytest.TempPathFactory) -> Run:
    heard, directory = listening(), tmp_path_factory.mktemp(core.name)
    logged = {"logger_backend": "csv"}
    settings = {"nepochs": EPOCHS, "batch_size": 8, "mae_weight": 0.5}
    trained = core.train(scan, execution=logged, callbacks=[heard], directory=directory, **settings)
    return Run(trained, heard, directory)


def test_it_learns(run: Run) -> None:
    assert run.losses[-1] < run.losses[0]
    assert not run.trained.interrupted
    assert run.trained.n_parameters > 0


def test_it_says_at_the_start_what_is_to_come(run: Run, scan: Scan) -> None:
    (start,) = run.heard.starts
    assert (start.method, start.scan_name) == ("network", scan.name)
    assert (start.n_frames, start.frame_px) == (24, 32)
    (level,) = start.levels
    assert (level.size_px, level.epochs, level.batches) == (32, EPOCHS, BATCHES)
    assert start.n_steps == EPOCHS * BATCHES


def test_it_tells_every_step(run: Run) -> None:
    told = [(step.epoch, step.step, step.frames_done) for step in run.heard.steps]
    assert told == [(epoch, k, 8 * k) for epoch in range(1, EPOCHS + 1) for k in range(1, BATCHES + 1)]
    assert {(step.level, step.size_px, step.n_steps_in_epoch) for step in run.heard.steps} == {
        (1, 32, BATCHES)
    }
    assert all(0 < step.residual < 10 for step in run.heard.steps)


def test_it_tells_every_epoch(run: Run) -> None:
    epochs = run.heard.epochs
    assert [(one.epoch, one.n_epochs, one.n_levels) for one in epochs] == [
        (k, EPOCHS, 1) for k in range(1, EPOCHS + 1)
    ]
    assert np.all(np.diff([one.elapsed_s for one in epochs]) > 0)
    assert all(one.frames_per_second > 0 for one in epochs)
    assert epochs[-1].remaining_s == 0


def test_it_remembers_a_row_for_every_epoch(run: Run) -> None:
    rows = run.trained.history
    expected = {"level", "size_px", "epoch", "residual", "seconds", "stepped_back", "train_loss", "train_nll"}
    assert all(set(row) == expected for row in rows)
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    assert [row["residual"] for row in rows] == [one.residual for one in run.heard.epochs]
    of_steps = np.reshape([step.residual for step in run.heard.steps], (EPOCHS, BATCHES)).mean(axis=1)
    assert np.allclose([row["residual"] for row in rows], of_steps, rtol=1e-5)


def test_what_is_of_no_effect_is_named(run: Run) -> None:
    assert run.heard.messages("ignored") == ["Without effect in this version: --mae-weight."]


def test_what_ranks_the_checkpoints_is_said(run: Run) -> None:
    (message,) = run.heard.messages("checkpoints")
    assert message == "Without a test scan there is no val_loss: train_loss ranks the checkpoints."


@pytest.mark.finding("CONFIG-LOGGER-001")
def test_its_metrics_are_a_csv_file(run: Run) -> None:
    (logged,) = run.directory.rglob("metrics.csv")
    with logged.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["train_loss"]]
    assert {"epoch", "train_loss", "train_residual", "train_nll"} <= set(rows[0])
    assert np.allclose([float(row["train_loss"]) for row in rows], run.losses, rtol=1e-5)


def test_the_best_and_the_last_checkpoint_lie_on_the_disk(run: Run) -> None:
    names = sorted(path.stem.split("=")[0] for path in (run.directory / "checkpoints").iterdir())
    assert names == ["epoch", "last"]


def test_nothing_is_written_where_nothing_is_wanted(core, scan: Scan, tmp_path: Path) -> None:
    core.train(scan, execution={"enable_checkpointing": False}, directory=tmp_path, nepochs=1)
    assert list(tmp_path.iterdir()) == []


def test_a_second_log_leaves_the_first_one_alone(core, run: Run, scan: Scan, listening) -> None:
    (first,) = run.directory.rglob("metrics.csv")
    before = first.read_bytes()
    at_once, logged = listening(stop_after=1), {"logger_backend": "csv", "enable_checkpointing": False}
    core.train(scan, execution=logged, callbacks=[at_once], directory=run.directory, nepochs=1)
    assert first.read_bytes() == before
    assert len(list(run.directory.rglob("metrics.csv"))) == 2


def test_the_same_seed_gives_the_same_network(core, run: Run, scan: Scan) -> None:
    same, other = (core.train(scan, nepochs=EPOCHS, batch_size=8, seed=seed) for seed in (1, 2))
    assert [row["train_loss"] for row in same.history] == run.losses
    assert [row["train_loss"] for row in other.history] != run.losses


def test_the_network_is_written_on_the_way(
    core, scan: Scan, listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_SECONDS_BETWEEN_WRITES", 0.0)
    seen: list[int] = []
    listener.on_step = lambda step: seen.append(
        len(read_bundle(tmp_path).history) if (tmp_path / "wts.h5.zip").exists() else 0
    )
    core.train(scan, callbacks=[listener], directory=tmp_path, nepochs=3, batch_size=24)
    assert seen == [0, 1, 2]


def test_training_ends_when_the_test_scan_is_explained_no_better(core, scan: Scan, listener) -> None:
    stubborn = {"early_stop_patience": 2, "learning_rate": 1e-12}
    trained = core.train(scan, execution=stubborn, callbacks=[listener], test_scan=scan, nepochs=40)
    # The mean over a test scan moves a little with the order of its frames.
    assert 3 <= len(trained.history) < 40
    assert not trained.interrupted
    assert all(np.isfinite(row["val_loss"]) for row in trained.history)
    assert listener.messages("checkpoints") == []
