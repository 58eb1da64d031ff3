"""The numbers that the weights of a new network are drawn from.

TensorFlow's own seed is one for the whole process, and with determinism on nothing can be drawn without it.
Here a network has numbers of its own, and whatever else the process draws stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from ptycho_core_tf.framework import tf

__all__ = ["seeded", "uniform"]

_RANDOM: ContextVar[np.random.Generator | None] = ContextVar("first weights", default=None)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let the networks that are built meanwhile begin with the weights of this seed."""
    token = _RANDOM.set(np.random.default_rng(seed))
    try:
        yield
    finally:
        _RANDOM.reset(token)


def uniform(shape: Sequence[int], limit: float, dtype: str) -> tf.Tensor:
    """Draw numbers between -limit and limit; others each time where nothing is `seeded`."""
    random = _RANDOM.get() or np.random.default_rng()
    return tf.constant(random.uniform(-limit, limit, tuple(shape)), dtype)
