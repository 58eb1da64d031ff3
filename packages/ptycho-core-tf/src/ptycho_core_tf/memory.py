"""Memory that does not suffice, recognised."""

from __future__ import annotations

from ptycho_core_tf.framework import tf

__all__ = ["is_out_of_memory"]


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a processor or the host ran out of memory."""
    return isinstance(error, tf.errors.ResourceExhaustedError | MemoryError)
