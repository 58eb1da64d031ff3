"""When the memory does not suffice, a line says what to try, and what was learned is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import torch
from ptycho_config.errors import TrainingError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.learning.advice import smaller_batch_advice
from ptycho_core_torch.memory import is_out_of_memory
from ptycho_core_torch.network import PtychoNetwork

CPU = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
#: More than any machine has, less than a 64-bit address.
_NUMBERS = 2**56


def never_enough(device: str) -> None:
    """Ask for memory that is not there; the error is the processor's own."""
    torch.empty(_NUMBERS, device=device)


def raised() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def greedy(real, calls: list[int], fail, *, at: int):
    """Return passes that fail at one of its calls."""

    def passes(self, batch):
        calls.append(1)
        if len(calls) == at:
            fail()
        return real(self, batch)

    return passes


@pytest.mark.parametrize(
    "fail", [lambda: never_enough("cpu"), raised], ids=["the CPU's own", "the class of a GPU"]
)
def test_what_was_learned_is_kept_and_half_the_batch_is_advised(
    scan: Scan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fail
) -> None:
    monkeypatch.setattr(PtychoNetwork, "passes", greedy(PtychoNetwork.passes, [], fail, at=5))
    backend = get_backend("pytorch")
    with pytest.raises(TrainingError, match=r"Try `--batch-size 12`.*good weights are in"):
        backend.train(scan, TrainingConfig(nepochs=5), CPU, directory=tmp_path)
    monkeypatch.undo()
    kept = backend.load(tmp_path, CPU)
    assert [row["epoch"] for row in kept.history] == [1]
    assert np.isfinite(kept.reconstruct(scan).data_residual)
    assert not list(tmp_path.rglob("*.part"))


def test_nothing_replaces_an_earlier_network_where_nothing_was_learned(
    scan: Scan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend = get_backend("pytorch")
    bundle = backend.train(scan, TrainingConfig(nepochs=1), CPU).save(tmp_path).read_bytes()
    monkeypatch.setattr(PtychoNetwork, "passes", greedy(PtychoNetwork.passes, [], raised, at=1))
    with pytest.raises(TrainingError, match=r"Try `--batch-size 12`\.$"):
        backend.train(scan, TrainingConfig(nepochs=5), CPU, directory=tmp_path)
    assert (tmp_path / "wts.h5.zip").read_bytes() == bundle


def test_the_backward_pass_and_the_test_scan_may_run_out_too(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three batches of training, then those of the test scan.
    monkeypatch.setattr(PtychoNetwork, "passes", greedy(PtychoNetwork.passes, [], raised, at=4))
    with pytest.raises(TrainingError, match="Out of memory with `--batch-size 24`"):
        get_backend("pytorch").train(scan, TrainingConfig(nepochs=1), CPU, test_scan=scan)
    monkeypatch.undo()

    def backward(*_: object, **__: object) -> None:
        raised()

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with pytest.raises(TrainingError, match="Out of memory with `--batch-size 24`"):
        get_backend("pytorch").train(scan, TrainingConfig(nepochs=1), CPU)


def test_other_errors_stay_what_they_are(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(PtychoNetwork, "passes", greedy(PtychoNetwork.passes, [], fail, at=2))
    with pytest.raises(RuntimeError, match=r"^shapes do not match$"):
        get_backend("pytorch").train(scan, TrainingConfig(nepochs=1), CPU)
    assert not is_out_of_memory(ValueError("out of memory"))
    assert is_out_of_memory(MemoryError())


def test_the_smallest_batch_leads_to_other_advice() -> None:
    assert "--batch-size 1`" in smaller_batch_advice(2, CPU)
    assert "--batch-size" not in smaller_batch_advice(1, CPU)


@pytest.mark.gpu
def test_a_gpu_that_runs_out_is_understood(
    scan: Scan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> None:
        torch.empty(2**45, device="cuda")

    monkeypatch.setattr(PtychoNetwork, "passes", greedy(PtychoNetwork.passes, [], fail, at=5))
    execution = PyTorchExecutionConfig(accelerator="cuda", logger_backend="none")
    with pytest.raises(TrainingError, match=r"Try `--batch-size 12`.*good weights are in"):
        get_backend("pytorch").train(scan, TrainingConfig(nepochs=5), execution, directory=tmp_path)
