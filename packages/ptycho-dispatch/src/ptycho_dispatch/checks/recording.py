"""The real dispatcher with a runner that writes down what it is given instead of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.legacy import params
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_dispatch.dispatcher import run_cdi_example_with_backend

__all__ = ["Recorder", "a_config", "registry_kept"]


def a_config() -> TrainingConfig:
    """Return a training that differs from the defaults where the registry can show it."""
    return TrainingConfig(model=ModelConfig(N=96, gridsize=2), nepochs=7, batch_size=3, gradient_clip_val=1.5)


class Recorder:
    """Dispatches, and remembers the registry and the execution at the moment the runner is called.

    Attributes:
        registry: the registry as the runner found it; None until the runner is called.
        execution: what the runner was given.
        on_call: also called then.
    """

    def __init__(self, on_call: Callable[[str], None] = lambda backend: None) -> None:
        self.registry: dict[str, Any] | None = None
        self.execution: Any = None
        self._on_call = on_call

    @property
    def runners(self) -> Mapping[str, Callable[..., Any]]:
        """What takes the place of the backends' runners."""
        return {"pytorch": self._runner("pytorch"), "tensorflow": self._runner("tensorflow")}

    def dispatch(
        self, config: TrainingConfig, execution: PyTorchExecutionConfig | None = None, **more: Any
    ) -> Any:
        """Call the dispatcher as a client does, but for the runners."""
        return run_cdi_example_with_backend(
            "no scan is opened", None, config, torch_execution_config=execution, runners=self.runners, **more
        )

    def _runner(self, backend: str) -> Callable[..., Any]:
        def run(train: Any, test: Any, config: Any, **options: Any) -> Any:
            self.registry = dict(params.cfg)
            self.execution = options["execution_config"]
            self._on_call(backend)
            return None, None, {}

        return run


@contextmanager
def registry_kept() -> Iterator[None]:
    """Give the one registry of the process back as it was."""
    before = dict(params.cfg)
    try:
        yield
    finally:
        params.cfg.clear()
        params.cfg.update(before)
