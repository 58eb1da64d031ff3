"""Two processes on the CPU train one network: as one process with their batches, and they end as one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import torch
from ptycho_config.errors import ConfigError, PolicyError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.learning.order import Shuffled

PROGRAM = Path(__file__).parent / "train_together.py"


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes left the results of every training of the program."""
    out = tmp_path_factory.mktemp("together")
    environment = {name: value for name, value in os.environ.items() if not name.endswith("RANK")}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """The program as a module, for the same trainings in one process."""
    spec = importlib.util.spec_from_file_location("train_together", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights(out: Path, name: str, rank: int) -> dict[str, np.ndarray]:
    with np.load(out / f"{name}-{rank}.npz") as file:
        return dict(file)


def report(out: Path, name: str) -> list[dict[str, Any]]:
    """How a training ended and what was heard of it, in each process."""
    return [json.loads((out / f"report-{rank}.json").read_text())[name] for rank in (0, 1)]


@pytest.mark.parametrize("name", ["neighbourhoods", "groups"])
def test_both_end_with_the_weights_of_one_process(
    together: Path, program: ModuleType, tmp_path: Path, name: str
) -> None:
    first, second = weights(together, name, 0), weights(together, name, 1)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    alone = program.train(tmp_path, name, accum_steps=2).network.state_dict()
    begun = program.train(tmp_path, name, (program.Hear(stop_after=1),), accum_steps=2)
    start = begun.network.state_dict()
    assert set(alone) == set(first)
    moved = max(float((alone[key] - start[key]).abs().max()) for key in alone)
    assert moved > 1e-3
    # The order of a sum in float32 is all that differs, a few steps long.
    assert max(np.abs(first[key] - alone[key].numpy()).max() for key in first) < 1e-4 * moved


def test_a_time_budget_is_one_for_both(together: Path) -> None:
    """The learning rate follows the clock, and two clocks would lead to two networks."""
    first, second = report(together, "timed")
    assert first["ended"] == second["ended"]
    ours, theirs = weights(together, "timed", 0), weights(together, "timed", 1)
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_only_the_first_process_speaks_and_writes(together: Path) -> None:
    first, second = report(together, "neighbourhoods")
    assert first["heard"] == ["checkpoints", "start", "epoch 1", "epoch 2"]
    assert second["heard"] == []
    written = sorted(path.relative_to(together / "groups") for path in (together / "groups").rglob("*.*"))
    assert [str(path) for path in written if path.parts[0] == "lightning_logs"] == [
        "lightning_logs/version_0/metrics.csv"
    ]
    assert Path("checkpoints/last.ckpt") in written
    assert not [path for path in written if path.suffix == ".part"]


def test_one_process_that_wants_to_stop_stops_both_after_the_same_step(together: Path) -> None:
    first, second = report(together, "stopped")
    assert first["ended"] == second["ended"] == "2 epochs, interrupted"
    assert first["heard"][-2:] == ["stopped", "epoch 2"]
    ours, theirs = weights(together, "stopped", 0), weights(together, "stopped", 1)
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("not-finite", "TrainingError: The loss is not finite at step 6"),
        ("no-memory", "TrainingError: Out of memory with `--batch-size 12`. Try `--batch-size 6`."),
    ],
)
def test_what_fails_in_the_second_process_is_said_by_the_first(together: Path, name: str, said: str) -> None:
    first, second = report(together, name)
    assert first["ended"].startswith(said)
    assert second["ended"].startswith(said)
    assert "The last good weights are in" in first["ended"]
    kept = get_backend("pytorch").load(together / name, PyTorchExecutionConfig(accelerator="cpu"))
    assert [row["epoch"] for row in kept.history] == [1]


def test_what_fails_in_the_first_process_ends_the_second(together: Path) -> None:
    first, second = report(together, "callback")
    assert first["ended"] == "OutputError: the disk is full"
    assert second["ended"] == "TrainingError: Another process of this training failed."


@pytest.mark.parametrize("size", [1, 4])
def test_the_shares_of_all_processes_are_the_batches_of_one(size: int) -> None:
    alone = Shuffled(23, 6, size=size, seed=3)
    shares = [Shuffled(23, 2, size=size, seed=3, rank=rank, n_ranks=3) for rank in range(3)]
    for _ in range(2):
        together = [batch for step in zip(*shares, strict=True) for batch in step]
        assert together == list(alone)
        assert len(together) == 6
    assert [len(share) for share in shares] == [2, 2, 2]


@pytest.fixture(scope="module")
def scan(simulated) -> Scan:
    return simulated(frames=24, frame_px=32, start_kind="true", seed=2).scan


def train(scan: Scan, batch_size: int | None = None, **execution: Any) -> None:
    settings = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none", **execution)
    get_backend("pytorch").train(scan, TrainingConfig(nepochs=1, batch_size=batch_size), settings)


@pytest.mark.parametrize("strategy", ["ddp_spawn", "fsdp", "deepspeed", "quantum"])
def test_strategies_that_cannot_work_here_are_refused(scan: Scan, strategy: str) -> None:
    with pytest.raises(ConfigError, match=rf"`--torch-strategy {strategy}` is not one of auto, ddp,"):
        train(scan, devices=2, strategy=strategy)


def test_processes_that_would_each_train_for_themselves_are_refused(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("TORCHELASTIC_RUN_ID", "1"),
        ("WORLD_SIZE", "2"),
        ("RANK", "0"),
        ("LOCAL_RANK", "0"),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"2 processes were started.*--torch-devices 2"):
        train(scan)


def test_a_program_without_a_file_cannot_be_started_again(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["-c"])
    with pytest.raises(ConfigError, match=r"`python -c` are not\. Use `ptycho train`"):
        train(scan, devices=2)


@pytest.mark.finding("EXEC-ACCUM-002")
def test_the_batches_of_one_process_count_for_accumulation(scan: Scan) -> None:
    """24 frames by 12 are two batches, and one for each of two processes."""
    train(scan, batch_size=12, accum_steps=2)
    with pytest.raises(PolicyError, match=r"EXEC-ACCUM-002: .*an epoch has only 1 batch"):
        train(scan, batch_size=12, accum_steps=2, devices=2)


@pytest.mark.gpu
def test_more_gpus_than_there_are_are_refused(scan: Scan) -> None:
    wanted = torch.cuda.device_count() + 1
    execution = PyTorchExecutionConfig(accelerator="cuda", logger_backend="none", devices=wanted)
    with pytest.raises(ConfigError, match="Use `--torch-devices 1`"):
        get_backend("pytorch").train(scan, TrainingConfig(nepochs=1), execution)
