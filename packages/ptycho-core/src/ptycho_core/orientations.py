"""Which way round: the eight orientations of positions against frames, each tried by the solver.

Stages and detectors seldom agree on what is up and what is left. Only the right orientation explains the
overlap of neighbours, and a short reconstruction of some frames tells. One thing the frames cannot tell:
positions, object and probe that are all mirrored through a point and conjugated give the same patterns, so
each orientation has a twin, half a turn away. A start probe that fits tells the two apart, an estimated one
does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from jaxtyping import Int64

from ptycho_config.models import SolverConfig
from ptycho_config.values import Orientation
from ptycho_core.figures.display import covered_phase, robust_limits
from ptycho_core.figures.page import blank_page, write_page
from ptycho_core.figures.panels import add_axes, draw_image, mark_as_best, title
from ptycho_core.io.geometry import turned_positions
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.estimated_probe import estimate_probe
from ptycho_core.scan.middle import frames_near_the_middle
from ptycho_core.solver import solve

__all__ = ["Trial", "explaining", "neighbours", "try_orientations", "twin_of", "write_orientations"]

FRAMES = 100
SIZE_PX = 64  # of the finest level; more resolution costs time and changes no verdict
#: The best pair has to be better than the next by this part of its residual, or nothing is said.
_MARGIN = 0.03
_TWINS: dict[str, Orientation] = {
    "as-is": "rotate-180",
    "flip-y": "flip-x",
    "transpose": "anti-transpose",
    "rotate-90": "rotate-270",
}


@dataclass(frozen=True, eq=False)
class Trial:
    """One orientation and what came of it."""

    orientation: Orientation
    result: Reconstruction

    @property
    def residual(self) -> float:
        """The residual R of the frames that were tried."""
        return self.result.data_residual


def neighbours(scan: Scan, n_frames: int = FRAMES) -> Int64[np.ndarray, " frame"]:
    """Choose the frames around the middle of the scan, which overlap as those of the whole do."""
    return np.sort(frames_near_the_middle(scan.positions_px, n_frames))


def try_orientations(
    scan: Scan, *, n_frames: int = FRAMES, seed: int = 0, say: Callable[[Trial], None] | None = None
) -> list[Trial]:
    """Reconstruct some frames with the positions in each of the eight orientations.

    Args:
        say: told of each trial as it ends.

    Returns:
        The trials, the smallest residual first.
    """
    part = scan.select(neighbours(scan, n_frames))
    part = replace(part, frames=np.asarray(part.frames[:]), ground_truth=None)  # read once for all eight
    config = SolverConfig(final_size=min(SIZE_PX, scan.frame_px), prior="none", seed=seed)
    trials = []
    for orientation in get_args(Orientation):
        turned = replace(part, positions_px=turned_positions(part.positions_px, orientation))
        if turned.probe_source == "estimated":  # from how shadows move with the positions
            turned = replace(turned, probe=estimate_probe(turned)[0])
        trials.append(Trial(orientation, solve(turned, config)))
        if say is not None:
            say(trials[-1])
    return sorted(trials, key=lambda trial: trial.residual)


def twin_of(orientation: str) -> Orientation:
    """Return the orientation that is half a turn away, and that no data can tell from this one."""
    backwards = {twin: first for first, twin in _TWINS.items()}
    return _TWINS.get(orientation) or backwards[orientation]  # type: ignore[return-value]


def explaining(trials: list[Trial]) -> tuple[Orientation, ...]:
    """Return the orientations that explain the frames: one, one and its twin, or none that stands out.

    Of a pair, the one that is nearer to the file comes first: as it is, or else without the half turn.

    Args:
        trials: the smallest residual first.
    """
    limit = trials[0].residual * (1 + _MARGIN)
    close = {trial.orientation for trial in trials if trial.residual <= limit}
    best = trials[0].orientation
    if not close <= {best, twin_of(best)}:
        return ()
    return tuple(orientation for orientation in get_args(Orientation) if orientation in close)


def write_orientations(trials: Sequence[Trial], path: str | Path, *, name: str) -> Path:
    """Draw the phase of each trial's object on common grey values.

    Args:
        trials: the smallest residual first.
    Raises:
        OutputError: the file cannot be written.
    """
    right = explaining(list(trials))
    said = ", or its twin ".join(right) or "none stands out"
    figure = blank_page(
        13.6, 7.6, heading=f"{name}: eight orientations", note=f"Explains the frames: {said}.", dpi=110
    )
    pictures = [covered_phase(trial.result.object, trial.result.coverage) for trial in trials]
    limits = robust_limits(pictures[0][np.isfinite(pictures[0])], percent=1.0)
    for place, (trial, picture) in enumerate(zip(trials, pictures, strict=True)):
        row, column = divmod(place, 4)
        axes = add_axes(figure, 0.3 + 3.33 * column, 3.75 - 3.5 * row, 2.75, 2.75)
        title(axes, trial.orientation, f"R = {trial.residual:.4f}")
        draw_image(
            axes,
            picture,
            limits,
            label="phase / rad" if column == 3 else "",
            pixel_size_m=trial.result.pixel_size_m,
        )
        if trial.orientation in right:
            mark_as_best(axes)
    return write_page(figure, Path(path))
