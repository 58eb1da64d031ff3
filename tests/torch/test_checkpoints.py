"""Lightning's checkpoints in the output directory: which, by what, and with nothing to execute inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import torch
from ptycho_config.errors import ConfigError, OutputError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.result.callbacks import Callback
from ptycho_core_torch import checkpoints

#: Trains in moments; what is written is the same whatever the network.
NARROW = ModelConfig(architecture="fno_vanilla", fno_width=8, fno_blocks=2)


@pytest.fixture(scope="module")
def scan(simulated) -> Scan:
    return simulated(frames=40, frame_px=32, start_kind="true", seed=2).scan


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write after every epoch, however short it is."""
    monkeypatch.setattr(checkpoints, "_WAIT", 0.0)


class Events(Callback):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def on_event(self, event) -> None:
        self.messages.append(event.message)


def train(scan: Scan, directory: Path, *, tested: bool = False, nepochs: int = 3, **execution: Any):
    events = Events()
    trained = get_backend("pytorch").train(
        scan,
        TrainingConfig(nepochs=nepochs, batch_size=20, model=NARROW),
        PyTorchExecutionConfig(accelerator="cpu", logger_backend="none", **execution),
        callbacks=[events],
        test_scan=scan if tested else None,
        directory=directory,
    )
    return trained, events.messages


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


def test_the_last_weights_and_the_best_ones_are_there(scan: Scan, tmp_path: Path, at_once: None) -> None:
    trained, _ = train(scan, tmp_path, tested=True)
    best, last = names(tmp_path)
    assert best.startswith("epoch=")
    assert last == "last.ckpt"
    # `weights_only` refuses whatever is not a tensor or a plain value.
    stored = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    weights = trained.network.state_dict()
    assert {name.removeprefix("network."): None for name in stored["state_dict"]} == dict.fromkeys(weights)
    assert all(torch.equal(stored["state_dict"][f"network.{name}"], weights[name]) for name in weights)
    assert stored["global_step"] == 6
    epoch = int(best.split("=")[1].split("-")[0])
    losses = [row["val_loss"] for row in trained.history]
    assert losses[epoch] == min(losses)


@pytest.mark.parametrize(("top_k", "count"), [(0, 0), (1, 1), (2, 2), (-1, 3)])
def test_so_many_of_the_best_are_kept(
    scan: Scan, tmp_path: Path, at_once: None, top_k: int, count: int
) -> None:
    train(scan, tmp_path, checkpoint_save_top_k=top_k)
    assert len(names(tmp_path)) == count + 1


def test_the_best_may_be_the_largest(scan: Scan, tmp_path: Path, at_once: None) -> None:
    trained, _ = train(scan, tmp_path, checkpoint_mode="max", checkpoint_monitor_metric="train_residual")
    residuals = [row["residual"] for row in trained.history]
    assert names(tmp_path)[0].startswith(f"epoch={residuals.index(max(residuals))}-")


def test_short_epochs_are_not_spent_on_writing(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first epoch and the end of the run nothing is written before its time."""
    monkeypatch.setattr(checkpoints, "_WAIT", 1e9)
    train(scan, tmp_path, nepochs=6, checkpoint_save_top_k=-1)
    assert names(tmp_path) == ["epoch=0-step=2.ckpt", "epoch=5-step=12.ckpt", "last.ckpt"]
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12


def test_without_a_test_scan_its_twin_in_training_ranks_and_that_is_said(scan: Scan, tmp_path: Path) -> None:
    _, said = train(scan, tmp_path / "a")
    assert said == ["Without a test scan there is no val_loss: train_loss ranks the checkpoints."]
    _, said = train(scan, tmp_path / "b", tested=True)
    assert said == []
    _, said = train(scan, tmp_path / "c", checkpoint_monitor_metric="train_nll")
    assert said == []


def test_no_checkpoints_where_they_are_switched_off(scan: Scan, tmp_path: Path) -> None:
    _, said = train(scan, tmp_path, enable_checkpointing=False)
    assert said == []
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_there_is_not_is_refused(scan: Scan, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="`--torch-checkpoint-monitor-metric accuracy` is not one of val_loss"
    ):
        train(scan, tmp_path, checkpoint_monitor_metric="accuracy")


def test_a_checkpoint_that_cannot_be_written_ends_the_run_in_one_line(scan: Scan, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(OutputError, match=r"checkpoints: cannot be written"):
        train(scan, tmp_path)
