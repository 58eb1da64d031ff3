"""Where the network of a command runs: read for the core that runs, and announced (POLICY-001)."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

from pydantic import model_validator

from ptycho_config import hardware
from ptycho_config.execution import NetworkExecution, PyTorchExecutionConfig, TensorFlowExecutionConfig
from ptycho_config.flags import given_flags
from ptycho_config.naming import Part
from ptycho_config.sources import Loaded, load_parts
from ptycho_dispatch.log import held_warnings

__all__ = [
    "ForBackend",
    "announce_execution",
    "check_core",
    "core_prefix",
    "execution_parts",
    "load_for_backend",
    "runs_by_default",
    "unresolved",
]

#: Backend -> prefix of the settings of its core, the model, and its heading.
_CORES: dict[str, tuple[str, type[NetworkExecution], str]] = {
    "pytorch": ("torch_", PyTorchExecutionConfig, "Execution on PyTorch"),
    "tensorflow": ("tensorflow_", TensorFlowExecutionConfig, "Execution on TensorFlow"),
}
_PREFIXES = {prefix for prefix, _, _ in _CORES.values()}


class _Unresolved(PyTorchExecutionConfig):
    """Execution as asked for: looking for a GPU costs the import of PyTorch, and a warning without one."""

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        """Leave `auto` to the run."""
        return self


def execution_parts(fields: Iterable[str] | None = None) -> tuple[Part[Any], ...]:
    """Return the settings of both cores under their prefixes.

    Args:
        fields: those that the command offers; all when not given.
    """
    offered = None if fields is None else frozenset(fields)
    return tuple(
        Part(
            model,
            prefix=prefix,
            exclude=frozenset() if offered is None else frozenset(model.model_fields) - offered,
            title=title,
        )
        for prefix, model, title in _CORES.values()
    )


def core_prefix(backend: str) -> str:
    """Give the prefix of a core's settings; PyTorch's where the name is unknown."""
    return _CORES.get(backend, _CORES["pytorch"])[0]


def unresolved(parts: Sequence[Part[Any]]) -> tuple[Part[Any], ...]:
    """Return the same parts, none of which looks for a GPU."""
    return tuple(
        Part(_Unresolved, part.prefix, part.rename, part.exclude, part.title)
        if part.model_class is PyTorchExecutionConfig
        else part
        for part in parts
    )


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


def check_core(told: ForBackend) -> None:
    """Refuse what cannot run here, before any directory is made.

    Raises:
        BackendUnavailableError: the core is not installed, or its framework is not.
        PolicyError: POLICY-001, a GPU that the core was asked to use is absent.
    """
    from ptycho_core.backend import require_backend

    core, accelerator = require_backend(told.backend), told.execution.config.accelerator
    if isinstance(told.execution.config, PyTorchExecutionConfig):
        hardware.refuse_absent_gpu(accelerator)
    else:
        sees_gpu = any(device.startswith("cuda") for device in core.availability().devices)
        flag = f"--{_CORES[told.backend][0].rstrip('_')}-accelerator"
        hardware.require_accelerator(accelerator, cuda_available=sees_gpu, flag=flag)


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
        otherwise: the backend for the first model where that names none; PyTorch where this does not either.
    Raises:
        ConfigError: as for `load_parts`.
    """
    sources = {"flags": given_flags(arguments), "env": os.environ, "yaml": arguments.config, "also": also}
    with held_warnings():  # the second reading says them
        first = load_parts(unresolved(parts), **sources)[0].config
    backend = first.backend or otherwise(first)
    backend = backend if backend in _CORES else "pytorch"
    read = parts if backend == "pytorch" else unresolved(parts)
    with held_warnings() as warned:
        every = load_parts(read, **sources)
    named = list(zip(parts, every, strict=True))
    executions = {part.prefix: loaded for part, loaded in named if part.prefix in _PREFIXES}
    own = _CORES[backend][0]
    foreign = [
        setting.origin.strip("`")
        for prefix, loaded in executions.items()
        if prefix != own
        for setting in loaded.settings.values()
        if setting.source == "flag" and setting.name.startswith(prefix)
    ]
    others = tuple(loaded for part, loaded in named if part.prefix not in _PREFIXES)
    return ForBackend(backend, executions[own], others, warned, foreign)


logger = logging.getLogger("ptycho")


def runs_by_default(execution: Loaded[Any]) -> bool:
    """Tell whether nobody chose how to run: no `--torch-*` flag, and no accelerator by any other way."""
    return execution.source_of("accelerator") == "default" and not any(
        setting.source == "flag" and setting.origin.startswith("`--torch-")
        for setting in execution.settings.values()
    )


def announce_execution(told: ForBackend) -> None:
    """Log the warnings that came with the configuration, and that the defaults hold where they do."""
    for text in told.warned:
        logger.warning("%s", text)
    if told.foreign:
        logger.warning(
            "Without effect with the backend `%s`: %s.", told.backend, ", ".join(sorted(told.foreign))
        )
    if told.backend == "pytorch" and runs_by_default(told.execution):
        logger.info(
            "POLICY-001: No --torch-* execution flags provided. Backend will use GPU-first defaults "
            "(auto-detects CUDA if available, else CPU). CPU-only users should pass --torch-accelerator cpu."
        )
