"""Where the network of a command runs: read for the core that runs, and announced (POLICY-001)."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ptycho_config import hardware
from ptycho_config.execution import (
    ExecutionConfig,
    NetworkExecution,
    PyTorchExecutionConfig,
    RuntimeExecutionConfig,
    TensorFlowExecutionConfig,
    UnresolvedPyTorchExecution,
)
from ptycho_config.flags import given_flags
from ptycho_config.hardware import Accelerator
from ptycho_config.naming import Part
from ptycho_config.sources import Loaded, load_parts
from ptycho_dispatch.log import held_warnings

if TYPE_CHECKING:
    from ptycho_core.backend import Backend

__all__ = [
    "BY_RUNTIME",
    "ForBackend",
    "announce_execution",
    "beside_the_solver",
    "check_core",
    "core_prefix",
    "execution_parts",
    "load_for_backend",
    "runs_by_default",
]

logger = logging.getLogger("ptycho")
#: Stands for a backend where no core computes, but a runtime.
BY_RUNTIME = "runtime"
#: Backend -> prefix of the settings of its core, the model as it is read, and its heading.
_CORES: dict[str, tuple[str, type[ExecutionConfig], str]] = {
    "pytorch": ("torch_", UnresolvedPyTorchExecution, "Execution on PyTorch"),
    "tensorflow": ("tensorflow_", TensorFlowExecutionConfig, "Execution on TensorFlow"),
    BY_RUNTIME: ("runtime_", RuntimeExecutionConfig, "Execution by a runtime (networks that were exported)"),
}
_PREFIXES = {prefix for prefix, _, _ in _CORES.values()}


def execution_parts(fields: Iterable[str] | None = None, *, runtimes: bool = False) -> tuple[Part[Any], ...]:
    """Return the settings of both cores under their prefixes; reading them looks for no GPU.

    Args:
        fields: those of the cores that the command offers; all when not given.
        runtimes: whether it offers those of runtimes too.
    """
    offered = None if fields is None else frozenset(fields)
    return tuple(
        Part(
            model,
            prefix=prefix,
            exclude=frozenset()
            if offered is None or backend == BY_RUNTIME
            else frozenset(model.model_fields) - offered,
            title=title,
        )
        for backend, (prefix, model, title) in _CORES.items()
        if runtimes or backend != BY_RUNTIME
    )


def core_prefix(backend: str) -> str:
    """Give the prefix of a core's settings; PyTorch's where the name is unknown."""
    return _CORES.get(backend, _CORES["pytorch"])[0]


def beside_the_solver(backend: str, accelerator: Accelerator) -> tuple[NetworkExecution, list[str]]:
    """Return how a network runs where the accelerator is the solver's setting, and what that warns of."""
    kind = PyTorchExecutionConfig if backend == "pytorch" else TensorFlowExecutionConfig
    with held_warnings() as warned:
        where = kind(accelerator=accelerator, logger_backend=None)
    return where, warned


class ForBackend(NamedTuple):
    """What a command was told, and for which core.

    Attributes:
        backend: the core that runs.
        execution: the settings of that core.
        others: the other models, in the order of the parts.
        warned: the warnings that came with the configuration.
        foreign: flags for another core that were given.
    """

    backend: str
    execution: Loaded[Any]
    others: tuple[Loaded[Any], ...]
    warned: list[str]
    foreign: list[str]


def check_core(told: ForBackend, find: Callable[[str], Backend] | None = None) -> Backend:
    """Return the core that runs; refuse what cannot run here, before any directory is made.

    Args:
        find: gives the core of a name; the installed one when not given.
    Raises:
        BackendUnavailableError: the core is not installed, or its framework is not.
        PolicyError: POLICY-001, a GPU that the core was asked to use is absent.
    """
    from ptycho_core.backend import get_backend, require_backend

    core = require_backend(told.backend, find=find or get_backend)
    accelerator = told.execution.config.accelerator
    if isinstance(told.execution.config, PyTorchExecutionConfig):
        hardware.refuse_absent_gpu(accelerator)
    else:
        sees_gpu = any(device.startswith("cuda") for device in core.availability().devices)
        flag = f"--{_CORES[told.backend][0].rstrip('_')}-accelerator"
        hardware.require_accelerator(accelerator, cuda_available=sees_gpu, flag=flag)
    return core


def load_for_backend(
    parts: Sequence[Part[Any]],
    arguments: argparse.Namespace,
    *,
    also: Iterable[Part[Any]] = (),
    otherwise: Callable[[Any], str | None] = lambda config: None,
) -> ForBackend:
    """Build the models of a command; PyTorch is asked for a GPU only where it is the core that runs.

    Args:
        parts: the first names the backend in its field `backend`.
        also: models that a YAML file may configure although this command does not use them.
        otherwise: the backend for the first model where that names none, or `BY_RUNTIME`; PyTorch where this
            does not either.
    Raises:
        ConfigError: as for `load_parts`.
    """
    sources = {"flags": given_flags(arguments), "env": os.environ, "yaml": arguments.config, "also": also}
    with held_warnings() as warned:
        every = load_parts(parts, **sources)
    first = every[0].config
    backend = first.backend or otherwise(first)
    backend = backend if backend in _CORES else "pytorch"
    named = list(zip(parts, every, strict=True))
    executions = {part.prefix: loaded for part, loaded in named if part.prefix in _PREFIXES}
    prefix = core_prefix(backend)
    foreign = [
        setting.origin.strip("`")
        for other, loaded in executions.items()
        if other != prefix
        for setting in loaded.settings.values()
        if setting.source == "flag" and setting.name.startswith(other)
    ]
    execution = executions[prefix]
    if backend == "pytorch":
        with held_warnings() as fallback:
            execution = _resolved(execution)
        warned += fallback
    others = tuple(loaded for part, loaded in named if part.prefix not in _PREFIXES)
    return ForBackend(backend, execution, others, warned, foreign)


def _resolved(asked: Loaded[UnresolvedPyTorchExecution]) -> Loaded[PyTorchExecutionConfig]:
    """Look for a GPU where `auto` asks for one; every setting keeps where it came from."""
    config = PyTorchExecutionConfig.of(asked.config)
    accelerator = replace(asked.settings["accelerator"], value=config.accelerator)
    return Loaded(config, {**asked.settings, "accelerator": accelerator}, asked.elsewhere)


def runs_by_default(execution: Loaded[Any]) -> bool:
    """Tell whether it was left open how to run: no `--torch-*` flag, and no accelerator by any other way."""
    return execution.source_of("accelerator") == "default" and not any(
        setting.source == "flag" and setting.origin.startswith("`--torch-")
        for setting in execution.settings.values()
    )


def announce_execution(told: ForBackend) -> None:
    """Log the warnings that came with the configuration, and that the defaults hold where they do."""
    for text in told.warned:
        logger.warning("%s", text)
    if told.foreign:
        where = "a runtime" if told.backend == BY_RUNTIME else f"the backend `{told.backend}`"
        logger.warning("Without effect with %s: %s.", where, ", ".join(sorted(told.foreign)))
    if told.backend == "pytorch" and runs_by_default(told.execution):
        logger.info(
            "POLICY-001: No --torch-* execution flags provided. Backend will use GPU-first defaults "
            "(auto-detects CUDA if available, else CPU). CPU-only users should pass --torch-accelerator cpu."
        )
