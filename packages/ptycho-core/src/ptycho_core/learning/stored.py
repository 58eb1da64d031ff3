"""Between a trained network of any core and the bundle on disk; the format lives in `ptycho_core.bundle`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ptycho_config.errors import BundleError
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_config.naming import shortened
from ptycho_core.bundle import Bundle, read_bundle
from ptycho_core.learning.trained import SCALARS

__all__ = [
    "Stored",
    "checked_configuration",
    "read_stored",
]


@dataclass(frozen=True)
class Stored:
    """A bundle whose configuration is valid here.

    Attributes:
        tensors: of the architecture, by canonical name, in the canonical layout.
        scalars: the values of `SCALARS`.
    """

    path: str | Path
    bundle: Bundle
    model: ModelConfig
    training: TrainingConfig
    tensors: Mapping[str, np.ndarray]
    scalars: Mapping[str, np.ndarray]

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse tensors that are not those of the architecture.

        Args:
            shapes: of the tensors that a network of this model has, by name.
        Raises:
            BundleError: names some of them.
        """
        strange = sorted(set(self.tensors) ^ set(shapes))
        strange += [name for name in SCALARS if name not in self.scalars]
        strange += [
            name
            for name, shape in shapes.items()
            if name in self.tensors and tuple(self.tensors[name].shape) != tuple(shape)
        ]
        if strange:
            raise BundleError(
                f"{self.path}: the tensors are not those of `{self.model.architecture}` "
                f"({', '.join(strange[:4])}). Train it anew."
            )


def read_stored(path: str | Path) -> Stored:
    """Read a bundle of any core.

    Raises:
        BundleError: the bundle is refused, or its configuration is not valid here, or of a newer version.
    """
    return checked_configuration(path, read_bundle(path))


def checked_configuration(path: str | Path, bundle: Bundle) -> Stored:
    """Check the configuration that a file came with.

    Raises:
        BundleError: it is not valid here, or of a newer version.
    """
    unknown = {*bundle.model} - {*ModelConfig.model_fields}
    unknown |= {*bundle.training} - {*TrainingConfig.model_fields}
    if unknown:
        names = ", ".join(f"`{shortened(name)}`" for name in sorted(unknown)[:4])
        raise BundleError(
            f"{path}: it was trained with {names}, which ptycho-core {version('ptycho-core')} does not know: "
            "a newer version wrote it. Type `pip install --upgrade ptycho-core`, or train it anew."
        )
    try:
        model = ModelConfig.model_validate(bundle.model)
        training = TrainingConfig.model_validate({**bundle.training, "model": bundle.model})
    except ValueError as error:
        raise BundleError(
            f"{path}: its configuration is not valid here ({' '.join(str(error).split())}). Train it anew."
        ) from error
    if model.architecture != bundle.architecture:
        raise BundleError(
            f"{path}: the manifest names `{bundle.architecture}`, its configuration `{model.architecture}`. "
            "Train it anew."
        )
    tensors = dict(bundle.weights)
    scalars = {name: tensors.pop(name).reshape(()) for name in SCALARS if name in tensors}
    return Stored(path, bundle, model, training, tensors, scalars)
