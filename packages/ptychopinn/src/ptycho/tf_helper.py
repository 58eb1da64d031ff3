"""`ptycho.tf_helper` under its legacy path: patches put together to the whole object. No TensorFlow is
needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ptycho._offsets import Offsets
from ptycho_config.errors import ConfigError, DataError
from ptycho_core.physics.stitching import reassemble_centred, stitch

__all__ = ["reassemble_position"]

#: Weight of what lies outside the middle of a patch, beside 1 inside: it fills the gaps between the middles.
_OUTSIDE = 1e-3


def reassemble_position(obj_tensor: Any, global_offsets: Any, M: int = 10) -> np.ndarray:
    """Average patches at their positions.

    Offsets of the client's data know the canvas: the result has its shape, (rows, columns), pixel for pixel,
    is made of the middles of the patches and, where these leave gaps, of the rest of the patches, and is 1
    where no frame looks. Other offsets give the older square canvas about the centre of mass, (side, side,
    1), 0 where no middle is.

    Args:
        obj_tensor: patches (n, N, N, 1), complex.
        global_offsets: (x, y) of each, in any shape that holds n pairs.
        M: side of the middle of a patch; even, at most N.
    Raises:
        ConfigError: `M` is odd or larger than a patch.
        DataError: not one position for each patch.
    """
    patches = np.asarray(obj_tensor)
    patches = patches.reshape(len(patches), *patches.shape[1:3]).astype(np.complex64)
    positions = np.asarray(global_offsets, np.float64).reshape(-1, 2)[:, ::-1]
    if len(positions) != len(patches):
        raise DataError(
            f"{len(patches)} patches and {len(positions)} positions cannot be put together; give one for "
            "each."
        )
    canvas = global_offsets.canvas_shape if isinstance(global_offsets, Offsets) else None
    if canvas is None:
        return reassemble_centred(patches, positions, M)[..., None]
    n = patches.shape[-1]
    if M % 2 or not 0 < M <= n:
        raise ConfigError(f"`M` is {M}; expected an even number from 2 to the side of a patch, {n}.")
    # Patches lie on whole pixels; what is left of a position has moved the probe.
    whole = np.floor(positions + 0.5)
    middle = np.abs(np.arange(n) - n // 2 + 0.5) < M / 2
    weights = np.where(np.outer(middle, middle), 1.0, _OUTSIDE)
    stitched = stitch(patches, whole, weights=weights)
    return on_canvas(stitched.object, stitched.origin_px, canvas)


def on_canvas(obj: np.ndarray, origin_px: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Lay an object onto a canvas whose pixel (0, 0) is scan coordinate (0, 0); 1 where it does not reach.

    Args:
        origin_px: scan coordinate (y, x) of the object's first pixel, whole numbers.
    """
    top, left = np.rint(origin_px).astype(int).tolist()
    image = np.ones(canvas, np.complex64)
    rows = slice(max(0, top), min(canvas[0], top + obj.shape[0]))
    columns = slice(max(0, left), min(canvas[1], left + obj.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        image[rows, columns] = obj[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
    return image
