"""Positions that are wrong by many pixels: searched for in an image that other frames made.

An image that a frame took part in fits that frame where it was put, wrong or not: seen from there, every
other place is worse. So the frames are split into two halves, each of which covers the scan. Each half makes
an image; the frames of the other half are moved over it, and take the place that explains them best. Errors
blur the image, so it is smoothed as far as they reach, and ever less as they shrink. A place far from where a
frame was put is the less likely the farther it is, by what most frames were found to be off.

The images have one probe mode, however many the result will have: with more of them an image explains frames
at wrong places nearly as well as at the right ones.

Source: to try other places, A. M. Maiden et al., Ultramicroscopy 120 (2012) 64,
10.1016/j.ultramic.2012.06.001, there at random and in the image of all frames; halves and smoothing are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Complex64, Float64

from ptycho_config.models import SolverConfig
from ptycho_core.result.history import RunEvent
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.scan.split import split_frames
from ptycho_core.solver.common_strain import without_chance_strain
from ptycho_core.solver.places import misfits_at, places_within

__all__ = [
    "Registration",
    "best_moves",
    "image_config",
    "moves_of_lost_frames",
    "search_is_worth_it",
    "searched_positions",
]

#: Reach and step of each search and the smoothing of its image, in pixels of the object.
_ROUNDS = ((16, 4, 3.0), (12, 3, 3.0), (8, 2, 2.0), (6, 2, 1.5), (4, 1, 1.0), (3, 1, 0.75))
#: Places are weighed by their misfit, over so many of its spreads.
_SHARP = 0.15
_FEWEST_FRAMES = 32
#: In the round of this number half of the frames move by no more than this, where images tell places: by
#: .2 to .3 px in searches that succeed, by 2.0 to 2.6 in those that do not.
_SETTLES_IN, _RESTLESS_PX = 3, 1.0
#: Deviation of the places that are likely, over the median distance of those found so far.
_LOOSE = 1.2
#: In these rounds the frames that are explained worst are looked for far away: no more than a tenth of all,
#: and worse than the median by this factor. Another place has to be so much better.
_LOST_IN, _WORST_PERCENT, _LOST, _FOUND = (1, 2, 3), 90.0, 1.15, 0.9
_LOST_REACH, _LOST_STEP, _LOST_SMOOTHING = 1.5, 4, 2.0
#: A search is worth it where a round of it moves half of the frames by so many pixels, and images at the new
#: places explain the frames that they did not see so much better. Where images are too poor to tell places
#: apart, frames move as far and nothing is gained.
_TRIED, _FAR_PX, _GAIN = (12, 3, 3.0), 3.0, 0.9
#: About so many frames are asked before all are.
_ASKED_FIRST = 48
_NOWHERE = np.zeros((1, 2), np.int64)
#: `misfits_at`, or what does the same for several processes.
LookAtPlaces = Callable[..., np.ndarray]


@dataclass(frozen=True, eq=False)
class Registration:
    """What the search found.

    Attributes:
        positions_px: (M, 2) float64 (y, x), of the frames of the scan.
        probe: (1, N, N), as the last image had it.
        moved_px: (M,) by how much each frame was moved.
        strained: the frames have moved together as well, by a stretch, turn or shear beyond chance.
        settled: the frames came to rest. Where they did not, the images told no places, and the positions
            are better refined from where they were given.
    """

    positions_px: Float64[np.ndarray, "frame 2"]
    probe: Complex64[np.ndarray, "mode n n"]
    moved_px: Float64[np.ndarray, " frame"]
    strained: bool
    settled: bool = True

    def event(self) -> RunEvent:
        """Say how far the frames were from where they were put."""
        if not self.settled:
            text = (
                "Searched the position of every frame in images of the others, and the frames did not come "
                "to rest: the positions are refined from where they were given."
            )
            return RunEvent("positions", text, {"settled": False})
        text = (
            "Searched the position of every frame in images of the others: moved by "
            f"{self.moved_px.mean():.2g} px on average, at most {self.moved_px.max():.2g} px."
        )
        return RunEvent("positions", text, {"moved_px": float(self.moved_px.mean())})


def search_is_worth_it(
    scan: Scan,
    solve: Callable[[Scan, SolverConfig], Reconstruction],
    *,
    threads: int | None = None,
    look: LookAtPlaces = misfits_at,
) -> bool:
    """Whether the first moves of a search are long, and frames that an image did not see say they are right.

    Args:
        solve: makes an image, without refining positions.
        look: holds frames against an image as `misfits_at` does, whichever process has that part of it.
        threads: as many as there are cores by default.
    """
    if scan.n_frames < _FEWEST_FRAMES:
        return False
    config, given_px = image_config(), scan.positions_px
    moves, before, after = np.zeros_like(given_px), np.zeros(scan.n_frames), np.zeros(scan.n_frames)
    parts = split_frames(given_px)
    reach, step, smoothing = _TRIED
    for ours, others in (parts, parts[::-1]):
        image = solve(scan.select(ours), config)
        scan = replace(scan, probe=image.probe, probe_source="given")
        rest = scan.select(others)

        def moves_of(some: Scan, image: Reconstruction = image) -> np.ndarray:
            away_px, how = (
                np.zeros((some.n_frames, 2)),
                {"reach": reach, "step": step, "smoothing": smoothing},
            )
            found = best_moves(
                some, image, away_px=away_px, usual_px=np.inf, threads=threads, look=look, **how
            )
            return found - np.median(found, axis=0)

        # Most scans are where they should be, and some frames say so as well as all.
        every = rest.n_frames // _ASKED_FIRST
        if every > 1:
            some = rest.select(np.arange(0, rest.n_frames, every))
            if np.median(np.linalg.norm(moves_of(some), axis=1)) < _FAR_PX:
                return False
        moves[others] = moves_of(rest)
        if np.median(np.linalg.norm(moves[others], axis=1)) < _FAR_PX:
            return False
        before[others] = look(rest, image, _NOWHERE, smoothing=1.0, threads=threads)[0]
    moved = scan.moved_to(given_px + moves)
    for ours, others in (parts, parts[::-1]):
        image = solve(moved.select(ours), config)
        after[others] = look(moved.select(others), image, _NOWHERE, smoothing=1.0, threads=threads)[0]
    return float(np.median(after)) <= _GAIN * float(np.median(before))


def image_config() -> SolverConfig:
    """Return how an image is made that frames without a part in it are held against."""
    return SolverConfig(effort="fast", probe_search=False, probe_modes=1, leave_out_frames=False)


def searched_positions(
    scan: Scan,
    solve: Callable[[Scan, SolverConfig], Reconstruction],
    *,
    bound_px: float,
    should_stop: Callable[[], bool],
    threads: int | None = None,
    look: LookAtPlaces = misfits_at,
) -> Registration | None:
    """Search the position of every frame; None where there are too few, or a stop was asked for.

    A search that does not come to rest is given up, and what is returned has the positions as given.

    Args:
        solve: makes an image, without refining positions.
        bound_px: how far a frame may come from where it was put.
        should_stop: asked after each half.
        threads: as many as there are cores by default.
        look: as in `search_is_worth_it`.
    """
    if scan.n_frames < _FEWEST_FRAMES:
        return None
    config = image_config()
    given_px, positions_px = scan.positions_px, scan.positions_px.copy()
    far_px, usual_px, strained = int(_LOST_REACH * bound_px), np.inf, False
    for done, (reach, step, smoothing) in enumerate(_ROUNDS):
        moves = np.zeros_like(given_px)
        parts = split_frames(positions_px)
        for ours, others in (parts, parts[::-1]):
            image = solve(scan.moved_to(positions_px).select(ours), config)
            scan = replace(scan, probe=image.probe, probe_source="given")
            if done in _LOST_IN:
                positions_px[others] += moves_of_lost_frames(
                    scan.moved_to(positions_px).select(others),
                    image,
                    away_px=(positions_px - given_px)[others],
                    reach=far_px,
                    threads=threads,
                    look=look,
                )
            moves[others] = best_moves(
                scan.moved_to(positions_px).select(others),
                image,
                reach=reach,
                step=step,
                smoothing=smoothing,
                away_px=(positions_px - given_px)[others],
                usual_px=usual_px,
                threads=threads,
                look=look,
            )
            if should_stop():
                return None
        moves -= np.median(moves, axis=0)
        restless_px = float(np.median(np.linalg.norm(moves, axis=1)))
        if done == _SETTLES_IN and restless_px > _RESTLESS_PX:
            return Registration(given_px, scan.probe, np.zeros(scan.n_frames), strained=False, settled=False)
        moved = positions_px + moves - given_px
        moved, strained = without_chance_strain(moved, given_px)
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        farthest = bound_px * (1.0 if done < _LOST_IN[0] else _LOST_REACH)
        positions_px = given_px + moved * np.minimum(1.0, farthest / np.maximum(length, 1e-9))
        usual_px = _LOOSE * float(np.median(np.linalg.norm(positions_px - given_px, axis=1)))
    moved_px = np.linalg.norm(positions_px - given_px, axis=1)
    return Registration(positions_px, scan.probe, moved_px, strained)


def best_moves(
    scan: Scan,
    image: Reconstruction,
    *,
    reach: int,
    step: int,
    smoothing: float,
    away_px: Float64[np.ndarray, "frame 2"],
    usual_px: float,
    threads: int | None = None,
    look: LookAtPlaces = misfits_at,
) -> Float64[np.ndarray, "frame 2"]:
    """Move each frame over an image that it had no part in; return where it is explained best.

    Args:
        away_px: by how much it was moved so far. usual_px: deviation of such moves along each axis.
    """
    offsets = places_within(reach, step)
    misfits = look(scan, image, offsets, smoothing=smoothing, threads=threads)
    relative = misfits / np.median(misfits, axis=0)
    spread = np.maximum(relative.std(axis=0), 1e-9)
    away = np.square(away_px[None] + offsets[:, None]).sum(axis=2) / (2 * usual_px**2)
    cost = (relative - relative.min(axis=0)) / (_SHARP * spread) + away
    weights = np.exp(-(cost - cost.min(axis=0)))
    return np.einsum("of,oa->fa", weights / weights.sum(axis=0), offsets.astype(np.float64))


def moves_of_lost_frames(
    scan: Scan,
    image: Reconstruction,
    *,
    away_px: Float64[np.ndarray, "frame 2"],
    reach: int,
    threads: int | None = None,
    look: LookAtPlaces = misfits_at,
) -> Float64[np.ndarray, "frame 2"]:
    """Look for the frames that are explained worst, all around where they were put at first.

    Not around where they are now: whoever was led astray is as far from its place again.

    Args:
        away_px: by how much each frame was moved so far. reach: how far to look, in whole pixels.

    Returns:
        By how much to move each frame from where it is now; 0 for all that are not lost, or not found.
    """
    moves = np.zeros_like(away_px)
    here = look(scan, image, _NOWHERE, smoothing=_LOST_SMOOTHING, threads=threads)[0]
    lost = np.flatnonzero(here > max(np.percentile(here, _WORST_PERCENT), _LOST * np.median(here)))
    if not lost.size:
        return moves
    offsets = places_within(reach, _LOST_STEP)
    put = scan.moved_to(scan.positions_px - away_px).select(lost)
    there = look(put, image, offsets, smoothing=_LOST_SMOOTHING, threads=threads)
    best = there.argmin(axis=0)
    found = there[best, np.arange(lost.size)] < _FOUND * here[lost]
    moves[lost[found]] = offsets[best[found]] - away_px[lost[found]]
    return moves
