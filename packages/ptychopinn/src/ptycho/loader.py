"""`ptycho.loader` under its legacy path: grouped arrays in a container, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ptycho._offsets import Offsets
from ptycho_config.errors import ConfigError

if TYPE_CHECKING:
    from ptycho._offsets import Origin

__all__ = ["PtychoDataContainer", "load"]


class PtychoDataContainer:
    """Grouped arrays by the names that models and older programs use; images are (G, N, N, C).

    Attributes:
        X: amplitudes, mean energy (N/2)^2.
        local_offsets, coords_nominal, coords_true: members relative to their group, (G, 1, 2, C).
        global_offsets: centres of the groups, (G, 1, 2, 1) float64.
        nn_indices: (G, C).
        probe: as given.
    """

    def __init__(self, grouped: Mapping[str, Any], probe: Any) -> None:
        """Take what `RawData.generate_grouped_data` returns."""
        self._grouped = grouped
        self.X: np.ndarray = grouped["X_full"]
        self.local_offsets = self.coords_nominal = self.coords_true = grouped["coords_relative"]
        self.global_offsets = grouped["coords_offsets"]
        self.nn_indices = grouped["nn_indices"]
        self.probe = probe

    def __len__(self) -> int:
        return len(self.X)

    @property
    def origin(self) -> Origin | None:
        """The scan behind the arrays."""
        return getattr(self.local_offsets, "origin", None)

    @cached_property
    def Y(self) -> np.ndarray:
        """True patches, complex64; ones where they are not known."""
        truth = self._grouped.get("Y")
        return np.ones(self.X.shape, np.complex64) if truth is None else np.asarray(truth, np.complex64)

    @cached_property
    def Y_I(self) -> np.ndarray:
        """Modulus of the true patches."""
        return np.abs(self.Y).astype(np.float32)

    @cached_property
    def Y_phi(self) -> np.ndarray:
        """Phase of the true patches."""
        return np.angle(self.Y).astype(np.float32)

    @cached_property
    def norm_Y_I(self) -> float:
        """Factor from `X` to the root of counts: sqrt(nphotons / mean energy)."""
        from ptycho import params

        energy = float(np.square(self.X, dtype=np.float64).sum() / (len(self.X) * self.X.shape[-1]))
        return float(np.sqrt(params.get("nphotons") / energy))


def load(
    cb: Callable[[], Any], probeGuess: Any, which: str | None = None, create_split: bool = False
) -> PtychoDataContainer:
    """Put grouped data into a container.

    Args:
        cb: returns grouped data; with `create_split` the pair of it and the part to train on.
        which: `train` or `test`, with `create_split`.
    Raises:
        ConfigError: `which` is neither.
    """
    if not create_split:
        return PtychoDataContainer(cb(), probeGuess)
    grouped, fraction = cb()
    if which not in ("train", "test"):
        raise ConfigError(f"`which` is {which!r}; with `create_split` expected 'train' or 'test'.")
    end = int(len(grouped["X_full"]) * fraction)
    part = slice(None, end) if which == "train" else slice(end, None)
    return PtychoDataContainer({name: _part(value, part) for name, value in grouped.items()}, probeGuess)


def _part(value: Any, part: slice) -> Any:
    """Cut an array along its groups; the object and other things stay whole."""

    if not isinstance(value, np.ndarray) or value.ndim == 1 or (np.iscomplexobj(value) and value.ndim == 2):
        return value
    cut = value[part]
    if isinstance(value, Offsets) and value.origin is not None:
        from dataclasses import replace

        origin, groups = value.origin, value.origin.groups
        indices = groups.indices[part]
        smaller = type(groups)(
            indices, groups.offsets[part], groups.relative[part], np.unique(indices).astype(np.int64)
        )
        return Offsets.of(np.asarray(cut), replace(origin, groups=smaller))
    return cut
