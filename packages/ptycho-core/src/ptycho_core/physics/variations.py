"""A probe that varies from frame to frame: what each frame adds to the probe that all share (OPR)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Complex64, Float64

__all__ = ["ProbeVariations", "mean_power", "parted", "stacked"]


@dataclass(frozen=True, eq=False)
class ProbeVariations:
    """OPR modes of the probe, and the weights with which each frame adds them to it.

    Mode p of the probe of frame m is probe[p] + sum over l of weights[m, l] shapes[p, l]. Where frames have
    an intensity, it is a factor on all of that.

    Attributes:
        shapes: (P, L, N, N) of each of the P incoherent modes of the probe, in the units of the probe.
        weights: (M, L) real; NaN in frames that were not used.
    """

    shapes: Complex64[np.ndarray, "mode variation n n"]
    weights: Float64[np.ndarray, "frame variation"]

    def select(self, frames: Any) -> ProbeVariations:
        """Return those of some frames, as NumPy selects rows."""
        return replace(self, weights=self.weights[frames])


def stacked(
    probe: Complex64[np.ndarray, "mode n n"], variations: ProbeVariations | None
) -> Complex64[np.ndarray, "function n n"]:
    """Return all functions of a probe below each other, for what is done to each of them alike."""
    if variations is None:
        return probe
    return np.concatenate([probe, variations.shapes.reshape(-1, *probe.shape[1:])])


def parted(
    functions: Complex64[np.ndarray, "function n n"], n_modes: int, variations: ProbeVariations | None
) -> tuple[Complex64[np.ndarray, "mode n n"], ProbeVariations | None]:
    """Return probe and variations of what `stacked` made of them."""
    if variations is None:
        return functions, None
    shapes = functions[n_modes:].reshape(variations.shapes.shape)
    return functions[:n_modes], replace(variations, shapes=shapes)


def mean_power(
    probe: Complex64[np.ndarray, "mode n n"],
    variations: ProbeVariations | None,
    frame_intensity: Float64[np.ndarray, " frame"] | None = None,
) -> float:
    """Return the power of the probe that a frame sees, the mean over all frames that were used.

    Args:
        frame_intensity: (M,) relative to the mean; all frames have the same when None.
    """
    if variations is None:
        return float(np.square(np.abs(probe), dtype=np.float64).sum())
    used = np.isfinite(variations.weights).all(axis=1)
    weights = np.insert(variations.weights[used], 0, 1.0, axis=1)
    if frame_intensity is not None:
        weights *= np.sqrt(frame_intensity[used])[:, None]
    functions = [probe, *np.moveaxis(variations.shapes, 1, 0)]
    overlaps = [[np.vdot(one, other).real for other in functions] for one in functions]
    return float(np.sum(weights.T @ weights * overlaps)) / max(len(weights), 1)
