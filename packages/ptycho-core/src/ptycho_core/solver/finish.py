"""Make a result of a solution: object at the full pixel, refined positions, gauge, judgement, record."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.arrays import Arrays
from ptycho_core.physics.variations import ProbeVariations
from ptycho_core.result.assemble import make_reconstruction
from ptycho_core.result.provenance import solver_provenance
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.solver.frame_parameters import FrameParameters
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.from_tiles import make_together
from ptycho_core.solver.monitor import RunRecord
from ptycho_core.solver.spectra import probe_of
from ptycho_core.solver.start import Look
from ptycho_core.solver.state import Solution
from ptycho_core.solver.tiles import Share

__all__ = ["finish"]


def finish(
    solution: Solution,
    parameters: FrameParameters | None,
    look: Look,
    frames: OrderedFrames,
    record: RunRecord,
    arrays: Arrays,
    *,
    execution: SolverExecutionConfig,
    resolved: dict[str, Any],
    judged: bool,
    share: Share = "whole",
) -> Reconstruction:
    """Judge a solution and record how it came about.

    Args:
        solution: its object is overwritten.
        execution, resolved: where the run was asked to take place, and where it did.
        judged: measure the residual, and give a verdict.
        share: what each of several ranks gets of the object.
    """
    shape, origin_px = look.full_canvas(solution.shift_px)
    scan = look.scan
    if parameters is not None and look.config.refine_positions:
        correction_px, common_px = _corrections(parameters, look)
        scan = scan.moved_to(scan.positions_px + correction_px - common_px)
        origin_px = origin_px - common_px
    probe = probe_of(solution.spectra)
    told: dict[str, Any] = {  # Any: fields of `Reconstruction`, of several types
        "positions_given_px": look.positions_given_px,
        "frame_intensity": _frame_intensity(parameters, look),
        "variations": _variations(parameters, solution, look),
        "dose_carries_image": look.dose_carries_image,
        "history": record.history,
        "events": record.events,
        "timings": record.timings,
        "provenance": solver_provenance(scan, look.config, execution, resolved),
    }
    if look.team.several:
        return make_together(
            scan,
            solution,
            look,
            frames,
            arrays,
            probe=probe,
            origin_px=origin_px,
            judged=judged,
            share=share,
            threads=execution.threads,
            **told,
        )
    return make_reconstruction(
        scan,
        obj=solution.object_on(shape, scale=1.0, margin_px=look.margin_px),
        probe=probe,
        origin_px=origin_px,
        method="solver",
        overwrite_obj=True,
        probe_is_known=look.config.probe_step == 0,
        frames=frames.as_measured(),
        judged=judged,
        **told,
    )


def _corrections(
    parameters: FrameParameters, look: Look
) -> tuple[Float64[np.ndarray, "frame 2"], Float64[np.ndarray, " 2"]]:
    """Return the corrections of the positions in the order of the scan, and what all have in common.

    Where the whole scan stands cannot be told from the frames, so the common part moves the canvas instead.
    """
    correction_px = look.team.of_all_frames(parameters.correction_px, look.order, look.scan.n_frames)
    return correction_px, correction_px.mean(axis=0)


def _frame_intensity(parameters: FrameParameters | None, look: Look) -> Float64[np.ndarray, " frame"] | None:
    """Return the intensity of each frame relative to the mean, in the order of the scan."""
    if parameters is None or not parameters.model.intensity:
        return None
    return look.team.of_all_frames(parameters.intensity(), look.order, look.scan.n_frames)


def _variations(parameters: FrameParameters | None, solution: Solution, look: Look) -> ProbeVariations | None:
    """Return what each frame adds to the probe, in the order of the scan."""
    shapes = solution.variations
    if parameters is None or not shapes.any():
        return None
    functions = probe_of(shapes.reshape(-1, *shapes.shape[2:])).reshape(shapes.shape)
    weights = look.team.of_all_frames(parameters.variation_weights(), look.order, look.scan.n_frames)
    return ProbeVariations(functions, weights)
