"""A trained network as older programs use it: `predict` on scaled arrays, over `TrainedModel.reconstruct`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import ptycho.params
from ptycho import _client
from ptycho._offsets import Offsets, Origin
from ptycho_config.errors import ConfigError, DataError
from ptycho_core.backend import TrainedModel
from ptycho_core.physics import cut_patches
from ptycho_core.physics.canvas import on_whole_pixels
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan

__all__ = ["PtychoModel"]


class PtychoModel:
    """A trained network.

    Attributes:
        trained: the network of its backend.
        frame_px, gridsize: what it was trained on.
        intensity_scale: the factor that callers multiply `X` by.
    """

    def __init__(
        self,
        trained: TrainedModel,
        *,
        frame_px: int,
        gridsize: int,
        intensity_scale: float,
        log: logging.Logger,
    ) -> None:
        self.trained = trained
        self.frame_px, self.gridsize, self.intensity_scale = frame_px, gridsize, intensity_scale
        self._log = log

    def reconstruct(self, scan: Scan) -> Reconstruction:
        """Reconstruct a scan.

        Raises:
            ConfigError: its frames have another size than those of the training.
        """
        self._check("N", scan.frame_px, self.frame_px)
        progress = _client.Progress(self._log, "Reconstructing", in_epochs=False)
        with _client.spoken_warnings(self._log):
            return self.trained.reconstruct(scan, callbacks=(progress,))

    def predict(self, inputs: Sequence[Any], **_: Any) -> np.ndarray:
        """Return the object patch of each group, (G, N, N, 1) complex64, centred on the group.

        Patches are cut from the object on which all frames agreed, so that those which overlap are equal
        there.

        Args:
            inputs: `X` times `params.get('intensity_scale')`, (G, N, N, C), and the offsets of its container.
        Raises:
            ConfigError: N or gridsize differ from those of the training.
            DataError: the arrays have no such shape, or are not finite.
        """
        x, offsets = self._checked(inputs)
        x = x / np.float32(ptycho.params.get("intensity_scale", self.intensity_scale))
        origin = offsets.origin if isinstance(offsets, Offsets) else None
        scan, centres = _alone(x) if origin is None else _as_measured(x, origin)
        result = self.reconstruct(scan)
        obj, origin_px = on_whole_pixels(result.object, result.origin_px)
        pixels = np.floor(centres + 0.5).astype(np.int64) - origin_px.astype(np.int64)
        return cut_patches(obj, pixels, self.frame_px).astype(np.complex64)[..., None]

    def _checked(self, inputs: Sequence[Any]) -> tuple[np.ndarray, Any]:
        if not isinstance(inputs, list | tuple) or len(inputs) != 2:
            raise DataError(
                "`predict` expects a list of two: X times the intensity scale, and the local offsets."
            )
        x, offsets = np.asarray(inputs[0], np.float32), inputs[1]
        if x.ndim != 4 or x.shape[1] != x.shape[2] or len(x) != len(offsets):
            raise DataError(
                f"`predict` got arrays of shape {x.shape} and {np.shape(offsets)}; expected (groups, N, N, "
                "members) and the offsets of as many groups."
            )
        if not np.isfinite(x).all():
            raise DataError("`predict` got values that are not finite.")
        self._check("N", x.shape[1], self.frame_px)
        self._check("gridsize", round(x.shape[-1] ** 0.5), self.gridsize)
        return x, offsets

    def _check(self, name: str, found: int, trained: int) -> None:
        if found != trained:
            raise ConfigError(
                f"`{name}` is {found} here and {trained} in the model, which was trained with it. "
                f"Set `{name}` to {trained}, or train a model for {found}."
            )


def _as_measured(x: np.ndarray, origin: Origin) -> tuple[Scan, np.ndarray]:
    """Return the scan with these frames for its own, in its own unit, and the groups' centres (y, x)."""
    indices = origin.groups.indices
    used, first = np.unique(indices.ravel(), return_index=True)
    frames = np.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3])[first] / np.float32(origin.alpha)
    scan = replace(origin.scan.select(used), frames=frames, measurement="amplitude", dc="center")
    return scan, origin.groups.offsets


def _alone(x: np.ndarray) -> tuple[Scan, np.ndarray]:
    """Return a scan of frames whose place was not told: side by side, without overlap.

    Raises:
        ConfigError: frames of a group need their places.
    """
    if x.shape[-1] > 1:
        raise ConfigError(
            "`predict` needs the offsets of a container (`container.local_offsets`) where groups have "
            "several members; plain arrays do not say where these were measured."
        )
    n, columns = x.shape[1], int(np.ceil(np.sqrt(len(x))))
    number = np.arange(len(x))
    centres = np.column_stack([number // columns, number % columns]).astype(np.float64) * n
    frames = np.ascontiguousarray(x[..., 0])
    return Scan(
        name="frames",
        frames=frames,
        positions_px=centres,
        probe=np.ones((1, n, n), np.complex64),
        probe_source="estimated",  # which leaves the network its own
        measurement="amplitude",
        dc="center",
    ), centres
