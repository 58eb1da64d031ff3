"""Merge patches on a canvas and cut them out again, at whole pixels, with gradients.

Frames look at whole-pixel windows; what is left of a position moves the probe, not the object. So merging
and cutting copy pixels and blur nothing, and each is the other's adjoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ptycho_core_tf.framework import tf

__all__ = ["add_patches", "cut", "merge", "place"]

#: A canvas' (height, width): known numbers, or tensors where it follows from the positions of a batch.
Shape = tuple[Any, Any]


def place(patches: tf.Tensor, corners: tf.Tensor, shape: Shape) -> tf.Tensor:
    """Add patches (B, n, n) into an empty canvas (H, W), top-left pixels on `corners` (B, 2), (y, x)."""
    side = patches.shape[-1]

    @tf.custom_gradient
    def placed(patches: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return _add(patches, corners, shape), lambda gradient: _take(gradient, corners, side)

    return placed(patches)


def cut(canvas: tf.Tensor, corners: tf.Tensor, side: int) -> tf.Tensor:
    """Cut the square patches (B, side, side) whose top-left pixels are `corners` (B, 2) out of (H, W)."""

    @tf.custom_gradient
    def taken(canvas: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        size = tf.shape(canvas)
        return _take(canvas, corners, side), lambda gradient: _add(gradient, corners, (size[0], size[1]))

    return taken(canvas)


def merge(
    patches: tf.Tensor, corners: tf.Tensor, weights: tf.Tensor, shape: Shape
) -> tuple[tf.Tensor, tf.Tensor]:
    """Average patches where they overlap.

    Args:
        patches: (B, n, n) complex; corners: (B, 2) whole pixels; weights: (n, n), above 0.
    Returns:
        The canvas (H, W), 0 where no patch lies, and the sum of the weights (H, W).
    """
    each = tf.broadcast_to(weights, tf.concat([tf.shape(patches)[:1], tf.shape(weights)], 0))
    covered = place(tf.ensure_shape(each, patches.shape), corners, shape)
    total = place(patches * tf.cast(weights, patches.dtype), corners, shape)
    return total / tf.cast(tf.where(covered > 0, covered, tf.ones_like(covered)), total.dtype), covered


def add_patches(canvas: tf.Variable | np.ndarray, patches: tf.Tensor, corners: tf.Tensor) -> None:
    """Add patches (B, n, n) into a canvas (H, W) that is there already, without a gradient.

    Into an array, patch by patch, which on a CPU takes a fiftieth of the time that a variable needs.
    """
    side = patches.shape[-1]
    if isinstance(canvas, np.ndarray):
        for patch, (top, left) in zip(patches.numpy(), corners.numpy(), strict=True):
            canvas[top : top + side, left : left + side] += patch
        return
    along = tf.range(side, dtype=tf.int64)
    rows, columns = corners[:, 0, None] + along, corners[:, 1, None] + along
    shape = tf.concat([tf.shape(corners)[:1], [side, side]], 0)
    rows = tf.broadcast_to(rows[:, :, None], shape)
    columns = tf.broadcast_to(columns[:, None, :], shape)
    canvas.scatter_nd_add(tf.stack([rows, columns], -1), patches)


def _add(patches: tf.Tensor, corners: tf.Tensor, shape: Shape) -> tf.Tensor:
    height, width = (tf.cast(side, tf.int64) for side in shape)
    pixels = _pixels(corners, patches.shape[-1], width)
    canvas = tf.math.unsorted_segment_sum(tf.reshape(patches, [-1]), pixels, height * width)
    return tf.reshape(canvas, tf.stack([height, width]))


def _take(canvas: tf.Tensor, corners: tf.Tensor, side: int) -> tf.Tensor:
    pixels = _pixels(corners, side, tf.shape(canvas, tf.int64)[1])
    return tf.reshape(tf.gather(tf.reshape(canvas, [-1]), pixels), [-1, side, side])


def _pixels(corners: tf.Tensor, side: int, width: tf.Tensor) -> tf.Tensor:
    """Positions in the flattened canvas of all pixels of all patches."""
    along = tf.range(side, dtype=tf.int64)
    rows, columns = corners[:, 0, None] + along, corners[:, 1, None] + along
    return tf.reshape(rows[:, :, None] * width + columns[:, None, :], [-1])
