"""Between a trained network of any core and the bundle on disk; the format lives in `ptycho_core.bundle`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptycho_config.errors import BundleError
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.bundle import Bundle, read_bundle, write_bundle
from ptycho_core.learning.trained import Trained

__all__ = ["SCALARS", "Stored", "read_stored", "write_stored"]

#: Scalars of a `PtychoNetwork` that are stored beside the tensors of its architecture.
SCALARS = ("log_scale", "back_projection_std")


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
        BundleError: the bundle is refused, or its configuration is not valid here.
    """
    bundle = read_bundle(path)
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


def write_stored(
    path: str | Path,
    trained: Trained,
    *,
    weights: Mapping[str, np.ndarray],
    probe: np.ndarray,
    backend: str,
    versions: Mapping[str, str],
) -> Path:
    """Write `wts.h5.zip`.

    Args:
        weights: tensors of the architecture and `SCALARS`, float32, in the canonical layout.
        probe: (P, N, N) in the gauge of the configuration.
        backend, versions: the core that writes, and its framework; those that trained it are kept.
    """
    model = trained.training.model
    bundle = Bundle(
        architecture=model.architecture,
        model=model.model_dump(mode="json"),
        training=trained.training.model_dump(mode="json", exclude={"model"}),
        weights=dict(weights),
        scaling=trained.scaling,
        probe=probe,
        probe_given=trained.probe_given.astype(np.complex64),
        history=trained.history,
        # Who opens a bundle and writes it again did not train it.
        provenance={"backend": backend, **versions, **trained.provenance},
    )
    return write_bundle(path, bundle)
