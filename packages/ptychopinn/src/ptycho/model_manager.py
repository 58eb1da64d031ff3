"""`ptycho.model_manager` under its legacy path: the network trained last, saved and opened."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ptycho_config.errors import BundleError
from ptycho_core.backend import TrainedModel

__all__ = ["load", "remember", "save"]

_LOG = logging.getLogger("ptychopinn")
_last: TrainedModel | None = None


def remember(trained: TrainedModel) -> None:
    """Keep a network for `save`, which older programs call without naming one."""
    global _last
    _last = trained


def save(out_prefix: str | Path) -> Path:
    """Write the network trained last: into the directory as `wts.h5.zip`, or to a path that ends in `.zip`.

    Raises:
        BundleError: none was trained in this process.
        OutputError: it could not be written.
    """
    if _last is None:
        raise BundleError("there is no trained network to save in this process; train one first.")
    path = _last.save(out_prefix)
    _LOG.info("The model is %s.", path)
    return path


def load(path: str | Path) -> Any:
    """Open a bundle and return its network, with `predict`.

    Raises:
        See `ptycho.workflows.components.load_inference_bundle`.
    """
    from ptycho.workflows.components import load_inference_bundle

    return load_inference_bundle(path)[0]
