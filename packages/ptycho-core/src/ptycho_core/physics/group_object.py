"""One object shared by the members of a group: merge their patches, extract them again.

The members of a group see overlapping parts of the sample. `merge` lays their patches on one small canvas
and averages; `extract` cuts each member's view out of it. With d_c the position of member c relative to the
group's centre, minus the anchor delta = d_0 - round(d_0) that makes whole steps between members whole:

    G   = sum_c T_{d_c} pad(w o_c) / sum_c T_{d_c} pad(w)      0 where the denominator is below 1e-6
    e_c = crop( T_{-d_c} G )

T is the bilinear translation of `physics.translate`. All positions are (y, x).
Source: docs/reference/physics.md, "Groups that share an object".
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Complex128, Float64, Inexact

from ptycho_config.errors import DataError
from ptycho_core.physics.forward import translate

PROBE_WEIGHT_FLOOR = 1e-3
MERGE_THRESHOLD = 1e-6
"""Weight below which a pixel counts as not covered."""


def anchor(relative_px: Inexact[np.ndarray, "member 2"]) -> Float64[np.ndarray, "2"]:
    """Return delta = d_0 - round(d_0), which moves the first member onto whole pixels."""
    first = np.asarray(relative_px[0], np.float64)
    return first - np.rint(first)


def padding_px(relative_px: Inexact[np.ndarray, "*group 2"]) -> int:
    """Return q = ceil(max |d| + 0.5): what a canvas needs on every side so that nothing is clipped."""
    return int(np.ceil(np.abs(relative_px).max(initial=0.0) + 0.5))


def probe_weights(probe: Complex[np.ndarray, "*mode n n"]) -> Float64[np.ndarray, "n n"]:
    """Return |P|^2 / max |P|^2 + 1e-3, all modes together: the trust in each pixel of a patch."""
    power = (np.abs(probe.reshape(-1, *probe.shape[-2:])).astype(np.float64) ** 2).sum(axis=0)
    return power / max(power.max(), np.finfo(float).tiny) + PROBE_WEIGHT_FLOOR


def merge(
    patches: Complex[np.ndarray, "member n n"],
    relative_px: Inexact[np.ndarray, "member 2"],
    *,
    weights: Inexact[np.ndarray, "n n"] | None = None,
    pad_px: int | None = None,
) -> Complex128[np.ndarray, "m m"]:
    """Merge the patches of one group into its object, (N + 2q, N + 2q).

    Args:
        relative_px: positions minus the group's centre. That is minus `coords_relative` of the group.
        weights: trust in the pixels of a patch; ones by default.
        pad_px: q; by default just enough for this group.

    Raises:
        DataError: `pad_px` would clip a member.
    """
    steps, pad_px = _steps(relative_px, pad_px)
    weights = np.ones(patches.shape[-2:]) if weights is None else weights
    placed_weights = np.pad(weights.astype(np.float64), pad_px)
    total, norm = 0.0, 0.0
    for patch, step in zip(patches.astype(np.complex128), steps, strict=True):
        total = total + translate(np.pad(weights * patch, pad_px), step)
        norm = norm + translate(placed_weights, step)
    covered = norm >= MERGE_THRESHOLD
    return np.where(covered, total / np.where(covered, norm, 1), 0)


def extract(
    merged: Complex[np.ndarray, "m m"], relative_px: Inexact[np.ndarray, "member 2"], side: int
) -> Complex128[np.ndarray, "member {side} {side}"]:
    """Cut each member's patch out of the group's object by the exact inverse shifts."""
    pad_px = (merged.shape[-1] - side) // 2
    steps, _ = _steps(relative_px, pad_px)
    inner = slice(pad_px, pad_px + side)
    return np.stack([translate(merged.astype(np.complex128), -step)[inner, inner] for step in steps])


def trimmed(merged: Complex[np.ndarray, "m m"], side: int) -> Complex[np.ndarray, "{side} {side}"]:
    """Return the central part of a group's object, centred on the group's centre plus the anchor."""
    pad_px = (merged.shape[-1] - side) // 2
    return merged[pad_px : pad_px + side, pad_px : pad_px + side]


def _steps(relative_px: np.ndarray, pad_px: int | None) -> tuple[np.ndarray, int]:
    steps = np.asarray(relative_px, np.float64) - anchor(relative_px)
    needed = int(np.ceil(np.abs(steps).max()))
    if pad_px is None:
        pad_px = padding_px(relative_px)
    if pad_px < needed:
        raise DataError(
            f"a padding of {pad_px} px clips members that lie {needed} px from their group's centre; "
            f"use `padding_px` of all groups"
        )
    return steps, pad_px
