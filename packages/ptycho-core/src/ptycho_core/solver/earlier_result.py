"""What a run takes from an earlier result: object, probe, and what was found for each frame."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Complex64, Float64

from ptycho_config.models import SolverConfig
from ptycho_config.models.solver import MOST_VARIATIONS
from ptycho_core.physics import whole_and_rest
from ptycho_core.physics.canvas import paste
from ptycho_core.physics.variations import mean_power
from ptycho_core.ranks import Ranks
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver.frame_parameters import FrameParameters
from ptycho_core.solver.spectra import seed_modes, spectrum_of
from ptycho_core.solver.start import (
    Look,
    Start,
    background_of,
    corrected_positions,
    levels_of,
    margin_of,
    no_variations,
    of_our_frames,
    parameters_of,
)
from ptycho_core.solver.state import Solution
from ptycho_core.solver.team import Team
from ptycho_core.solver.tiles import REACH_PX, Tiles

__all__ = ["needed_of", "start_from_result"]

#: Of a file of another program: a frame has at least so much of the mean intensity.
_DARKEST = 1e-3
#: Frames so close together were taken at the same place.
_SAME_PLACE_PX = 1e-3


def needed_of(
    earlier: Reconstruction, scan: Scan, config: SolverConfig, ranks: Ranks
) -> Float64[np.ndarray, "2 2"]:
    """Return the lowest and the highest scan coordinate (y, x) of what this rank needs of an earlier object.

    Infinite where its part of the plane does not end. Nothing is sent.
    """
    positions_px = scan.positions_px
    if corrected_positions(earlier, scan):
        positions_px = of_our_frames(earlier.positions_px, scan)
    low, high = Team.of(ranks, positions_px).regions[ranks.rank]
    reach = scan.frame_px + margin_of(config, positions_px) + REACH_PX
    return np.stack([low - reach, high + reach])


def start_from_result(earlier: Reconstruction, look: Look) -> Start:
    """Go on from an earlier result, at full resolution; modes that it lacks are seeded.

    What it found for each frame is taken up where this run looks for it too.
    """
    config = look.config
    parameters = parameters_of(look)
    if math.isnan(earlier.data_residual):
        earlier = _in_our_units(earlier, look)
    corner, shift_px = _corner_on_our_canvas(earlier, look)
    obj, corner = _on_our_canvas(earlier.object, corner, shift_px, look)
    spectra = spectrum_of(earlier.probe).astype(np.complex64)
    if len(spectra) < config.probe_modes:
        extra = seed_modes(spectra[0], config.probe_modes)
        spectra = np.concatenate([spectra, extra[len(spectra) :]])
    spectra = spectra[: config.probe_modes]
    variations, told = no_variations(config, spectra), _left_out(earlier, config)
    if parameters is not None and parameters.model.changes_the_probe:
        told += _taken_up(earlier, look, parameters, variations)
        if variations.any():  # another program's weights are of any size
            spectra, variations = parameters.orthogonalise(spectra, variations)
            spectra = spectra.astype(np.complex64)
    return Start(
        Solution(spectra, shift_px, variations, obj, corner=corner),
        levels=levels_of(look, warm_start=True),
        frame_parameters=parameters,
        flat_background=background_of(look),
        taken_up=told,
    )


def _taken_up(
    earlier: Reconstruction,
    look: Look,
    parameters: FrameParameters,
    variations: Complex64[np.ndarray, "mode variation n n"],
) -> list[RunEvent]:
    """Begin with the intensities and the OPR modes of an earlier result of the same frames; say so.

    Args:
        variations: spectra of the OPR modes, all of them 0, which are filled in.
    """
    found = [earlier.frame_intensity] if parameters.model.intensity else []
    found += [earlier.variation_weights] if parameters.model.variations else []
    if all(values is None for values in found):
        return []
    if not _of_the_same_frames(earlier, look.scan):
        text = (
            f"The result to start from has {len(earlier.positions_px)} frames, and they are not the "
            f"{look.scan.n_frames} frames of this scan at about the same places: the intensities and OPR "
            "modes of its frames are left out, and found anew."
        )
        return [RunEvent("not_taken_up", text)]
    named = []
    if parameters.model.intensity and earlier.frame_intensity is not None:
        # A frame that the result left out knows nothing of its own.
        intensity = np.nan_to_num(of_our_frames(earlier.frame_intensity, look.scan), nan=1.0)[look.order]
        parameters.begin_with_intensity(np.maximum(intensity, _DARKEST))
        named.append("the intensity of each frame")
    told: list[RunEvent] = []
    found_before = earlier.variations
    if parameters.model.variations and found_before is not None:
        weights = np.nan_to_num(of_our_frames(found_before.weights, look.scan))[look.order]
        parameters.begin_with_variations(weights)
        modes, kept = np.minimum(variations.shape[:2], found_before.shapes.shape[:2]).tolist()
        variations[:modes, :kept] = spectrum_of(found_before.shapes[:modes, :kept])
        there = found_before.weights.shape[1]
        named.append(f"{kept} of {there} OPR modes, with their weights")
        told = _others_left_out(kept, there)
    return [RunEvent("taken_up", f"Taken up of the result to start from: {', '.join(named)}."), *told]


def _others_left_out(kept: int, there: int) -> list[RunEvent]:
    """Say where a result has more OPR modes than this run looks for; ours have the strongest first."""
    if kept == there:
        return []
    more = min(there, MOST_VARIATIONS)
    text = (
        f"The result to start from has {there} OPR modes and this run looks for {kept}: the others are left "
        f"out. `--opr-modes {more}` takes {'all of them' if more == there else 'more'}."
    )
    return [RunEvent("not_taken_up", text)]


def _of_the_same_frames(earlier: Reconstruction, scan: Scan) -> bool:
    """Whether an earlier result is of this scan's frames, though positions may have been corrected since.

    So it is where most of its frames lie nearer to the frame of the same number than to any other.
    """
    from scipy.spatial import KDTree

    theirs_px = of_our_frames(earlier.positions_px, scan)
    if theirs_px.shape != scan.positions_px.shape:
        return False
    known = np.isfinite(theirs_px).all(axis=1)
    nearest_px, _ = KDTree(scan.positions_px).query(theirs_px[known])
    apart_px = np.linalg.norm(theirs_px - scan.positions_px, axis=1)[known]
    return int(np.count_nonzero(apart_px <= nearest_px + _SAME_PLACE_PX)) > len(theirs_px) / 2


def _left_out(earlier: Reconstruction, config: SolverConfig) -> list[RunEvent]:
    """Say what an earlier result found for each frame and this run does not look for."""
    found = {
        "the intensity of each frame (`--frame-intensity`)": earlier.frame_intensity is not None
        and not config.frame_intensity,
        "the OPR modes of its probe (`--opr-modes`)": earlier.variations is not None
        and not config.probe_variations,
    }
    named = " and ".join(name for name, lost in found.items() if lost)
    text = f"The result to start from has {named}, which this run leaves out: its image may change for that."
    return [RunEvent("not_taken_up", text)] if named else []


def _in_our_units(foreign: Reconstruction, look: Look) -> Reconstruction:
    """Scale the probe of another program to the counts, and lay its positions on ours.

    The programs count from other origins; where each frame has its position, the median tells by how much.
    """
    scan = look.scan
    power = mean_power(foreign.probe, foreign.variations, foreign.frame_intensity)
    factor = np.sqrt(look.statistics.counts_per_frame / power) if power > 0 else 1.0
    apart_px = np.zeros(2)
    theirs = of_our_frames(foreign.positions_px, scan)
    if theirs.shape == scan.positions_px.shape:
        apart_px = np.median(scan.positions_px - theirs, axis=0)
    shapes = foreign.probe_variations
    return replace(
        foreign,
        probe=(foreign.probe * factor).astype(np.complex64),
        probe_variations=None if shapes is None else (shapes * factor).astype(np.complex64),
        origin_px=foreign.origin_px + apart_px,
        positions_px=foreign.positions_px + apart_px,
    )


def _on_our_canvas(
    obj: Complex64[np.ndarray, "h w"],
    corner: tuple[int, int],
    shift_px: Float64[np.ndarray, " 2"],
    look: Look,
) -> tuple[Complex64[np.ndarray, "height width"], tuple[int, int]]:
    """Return an earlier object on our canvas, or on this rank's tile of it, and where that begins.

    Whole pixels are copied, the rest moves the positions: nothing is interpolated.

    Args:
        corner: pixel of our canvas where the earlier object begins. shift_px: of our positions.
    """
    scan, side = look.scan, look.scan.frame_px
    least_px = scan.positions_px.min(axis=0)

    def on_canvas(positions_px: np.ndarray) -> np.ndarray:
        return positions_px - least_px + shift_px + look.margin_px

    corners, _ = whole_and_rest(on_canvas(scan.positions_px[np.sort(look.order)]))
    tiles = Tiles(
        look.team,
        corners,
        size_px=side,
        margin_px=look.margin_px,
        to_canvas=on_canvas,
    )
    ours = np.ones(tiles.shape, np.complex64)
    paste(ours, obj, np.subtract(tiles.origin, corner))
    return ours, tiles.origin


def _corner_on_our_canvas(
    earlier: Reconstruction, look: Look
) -> tuple[tuple[int, int], Float64[np.ndarray, " 2"]]:
    """Return the pixel (y, x) of our canvas where an earlier object begins, and our positions' shift."""
    scan = look.scan
    ours_px = scan.positions_px.min(axis=0) - scan.frame_px // 2 - look.margin_px
    apart_px = ours_px - earlier.origin_px
    _, (shift_px,) = whole_and_rest(apart_px[None])
    if look.team.several:  # each may have another part of the object, whose origin is rounded
        shift_px = look.team.ranks.from_first(shift_px)
    whole = np.rint(apart_px - shift_px)
    return (-int(whole[0]), -int(whole[1])), shift_px
