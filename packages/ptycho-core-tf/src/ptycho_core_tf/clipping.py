"""Adaptive gradient clipping: each unit's gradient is held against the weights it would change."""

from __future__ import annotations

from collections.abc import Sequence

from ptycho_core_tf.framework import tf
from ptycho_core_tf.weights import output_axis

__all__ = ["clip_adaptively"]

#: Units of no weight yet may still learn.
_SMALLEST_NORM = 1e-3


def clip_adaptively(
    parameters: Sequence[tf.Variable], gradients: Sequence[tf.Tensor | None], limit: float
) -> list[tf.Tensor | None]:
    """Return the gradients shrunk to `limit` times the norm of the weights, unit by unit.

    A unit is one output of a layer, the first axis in the canonical layout; a vector or a number is one.

    Source:
        A. Brock, S. De, S. L. Smith and K. Simonyan, ICML (2021), arXiv:2102.06171, section 4.
    """
    return [
        None if gradient is None else _clipped(parameter, gradient, limit)
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]


def _clipped(parameter: tf.Variable, gradient: tf.Tensor, limit: float) -> tf.Tensor:
    axis = output_axis(parameter)
    allowed = tf.maximum(_unit_norms(tf.convert_to_tensor(parameter), axis), _SMALLEST_NORM) * limit
    return gradient * tf.minimum(allowed / tf.maximum(_unit_norms(gradient, axis), 1e-12), 1.0)


def _unit_norms(values: tf.Tensor, axis: int) -> tf.Tensor:
    """Norms that broadcast against the values."""
    rank = len(values.shape)
    axes = [i for i in range(rank) if i != axis % rank] if rank > 1 else None
    return tf.sqrt(tf.reduce_sum(tf.square(values), axes, keepdims=True))
