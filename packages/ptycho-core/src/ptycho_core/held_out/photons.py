"""Set a share of the photons of every pixel aside."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from ptycho_core.coded_frames import CodedFrames

__all__ = ["HELD_TO_KEPT", "SHARE", "hold_out_into", "hold_out_photons"]

#: Part of the photons that is held out; and how many they are for each that is kept.
SHARE = 0.1
HELD_TO_KEPT = SHARE / (1 - SHARE)
#: Frames are split in runs of about so many pixels, so that what lies between takes little room.
_PIXELS = 1 << 20


def hold_out_photons(
    amplitude: Float32[np.ndarray, "frame n n"],
    random: np.random.Generator,
    *,
    share: float = SHARE,
) -> tuple[Float32[np.ndarray, "frame n n"], Float32[np.ndarray, "frame n n"]]:
    """Return the amplitudes of the photons that are kept and of those that are held out.

    Each photon is held out with the chance `share`, whatever becomes of the others, so both parts are
    Poisson counts and independent where the counts are. Counts that are not whole (frames divided by a
    gain) are first rounded up or down at random, with the chances that leave their mean: this adds a
    variance of a quarter of a count at most.

    Args:
        amplitude: square roots of photon counts.
    """
    kept, held = np.empty_like(amplitude), np.empty_like(amplitude)
    hold_out_into(amplitude, random, kept=kept, held=held, share=share)
    return kept, held


def hold_out_into(
    amplitude: Float32[np.ndarray, "frame n n"] | CodedFrames,
    random: np.random.Generator,
    *,
    kept: Float32[np.ndarray, "frame n n"] | CodedFrames,
    held: Float32[np.ndarray, "frame n n"] | CodedFrames,
    share: float = SHARE,
) -> None:
    """Do what `hold_out_photons` does, and write both parts where there is room for them."""
    step = max(1, _PIXELS // max(1, amplitude.shape[1] * amplitude.shape[2]))
    for first in range(0, len(amplitude), step):
        part = slice(first, first + step)
        counts = np.square(amplitude[part], dtype=np.float64)
        near = np.rint(counts)
        fractions = np.abs(counts - near) > 1e-2 + 1e-5 * counts
        if fractions.any():
            near[fractions] = np.floor(counts[fractions] + random.random(int(np.count_nonzero(fractions))))
        whole = near.astype(np.int64)
        chosen = random.binomial(whole, share)
        held[part] = np.sqrt(chosen).astype(np.float32)
        kept[part] = np.sqrt(whole - chosen).astype(np.float32)
