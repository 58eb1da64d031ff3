"""`ptycho_torch.model_manager` under its legacy path: save and open a network of the PyTorch side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptycho_torch.workflows.components import load_inference_bundle_torch

__all__ = ["load_torch_bundle", "save_torch_bundle"]


def save_torch_bundle(
    models_dict: Mapping[str, Any] | Any, base_path: str | Path, *_: Any, **__: Any
) -> Path:
    """Write `wts.h5.zip` into a directory, or a file that ends in `.zip`; further arguments are ignored.

    Args:
        models_dict: `results["models"]` of a training, or one of the networks in it.
    Raises:
        OutputError: it could not be written.
    """
    model = models_dict["diffraction_to_obj"] if isinstance(models_dict, Mapping) else models_dict
    return getattr(model, "trained", model).save(base_path)


def load_torch_bundle(
    base_path: str | Path, model_name: str = "diffraction_to_obj"
) -> tuple[Any, dict[str, Any]]:
    """Open a bundle; both model names give the same network.

    Raises:
        See `ptycho_torch.workflows.components.load_inference_bundle_torch`.
    """
    return load_inference_bundle_torch(base_path, None, model_name)
