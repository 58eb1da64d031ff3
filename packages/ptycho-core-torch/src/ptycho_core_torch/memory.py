"""Memory that does not suffice: recognise it, and say what to try."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory", "smaller_batch_advice", "smaller_inference_advice"]

#: What torch says in a plain RuntimeError where it has no class for it.
_SIGNS = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a processor or the host ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def smaller_batch_advice(batch_size: int) -> str:
    """Say how large the batches were and what to try next."""
    if batch_size == 1:
        return (
            "Out of memory with one frame or group a batch. Try `--torch-precision bf16-mixed`, or "
            "`--torch-accelerator cpu`."
        )
    return f"Out of memory with `--batch-size {batch_size}`. Try `--batch-size {batch_size // 2}`."


def smaller_inference_advice(batch_size: int) -> str:
    """Say how many frames or groups one step of inference had, and what to try next."""
    if batch_size == 1:
        return "Out of memory with one frame or group at a time. Try `--torch-accelerator cpu`."
    flag = "--torch-inference-batch-size"
    return f"Out of memory with `{flag} {batch_size}`. Try `{flag} {batch_size // 2}`."
