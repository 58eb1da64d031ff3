"""The workflow on PyTorch under its legacy path, which `ptycho.workflows.backend_selector` calls."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import ptycho.params
from ptycho import _example, _work
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_dispatch.dispatcher import LegacyFlips

__all__ = ["load_inference_bundle_torch", "run_cdi_example_torch", "train_cdi_model_torch"]

# The client listens to this name for what it started through `ptycho`, whichever core does the work.
_LOG = logging.getLogger("ptychopinn")


def run_cdi_example_torch(
    train_data: Any,
    test_data: Any,
    config: Any,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    do_stitching: bool = False,
    *,
    execution_config: PyTorchExecutionConfig | None = None,
) -> tuple[Any, Any, dict[str, Any]]:
    """Train on PyTorch; with `do_stitching` reconstruct the test scan, or the one trained on.

    Args:
        execution_config: where and how to run; GPU first when not given (POLICY-001).
    Returns:
        Amplitude and phase, None without stitching, and a dict of results.
    Raises:
        BackendUnavailableError: PyTorch cannot work here; with the ways out.
        ConfigError, DataError, PolicyError, TrainingError: see their docstrings.
    """
    return _example.run_example(
        train_data,
        test_data,
        config,
        backend="pytorch",
        orientation=LegacyFlips(flip_x, flip_y, transpose),
        do_stitching=do_stitching,
        execution=execution_config,
        log=_LOG,
    )


def train_cdi_model_torch(
    train_data: Any, test_data: Any, config: Any, *, execution_config: PyTorchExecutionConfig | None = None
) -> dict[str, Any]:
    """Train on PyTorch; the results of `run_cdi_example_torch` without an object.

    Raises:
        See `run_cdi_example_torch`.
    """
    return run_cdi_example_torch(train_data, test_data, config, execution_config=execution_config)[2]


def load_inference_bundle_torch(
    bundle_dir: str | Path,
    config: Any = None,
    model_name: str = "diffraction_to_obj",
    *,
    execution_config: PyTorchExecutionConfig | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Open a bundle on PyTorch, whichever core trained it.

    Returns:
        The network, with `predict`, and the registry's parameters.
    Raises:
        BundleError: nothing is there, or it is damaged, or of an older program.
        BackendUnavailableError: PyTorch cannot work here; with the ways out.
    """
    stored = _work.open_network(bundle_dir, backend="pytorch", execution=execution_config, log=_LOG)
    return stored.model, ptycho.params.params()
