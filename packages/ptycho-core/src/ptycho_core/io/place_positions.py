"""The object's pixel, and the positions of a draft in it: scaled and turned as asked, on a fine grid.

The formulas are in `ptycho_core.io.units`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from ptycho_core.io.draft import Draft
from ptycho_core.io.frame_values import LARGEST_EXTENT_IN_METRES, require_sound_positions, warn
from ptycho_core.io.geometry import turned_positions
from ptycho_core.io.left_out import leave_out_lonely_frames
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.units import metres_to_pixels, object_pixel_m, on_grid

__all__ = ["find_object_pixel", "place_positions"]

#: Sides of a pixel that differ by less are the same.
_SQUARE = 1e-3


def find_object_pixel(draft: Draft) -> Draft:
    """Take the object's pixel as it is known, else as energy, distance and detector give it.

    Oblong pixels of the detector are oblong ones of the object, the other way round.
    """
    raw = draft.raw
    if abs(raw.detector_aspect - 1) > _SQUARE:
        aspect = 1 / raw.detector_aspect
        draft = draft.noting(
            f"The detector's pixels are {raw.detector_aspect:.4g} times as high as wide, so the object's are "
            f"{aspect:.4g} times.",
            pixel_aspect=aspect,
        )
    follows = object_pixel_m(
        energy_ev=raw.energy_ev,
        distance_m=raw.distance_m,
        detector_pixel_m=raw.detector_pixel_m,
        frame_px=draft.frame_px,
    )
    known = raw.pixel_size_m
    if follows is None:
        return replace(draft, pixel_size_m=known)
    if known is None:
        return draft.noting(
            f"A pixel of the object is {follows:.4g} m, "
            f"wavelength x distance / ({draft.frame_px} x detector pixel).",
            pixel_size_m=follows,
        )
    if abs(follows / known - 1) > 0.01:
        warn(
            f"{draft.name}: the object's pixel is said to be {known:.4g} m, while energy, distance and "
            f"detector pixel give {follows:.4g} m. The first is used.",
            finding="DATA-001",
        )
    return replace(draft, pixel_size_m=known)


def place_positions(draft: Draft) -> Draft:
    """Bring the positions to object pixels in the index convention, turned as asked, on a fine grid.

    Raises:
        DataError: they are lengths and the object's pixel is not known, or no positions of a scan.
    """
    raw, pixel_size_m = draft.raw, draft.pixel_size_m
    used = draft.frame_numbers
    positions = draft.positions if draft.all_positions is None else draft.all_positions
    unit_m, scale = raw.position_unit_m, draft.position_scale
    if unit_m is None and raw.position_unit_open and pixel_size_m is not None and len(draft.positions) > 1:
        extent = float(np.max(np.ptp(draft.positions, axis=0)))
        if 0 < extent < LARGEST_EXTENT_IN_METRES:
            draft = draft.noting(f"The positions span {extent:.3g} and are taken for metres.")
            unit_m = 1.0
    if unit_m is not None:
        aspect = draft.pixel_aspect
        positions = metres_to_pixels(positions, unit_m, pixel_size_m, draft.name, pixel_aspect=aspect)
        draft = draft.noting(f"Positions were divided by the object's pixel, {pixel_size_m:.4g} m.")
        scale = unit_m / pixel_size_m if pixel_size_m else 1.0
    else:
        positions = positions * scale
    turn = draft.options.positions_orientation
    if turn != "as-is":
        positions = turned_positions(positions, turn)
        draft = draft.noting(f"The positions were turned ({turn}).")
    positions, said = _scaled_and_turned(positions, draft.options, draft.pixel_aspect)
    draft = draft.noting(*said)
    if raw.position_convention == "center":
        draft = draft.noting(
            "Positions counted pixel centres; half a pixel was added so that index N/2 sits on them."
        )
    half = 0.5 if raw.position_convention == "center" else 0.0
    draft = replace(
        draft,
        positions=positions if used is None else positions[used],
        all_positions=None if used is None else positions,
        position_scale=scale,
    )
    draft = leave_out_lonely_frames(draft)
    require_sound_positions(draft.positions, draft.frame_px, draft.name)
    everywhere = draft.all_positions
    return replace(
        draft,
        positions=on_grid(draft.positions + half),
        all_positions=None if everywhere is None else on_grid(everywhere + half),
    )


def _scaled_and_turned(
    positions: Float64[np.ndarray, "frame 2"], options: ReadOptions, pixel_aspect: float
) -> tuple[Float64[np.ndarray, "frame 2"], list[str]]:
    """Scale the positions as asked, then turn them; and what to note of it.

    Angles are those of the stage, so oblong pixels are made square for the turn.
    """
    said = []
    scale, turn_deg = options.positions_scale, options.positions_turn_deg
    if any(factor != 1 for factor in scale):
        positions = positions * np.asarray(scale)
        said.append(f"The positions were scaled by {' and '.join(f'{factor:.4g}' for factor in scale)}.")
    if turn_deg:
        cosine, sine = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
        sides = np.array([pixel_aspect, 1.0])
        positions = (positions * sides) @ np.array([[cosine, sine], [-sine, cosine]]) / sides
        said.append(f"The positions were turned by {turn_deg:g} degrees.")
    return positions, said
