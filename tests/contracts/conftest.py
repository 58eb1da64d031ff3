"""The cores as the contract sees them: the same tests for each that is registered and works here.

Nothing below asks which core it has but the table `OUT_OF_MEMORY`, since every framework has an error of its
own for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ptycho_config.execution import NetworkExecution, PyTorchExecutionConfig, TensorFlowExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import Backend, discover_backends
from ptycho_core.learning.advice import flag_prefix
from ptycho_core.learning.trained import Trained
from ptycho_core.result.callbacks import Callback, EpochReport, RunStart, StepReport
from ptycho_core.result.history import RunEvent

BACKENDS = discover_backends()
EXECUTIONS: dict[str, type[NetworkExecution]] = {
    "pytorch": PyTorchExecutionConfig,
    "tensorflow": TensorFlowExecutionConfig,
}
#: A network that trains in moments; what is tested with it holds whatever the architecture.
QUICK = {"architecture": "fno", "fno_width": 4, "fno_blocks": 1, "fno_cnn_blocks": 1, "fno_modes": 4}
#: More numbers than any machine has, less than a 64-bit address.
_NUMBERS = 2**56


def _too_much_for_torch(tensor: Any) -> Any:
    import torch

    return tensor + torch.empty(_NUMBERS).sum()


def _too_much_for_tensorflow(tensor: Any) -> Any:
    from ptycho_core_tf.framework import tf

    # Its own allocator asks again for ten seconds before it gives up; that of the host says no at once.
    with tf.control_dependencies([tf.numpy_function(lambda: np.empty(_NUMBERS), [], tf.float64)]):
        return tf.identity(tensor)


#: What asks a framework, in the middle of a step, for memory that no machine has.
OUT_OF_MEMORY = {"pytorch": _too_much_for_torch, "tensorflow": _too_much_for_tensorflow}


@dataclass(frozen=True)
class Core:
    """A backend that works here, on one CPU and as quiet as can be."""

    backend: Backend

    @property
    def name(self) -> str:
        return self.backend.name

    def execution(self, **settings: Any) -> NetworkExecution:
        """How it runs: on the CPU, without a logger, but for these settings."""
        return EXECUTIONS[self.name](**{"accelerator": "cpu", "logger_backend": "none", **settings})

    @property
    def flags(self) -> str:
        """How the flags of its execution begin."""
        return flag_prefix(self.execution())

    def train(
        self,
        scan: Scan,
        *,
        model: dict[str, Any] | None = None,
        execution: dict[str, Any] | None = None,
        callbacks: Sequence[Callback] = (),
        test_scan: Scan | None = None,
        directory: Path | None = None,
        start: Any = None,
        **config: Any,
    ) -> Trained:
        """Train on a scan: a quick network unless `model` says otherwise."""
        if start is None:
            config.setdefault("seed", 1)
        chosen = QUICK if model is None and start is None else model or {}
        return self.backend.train(
            scan,
            TrainingConfig(model=ModelConfig(**chosen), **config),
            self.execution(**execution or {}),
            callbacks=callbacks,
            test_scan=test_scan,
            directory=directory,
            start=start,
        )

    def load(self, bundle: Path, **settings: Any) -> Trained:
        return self.backend.load(bundle, self.execution(**settings))

    def network(self) -> ModuleType:
        """The module of its network; what stands in it has the same names in every core."""
        return import_module(f"{type(self.backend).__module__.partition('.')[0]}.network")

    @property
    def asking_for_too_much(self) -> Callable[[Any], Any]:
        """Return a tensor as it is, but ask for more memory than any machine has on the way."""
        return OUT_OF_MEMORY[self.name]


@dataclass
class Listener(Callback):
    """Remembers all that it hears, and asks a run to stop after so many steps."""

    stop_after: int = 10**9
    starts: list[RunStart] = field(default_factory=list)
    steps: list[StepReport] = field(default_factory=list)
    epochs: list[EpochReport] = field(default_factory=list)
    events: list[RunEvent] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)

    def on_start(self, start: RunStart) -> None:
        self.starts.append(start)

    def on_step(self, step: StepReport) -> None:
        self.steps.append(step)

    def on_epoch(self, epoch: EpochReport) -> None:
        self.epochs.append(epoch)

    def on_event(self, event: RunEvent) -> None:
        self.events.append(event)

    def on_end(self, *, failed: bool) -> None:
        self.ends.append(failed)

    def should_stop(self) -> bool:
        return len(self.steps) >= self.stop_after

    def messages(self, kind: str) -> list[str]:
        return [event.message for event in self.events if event.kind == kind]


def working(name: str) -> Core:
    """Return a core, or skip where it cannot work."""
    found = BACKENDS[name].availability()
    if not found.installed:
        pytest.skip(f"`{name}`: {found.reason}")
    return Core(BACKENDS[name])


# PyTorch comes first by its name: loaded after TensorFlow it has crashed on some hosts.
@pytest.fixture(scope="module", params=sorted(BACKENDS))
def core(request: pytest.FixtureRequest) -> Core:
    """Each core in turn."""
    return working(request.param)


@pytest.fixture(scope="session")
def at_work() -> Callable[[str], Core]:
    """Return the core of a name, or skip where it cannot work."""
    return working


@pytest.fixture(scope="session")
def quick() -> dict[str, Any]:
    """The model of a network that trains in moments."""
    return QUICK


@pytest.fixture(scope="session")
def cores() -> dict[str, Core]:
    """All cores, by name; skips unless there are two of them."""
    found = {name: working(name) for name in sorted(BACKENDS)}
    if len(found) < 2:
        pytest.skip("one core alone has nobody to agree with")
    return found


@pytest.fixture(scope="session")
def listening() -> type[Listener]:
    """Make someone who listens to a run."""
    return Listener


@pytest.fixture
def listener() -> Listener:
    """Someone who listens to a run."""
    return Listener()


@pytest.fixture(scope="session")
def scan(simulated) -> Scan:
    """24 frames of 32 x 32 pixels with the true probe and the true object."""
    return simulated(frames=24, frame_px=32, start_kind="true", seed=1).scan
