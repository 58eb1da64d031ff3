"""Turn an object and a probe on a canvas, whoever found them, into a judged `Reconstruction`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Complex64, Float64

from ptycho_core.physics import whole_and_rest
from ptycho_core.physics.canvas import coverage_of
from ptycho_core.physics.gauge import hand_over_ramp, orthogonal_modes
from ptycho_core.physics.lattice import hand_over_lattice, lattice_of
from ptycho_core.physics.residual import AmplitudeSource, Residual, data_residual
from ptycho_core.physics.variations import ProbeVariations, parted, stacked
from ptycho_core.result.judgement import decide
from ptycho_core.result.measures import Explanation, measure
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.result.verdict import Verdict
from ptycho_core.scan import Scan
from ptycho_core.scan.overlap import overlap_fraction

__all__ = ["LATTICE_MAY_COST", "fields_of", "known_of", "make_reconstruction", "verdict_of"]

#: The pattern of a raster is known at whole pixels and carried to the probe in between; where that costs more
#: of the residual, it stays.
LATTICE_MAY_COST = 1.02


def make_reconstruction(
    scan: Scan,
    *,
    obj: Complex64[np.ndarray, "rows columns"],
    probe: Complex64[np.ndarray, "mode n n"],
    origin_px: Float64[np.ndarray, " 2"],
    method: str,
    overwrite_obj: bool = False,
    probe_is_known: bool = False,
    frames: AmplitudeSource | None = None,
    judged: bool = True,
    variations: ProbeVariations | None = None,
    **record: Any,
) -> Reconstruction:
    """Fix the gauge, judge by the data residual, and put everything into one record.

    Args:
        obj: (rows, columns) on a canvas that holds the window of every frame and a pixel more on each side.
        probe: (P, N, N) such that the orthonormal transform of probe x object has the counts as its square.
        origin_px: scan coordinate (y, x) of canvas pixel [0, 0].
        method: `solver` or `network`.
        overwrite_obj: let the result take the place of `obj`, which spares a copy of the canvas.
        probe_is_known: nothing that lies as well in the probe is handed over to it.
        frames: the amplitudes of the scan where they are at hand; by default it is read again.
        judged: measure the residual and give a verdict. Without, there is no verdict, and the residual is NaN
            unless the positions are a raster, where it decides what belongs to the probe.
        variations: of the probe from frame to frame, where they were found.
        record: further fields of `Reconstruction`.
    """
    intensity: Float64[np.ndarray, " frame"] | None = record.get("frame_intensity")
    for key in ("positions_given_px", "frame_intensity"):
        if record.get(key) is not None:
            unused = scan.all_positions_px if key == "positions_given_px" else np.nan
            record[key] = scan.of_all_frames(record[key], unused)
    on_canvas = scan.positions_px - origin_px
    corners, _ = whole_and_rest(on_canvas - scan.frame_px // 2)
    coverage = coverage_of(probe, corners, obj.shape)
    if probe_is_known:
        flat, functions = obj if overwrite_obj else obj.copy(), stacked(probe, variations)
    else:
        functions = stacked(*orthogonal_modes(probe, variations))
        flat, functions = hand_over_ramp(obj, functions, coverage, overwrite_obj=overwrite_obj)
    modes, variations = parted(functions, len(probe), variations)
    flat[coverage == 0] = 1
    source = scan if frames is None else frames
    lattice = None if probe_is_known else lattice_of(on_canvas)
    pattern_may_move = lattice is not None and record.get("dose_carries_image", True)
    residual = Residual(float("nan"), 1.0, np.full(scan.n_frames, np.nan, np.float32))
    if judged or pattern_may_move:
        residual = data_residual(
            flat, modes, on_canvas, source, frame_intensity=intensity, variations=variations
        )
    if lattice is not None and pattern_may_move:
        window_px = on_canvas[0] - scan.frame_px // 2
        even, functions = hand_over_lattice(flat, stacked(modes, variations), coverage, lattice, window_px)
        if even is not flat:  # where the pattern is too faint, nothing changes
            even[coverage == 0] = 1
            with_pattern, varied = parted(functions, len(modes), variations)
            after = data_residual(
                even, with_pattern, on_canvas, source, frame_intensity=intensity, variations=varied
            )
            if after.value <= LATTICE_MAY_COST * residual.value:
                flat, modes, variations, residual = even, with_pattern, varied, after
    explained = Explanation(flat, modes, on_canvas, coverage, residual.per_frame, intensity, variations)
    verdict = None
    if judged:
        verdict = verdict_of(scan, measure(scan, explained, frames), modes, record)
    return Reconstruction(
        object=flat,
        probe=modes,
        origin_px=origin_px,
        coverage=coverage,
        residual_per_frame=scan.of_all_frames(residual.per_frame),
        data_residual=residual.value,
        method=method,
        verdict=verdict,
        image_reliable=verdict is not None and verdict.grade == "good",
        **fields_of(variations, scan),
        **known_of(scan),
        **record,
    )


def fields_of(variations: ProbeVariations | None, scan: Scan) -> dict[str, Any]:
    """Return the fields of a `Reconstruction` that tell how its probe varies."""
    if variations is None:
        return {}
    weights = scan.of_all_frames(variations.weights)
    return {"probe_variations": variations.shapes, "variation_weights": weights}


def known_of(scan: Scan) -> dict[str, Any]:
    """Return the fields of a `Reconstruction` that the scan alone tells."""
    bad = scan.bad_pixels
    return {
        "positions_px": scan.of_all_frames(scan.positions_px, scan.all_positions_px),
        "scan_name": scan.name,
        "pixel_size_m": scan.pixel_size_m,
        "pixel_aspect": scan.pixel_aspect,
        "energy_ev": scan.energy_ev,
        "distance_m": scan.distance_m,
        "frame_weight": None
        if scan.frame_numbers is None
        else scan.of_all_frames(np.ones(scan.n_frames, np.float32), 0),
        "bad_pixels": None if bad is None else np.asarray(bad if bad.ndim == 2 else bad.all(axis=0)),
    }


def verdict_of(
    scan: Scan,
    measures: dict[str, float],
    probe: Complex64[np.ndarray, "mode n n"],
    record: Mapping[str, Any],
) -> Verdict:
    """Judge by what can be measured on the result itself; halves of the frames may be asked later."""
    measures["overlap"] = overlap_fraction(scan.positions_px, probe) if scan.n_frames > 1 else 0.0
    measures["frames_left_out"] = scan.share_left_out
    measures["bad_pixels"] = 0.0 if scan.bad_pixels is None else float(scan.bad_pixels.mean())
    return decide(
        measures,
        n_frames=scan.n_frames,
        dose_carries_image=record.get("dose_carries_image", True),
        pixel_size_m=scan.pixel_size_m,
    )
