"""Do frames that had no part in an image say that refined positions are the better ones?

Positions that are fitted together with the image lower the residual whether they are right or not. So the
image is made twice of four fifths of the frames, at the positions as given and at the refined ones; the fifth
that is left is then held against each. Source: cross-validation, M. Stone, J. R. Stat. Soc. B 36 (1974) 111;
for a free residual of data that are left out of a fit, A. T. Brünger, Nature 355 (1992) 472,
10.1038/355472a0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from ptycho_config.models import SolverConfig
from ptycho_core.physics.forward import whole_and_rest
from ptycho_core.physics.residual import data_residual
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan

__all__ = [
    "HeldOut",
    "fifth_held_out",
    "frames_held_out",
    "positions_are_far_off",
    "residuals_of_unseen",
]

#: One of so many frames is held out; with fewer than so many of these nothing can be said.
_ONE_OF, _FEWEST = 5, 6
#: `residuals_of_unseen`, or what does the same for several processes.
ResidualsOfUnseen = Callable[[Scan, Reconstruction], np.ndarray]
#: The residual of frames held out has to fall by this part, and that of so many of them.
_LEAST_GAIN, _LEAST_SHARE = 0.005, 0.55


@dataclass(frozen=True)
class HeldOut:
    """What the frames that had no part in the image say.

    Attributes:
        given, refined: their median data residual at the positions as given, and as refined.
        share: of them that the refined positions explain better.
        n_frames: how many there were.
    """

    given: float
    refined: float
    share: float
    n_frames: int

    @property
    def accepted(self) -> bool:
        """Whether the refined positions are the better ones."""
        return self.refined <= (1 - _LEAST_GAIN) * self.given and self.share >= _LEAST_SHARE

    def event(self) -> RunEvent:
        """Say so."""
        figures = (
            f"{self.n_frames} frames held out have a residual of {self.refined:.4f} at the refined positions "
            f"and {self.given:.4f} at those given; {100 * self.share:.0f} % of them are explained better"
        )
        text = (
            f"The refined positions are taken: {figures}."
            if self.accepted
            else f"The refined positions are not taken: {figures}. The positions given are kept."
        )
        data = {"given": self.given, "refined": self.refined, "share": self.share, "accepted": self.accepted}
        return RunEvent("positions", text, data)


#: Frames held out are explained so much worse than those of the image, where most are not at their place.
_FAR_OFF = 1.45


def positions_are_far_off(
    scan: Scan,
    solve: Callable[[Scan, SolverConfig], Reconstruction],
    *,
    probe_modes: int,
    unseen_by: ResidualsOfUnseen | None = None,
) -> bool:
    """Whether an image explains frames that it did not see so badly that most positions must be wrong.

    Args:
        unseen_by: does what `residuals_of_unseen` does, whichever process has a frame's part of the image.
    """
    held = fifth_held_out(scan.n_frames)
    if np.count_nonzero(held) < _FEWEST:
        return False
    scan = replace(scan, frame_numbers=None, all_positions_px=None)
    config = SolverConfig(effort="fast", probe_modes=probe_modes, leave_out_frames=False)
    image = solve(scan.select(~held), config)
    residuals = unseen_by or residuals_of_unseen
    unseen = residuals(scan.select(held), image)
    if not np.isfinite(unseen).any():
        return False
    # Of those that it saw, as many tell as much.
    seen = np.flatnonzero(~held)[:: _ONE_OF - 1]
    return float(np.nanmedian(unseen)) > _FAR_OFF * float(np.nanmedian(residuals(scan.select(seen), image)))


def fifth_held_out(n_frames: int) -> Bool[np.ndarray, " frame"]:
    """Mark a fifth of the frames at random, the same ones every time."""
    held = np.zeros(n_frames, dtype=bool)
    held[np.random.default_rng(0).permutation(n_frames)[: n_frames // _ONE_OF]] = True
    return held


def frames_held_out(
    scan: Scan,
    result: Reconstruction,
    refined_px: Float64[np.ndarray, "frame 2"],
    solve_both: Callable[[Sequence[Scan], SolverConfig], Sequence[Reconstruction]],
    unseen_by: ResidualsOfUnseen | None = None,
) -> HeldOut | None:
    """Hold the fifth of the frames that had no part in either image against both.

    Args:
        scan: at the positions given. result: whose probe both images start from.
        refined_px: of the frames of the scan.
        solve_both: makes images of two scans, without refining positions.
        unseen_by: as in `positions_are_far_off`.
    Returns:
        None where there are too few frames.
    """
    held = fifth_held_out(scan.n_frames)
    if np.count_nonzero(held) < _FEWEST:
        return None
    config = SolverConfig(
        effort="fast",
        probe_search=False,
        probe_modes=len(result.probe),
        leave_out_frames=False,
    )
    scan = replace(scan, probe=result.probe, probe_source="given", frame_numbers=None, all_positions_px=None)
    placed = [scan.moved_to(scan.positions_px), scan.moved_to(refined_px)]
    images = solve_both([both.select(~held) for both in placed], config)
    given, refined = (
        (unseen_by or residuals_of_unseen)(both.select(held), image)
        for both, image in zip(placed, images, strict=True)
    )
    known = np.isfinite(given) & np.isfinite(refined)
    if np.count_nonzero(known) < _FEWEST:
        return None
    given, refined = given[known], refined[known]
    return HeldOut(
        float(np.median(given)), float(np.median(refined)), float((refined < given).mean()), len(given)
    )


def residuals_of_unseen(rest: Scan, image: Reconstruction) -> Float64[np.ndarray, " held"]:
    """Residual of each frame held out; NaN where its window reaches beyond the image of the others."""
    on_canvas = rest.positions_px - image.origin_px
    corners, _ = whole_and_rest(on_canvas - rest.frame_px // 2)
    last = np.array(image.object.shape) - rest.frame_px
    inside = ((corners >= 0) & (corners <= last)).all(axis=1)
    found = np.full(rest.n_frames, np.nan)
    if inside.any():
        seen = rest.select(np.flatnonzero(inside))
        found[inside] = data_residual(image.object, image.probe, on_canvas[inside], seen).per_frame
    return found
