"""The network that was trained last in this process, which older programs save without naming one."""

from __future__ import annotations

import logging
from pathlib import Path

from ptycho_config.errors import BundleError
from ptycho_core.backend import TrainedModel

__all__ = ["last", "remember", "save"]

_LOG = logging.getLogger("ptychopinn")

_last: TrainedModel | None = None


def remember(trained: TrainedModel) -> None:
    """Keep a network for `save`, which older programs call without naming one."""
    global _last
    _last = trained


def last() -> TrainedModel | None:
    """Return the network trained last; None where none was."""
    return _last


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
