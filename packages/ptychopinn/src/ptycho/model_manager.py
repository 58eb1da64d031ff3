"""`ptycho.model_manager` under its legacy path: the network trained last, saved and opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptycho._last_trained import save
from ptycho.workflows.components import load_inference_bundle

__all__ = ["load", "save"]


def load(path: str | Path) -> Any:
    """Open a bundle and return its network, with `predict`.

    Raises:
        See `ptycho.workflows.components.load_inference_bundle`.
    """
    return load_inference_bundle(path)[0]
