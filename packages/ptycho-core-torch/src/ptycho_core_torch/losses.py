"""What training makes small. Source of the formulas: docs/reference/physics.md, "Likelihoods and losses"."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["amplitude_mae", "complex_mae", "negative_log_likelihood", "poisson_deviance", "total_variation"]

#: Rates are never taken below this before a logarithm, in counts.
_LOWEST_RATE = 1e-8
#: Under the root of an intensity, relative to unit amplitude, so that its gradient stays finite at zero.
_UNDER_ROOT = 1e-12


def poisson_deviance(rate: Tensor, counts: Tensor, good: Tensor | None = None) -> Tensor:
    """Mean of rate - T + T log(T / rate) over the good pixels; 0 where they agree, T = 0 included."""
    rate = rate.clamp_min(_LOWEST_RATE)
    each = rate - counts + torch.xlogy(counts, counts.clamp_min(_LOWEST_RATE) / rate)
    return _mean(each, good)


def negative_log_likelihood(rate: Tensor, counts: Tensor, good: Tensor | None = None) -> Tensor:
    """Mean of rate - T log(rate) over the good pixels, without the factorial."""
    rate = rate.clamp_min(_LOWEST_RATE)
    return _mean(rate - counts * rate.log(), good)


def amplitude_mae(rate: Tensor, amplitude: Tensor, good: Tensor | None = None) -> Tensor:
    """Mean of |sqrt(rate) - amplitude| over the good pixels."""
    return _mean(((rate + _UNDER_ROOT).sqrt() - amplitude).abs(), good)


def total_variation(obj: Tensor) -> Tensor:
    """Sum of squared forward differences of real and imaginary part, along both axes of (…, h, w)."""
    down, right = obj.diff(dim=-2), obj.diff(dim=-1)
    return sum(((d.real.square() + d.imag.square()).sum() for d in (down, right)), obj.real.new_zeros(()))


def complex_mae(obj: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean difference of the moduli plus that of the phases, the latter around the circle."""
    moduli = (obj.abs() - truth.abs()).abs()
    return _mean(moduli + torch.angle(obj * truth.conj()).abs(), weights)


def _mean(values: Tensor, good: Tensor | None) -> Tensor:
    if good is None:
        return values.mean()
    weights = good.expand_as(values)
    return (values * weights).sum() / weights.sum().clamp_min(1)
