"""Memory that does not suffice, recognised."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory"]

#: What torch says in a plain RuntimeError where it has no class for it.
_SIGNS = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a processor or the host ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
