"""The largest of each 2 x 2 pixels, in the form that whoever runs the layers does well.

TensorFlow's own pooling is quick where TensorFlow runs it. Where XLA compiles it, its gradient has no
deterministic form on any device, and takes nine times as long as that of three comparisons; those in turn
take tens of times as long as the pooling where they are not compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jaxtyping import Float

from ptycho_core_tf.framework import tf

__all__ = ["compiled_whole", "largest_of_four"]

_COMPILED_WHOLE: ContextVar[bool] = ContextVar("compiled_whole", default=False)


@contextmanager
def compiled_whole() -> Iterator[None]:
    """Say that XLA compiles all that is traced meanwhile."""
    token = _COMPILED_WHOLE.set(True)
    try:
        yield
    finally:
        _COMPILED_WHOLE.reset(token)


def largest_of_four(features: Float[tf.Tensor, "group h w c"]) -> Float[tf.Tensor, "group h//2 w//2 c"]:
    """Return the largest of each 2 x 2 pixels; among equals the gradient goes to one of them."""
    if not _COMPILED_WHOLE.get():
        return tf.nn.max_pool2d(features, 2, 2, "VALID")
    rows = tf.maximum(features[:, 0::2], features[:, 1::2])
    return tf.maximum(rows[:, :, 0::2], rows[:, :, 1::2])
