"""Adaptive gradient clipping: each unit's gradient is held against the weights it would change."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["clip_adaptively"]

#: Units of no weight yet may still learn.
_SMALLEST_NORM = 1e-3


def clip_adaptively(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Shrink gradients, in place, to `limit` times the norm of the weights, unit by unit.

    A unit is one row of the first axis, the output of a layer; a vector or a number is one unit.

    Source:
        A. Brock, S. De, S. L. Smith and K. Simonyan, ICML (2021), arXiv:2102.06171, section 4.
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        gradient = _unit_norms(parameter.grad)
        allowed = _unit_norms(parameter.detach()).clamp_min(_SMALLEST_NORM) * limit
        parameter.grad.mul_((allowed / gradient.clamp_min(1e-12)).clamp_max(1.0))


def _unit_norms(values: Tensor) -> Tensor:
    """Norms that broadcast against the values; complex numbers count by their modulus."""
    axes = tuple(range(1, values.ndim)) if values.ndim > 1 else None
    return torch.linalg.vector_norm(values, dim=axes, keepdim=True)
