"""The dispatcher under its legacy path. What it calls is looked up here and in `ptycho_torch` when it is
called.

So a program that replaces `update_legacy_dict` in this module, or `run_cdi_example_torch` in
`ptycho_torch.workflows.components`, sees its own called.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import ptycho.params
from ptycho import _settings
from ptycho.config.config import InferenceConfig, TrainingConfig, update_legacy_dict
from ptycho_config.errors import ConfigError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_dispatch import dispatcher

__all__ = [
    "load_inference_bundle_with_backend",
    "run_cdi_example_with_backend",
    "train_cdi_model_with_backend",
]

_LOG = logging.getLogger("ptychopinn")
_TORCH = "ptycho_torch.workflows.components"
_TENSORFLOW = "ptycho.workflows.components"
_MODELS = ("autoencoder", "diffraction_to_obj")


def run_cdi_example_with_backend(
    train_data: Any,
    test_data: Any,
    config: TrainingConfig,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    do_stitching: bool = False,
    torch_execution_config: PyTorchExecutionConfig | None = None,
) -> tuple[Any, Any, dict[str, Any]]:
    """Train with the backend of the config, `PTYCHO_BACKEND`, or TensorFlow; with `do_stitching` reconstruct
    too.

    Returns:
        Amplitude and phase, None without stitching, and a dict; `backend` in it names what ran.
    Raises:
        ValueError: an unknown backend, or other wrong settings.
        BackendUnavailableError: the backend cannot work here; with the ways out.
    """

    def torch(train: Any, test: Any, config: Any, *, execution_config: Any, **_: Any) -> Any:
        run = importlib.import_module(_TORCH).run_cdi_example_torch
        turned = (flip_x, flip_y, transpose, M, do_stitching)
        return run(train, test, config, *turned, execution_config=execution_config)

    def tensorflow(train: Any, test: Any, config: Any, *, execution_config: Any, **_: Any) -> Any:
        run = importlib.import_module(_TENSORFLOW).run_cdi_example_tensorflow
        turned = (flip_x, flip_y, transpose, M, do_stitching)
        return run(train, test, config, *turned, execution_config=execution_config)

    return dispatcher.run_cdi_example_with_backend(
        train_data,
        test_data,
        _with_backend(config),
        flip_x,
        flip_y,
        transpose,
        M,
        do_stitching,
        torch_execution_config,
        update_registry=_update_registry,
        runners={"pytorch": torch, "tensorflow": tensorflow},
    )


def train_cdi_model_with_backend(
    train_data: Any,
    test_data: Any,
    config: TrainingConfig,
    torch_execution_config: PyTorchExecutionConfig | None = None,
) -> dict[str, Any]:
    """Train as `run_cdi_example_with_backend` does, without an object.

    Raises:
        See `run_cdi_example_with_backend`.
    """

    def torch(train: Any, test: Any, config: Any, *, execution_config: Any, **_: Any) -> Any:
        run = importlib.import_module(_TORCH).train_cdi_model_torch
        return None, None, run(train, test, config, execution_config=execution_config)

    def tensorflow(train: Any, test: Any, config: Any, *, execution_config: Any, **_: Any) -> Any:
        run = importlib.import_module(_TENSORFLOW).run_cdi_example_tensorflow
        return None, None, run(train, test, config, execution_config=execution_config)[2]

    return dispatcher.train_cdi_model_with_backend(
        train_data,
        test_data,
        _with_backend(config),
        torch_execution_config,
        update_registry=_update_registry,
        runners={"pytorch": torch, "tensorflow": tensorflow},
    )


def load_inference_bundle_with_backend(
    bundle_dir: str | Path,
    config: InferenceConfig | TrainingConfig,
    model_name: str = "diffraction_to_obj",
    torch_execution_config: PyTorchExecutionConfig | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Open a bundle with the backend of the config, `PTYCHO_BACKEND`, or the one that trained it.

    Args:
        model_name: `autoencoder` or `diffraction_to_obj`; both are the same network.
    Returns:
        The network, with `predict`, and the registry's parameters.
    Raises:
        ValueError: an unknown backend or model.
        BundleError, BackendUnavailableError: see their docstrings.
    """
    from ptycho import _work

    check_model_name(model_name)
    named = _settings.backend_of(config, _LOG, default="")
    if named:
        config = config.model_copy(update={"backend": named})
        _, execution = dispatcher.prepare(config, torch_execution_config, update_registry=_update_registry)
    else:
        execution = torch_execution_config
        _update_registry(None, config)
    if named == "pytorch":
        load = importlib.import_module(_TORCH).load_inference_bundle_torch
        return load(bundle_dir, config, model_name, execution_config=execution)
    stored = _work.open_network(bundle_dir, backend=named or None, execution=execution, log=_LOG)
    return stored.model, ptycho.params.params()


def _update_registry(_registry: Any, config: Any) -> None:
    """Bring the registry up to date, by whatever this module holds under that name at the time."""
    update_legacy_dict(ptycho.params.cfg, config)


def _with_backend(config: TrainingConfig) -> TrainingConfig:
    """Settle the backend; a config that names one is passed on as it is."""
    backend = _settings.backend_of(config, _LOG, default=config.backend)
    if backend == config.backend:
        return config
    return config.model_copy(update={"backend": backend})


def check_model_name(name: str) -> None:
    """Refuse a name other than those of the two networks that older programs know.

    Raises:
        ConfigError: lists them.
    """
    if name not in _MODELS:
        raise ConfigError(f"`model_name` is {name!r}; expected one of {', '.join(_MODELS)}.")
