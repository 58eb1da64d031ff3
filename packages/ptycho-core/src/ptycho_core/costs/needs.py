"""How many bytes a run needs, in memory and in its temporary files, and whether this host has them."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass, replace

import numpy as np

from ptycho_config.models import SolverConfig
from ptycho_core.memory import addresses_left_bytes, in_words, memory_bytes
from ptycho_core.scan import Scan
from ptycho_core.scan.held import HELD_BYTES
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.solver.frame_parameters import reach_px
from ptycho_core.solver.frames import IN_MEMORY_BYTES, LEFT_BYTES, can_be_in_a_file
from ptycho_core.solver.shifts import DEGREE
from ptycho_core.solver.state import COPY_IN_MEMORY_BYTES
from ptycho_core.solver.windows import MARGIN_PX

__all__ = ["Needs", "canvas_of", "needs_of", "refused", "share_of_a_rank"]

# Measured on runs of scans up to a million frames; docs/reference/plan.md has them beside what they foretell.
#: The program with its libraries, and the pictures.
_PROGRAM_BYTES = 130 << 20
#: For each pixel of the object at its widest moment: object, velocity, light, and copies where the result is
#: made; with a prior its dual fields and the images between two steps besides.
_CANVAS_BYTES, _CANVAS_BYTES_WITH_PRIOR = 28.0, 92.0
#: For each frame: positions, windows, batches, the search for a lattice, what is written.
_FRAME_BYTES = 700.0
#: Copies of the object that lie in a temporary file where it is large: best state, present one, checkpoint.
_COPIES = 3


@dataclass(frozen=True)
class Needs:
    """Bytes that a run needs.

    Attributes:
        memory_bytes: that cannot be taken back while it runs.
        scratch_bytes: of temporary files (`TMPDIR`).
        frames_bytes: of the frames as the solver goes through them, which are part of one or the other.
        frames_in_file: they are in a temporary file.
        canvas: rows and columns of the object.
    """

    memory_bytes: int
    scratch_bytes: int
    frames_bytes: int
    frames_in_file: bool
    canvas: tuple[int, int]

    def with_frames_in_memory(self) -> Needs:
        """Return what is needed where the temporary folder has no room for the frames."""
        if not self.frames_in_file:
            return self
        return replace(
            self,
            memory_bytes=self.memory_bytes + self.frames_bytes,
            scratch_bytes=self.scratch_bytes - self.frames_bytes,
            frames_in_file=False,
        )


def needs_of(
    scan: Scan, config: SolverConfig, *, held_out: bool = False, n_ranks: int = 1, gpu: bool = False
) -> Needs:
    """Return what a run needs, of each of several ranks.

    Args:
        held_out: photons are held out, so that there are three copies of the frames.
        gpu: object and probe are on a GPU; the host holds the frames.
    """
    side = scan.frame_px
    n_frames, canvas = share_of_a_rank(scan.n_frames, canvas_of(scan, config), side, n_ranks=n_ranks)
    pixels, object_px = n_frames * side**2, math.prod(canvas)
    copies = 3 if held_out else 1
    large = 4 * pixels > IN_MEMORY_BYTES
    frames_bytes = copies * pixels * (2 if large else 4)
    in_file = large and can_be_in_a_file()
    modes, variations = config.probe_modes, config.probe_variations
    basis = (DEGREE + 1) * (DEGREE + 2) // 2
    each = _FRAME_BYTES + 4.0 * basis * (1 + variations)
    if config.refine_positions or config.frame_intensity or variations:
        each += 8.0 * basis * (1 + variations) + 160  # overlaps, curvature, values to go back to
    memory = _PROGRAM_BYTES + each * n_frames + _stored_bytes(scan, n_frames)
    memory += object_px * (_CANVAS_BYTES_WITH_PRIOR if config.uses_prior and not gpu else _CANVAS_BYTES)
    memory += 8.0 * side**2 * modes * (1 + variations) * basis * 6
    if scan.bad_pixels is not None and scan.bad_pixels.ndim == 3:
        memory += pixels * (1 + 1 + 4)  # as given, in the order of the batches, as weights
    copy = 8 * object_px
    scratch = 0 if gpu or copy <= COPY_IN_MEMORY_BYTES or not can_be_in_a_file() else _COPIES * copy
    memory += 0 if scratch or gpu else _COPIES * copy
    if config.refine_positions and n_ranks == 1:
        # Corrected positions are tried on frames held out, and the image of the rest is made beside all this.
        memory += _stored_bytes(scan, n_frames) + object_px * _CANVAS_BYTES + (0 if in_file else frames_bytes)
    if in_file:
        scratch += frames_bytes
    else:
        memory += frames_bytes
    return Needs(int(memory), int(scratch), frames_bytes, in_file, canvas)


def canvas_of(scan: Scan, config: SolverConfig) -> tuple[int, int]:
    """Return rows and columns of the object at the pixel of the full frame."""
    reach = reach_px(config.position_bound, scan.positions_px) if config.refine_positions else 0
    sides = np.ceil(np.ptp(scan.positions_px, axis=0)).astype(int) + scan.frame_px + 2 * (MARGIN_PX + reach)
    return int(sides[0]), int(sides[1])


def share_of_a_rank(
    n_frames: int, canvas: tuple[int, int], side_px: int, *, n_ranks: int
) -> tuple[int, tuple[int, int]]:
    """Return how many frames one of several ranks reads, its rim's among them, and its tile of the canvas.

    The scan is cut into compact cells of as many frames; frames whose windows reach into a cell are its rim.
    """
    if n_ranks == 1:
        return n_frames, canvas
    rows = min(range(1, n_ranks + 1), key=lambda rows: _misshapen(rows, n_ranks, canvas))
    columns = n_ranks // rows
    tile = tuple(
        min(length, math.ceil(length / parts) + 2 * side_px)
        for length, parts in zip(canvas, (rows, columns), strict=True)
    )
    inside = math.prod(canvas) / n_ranks
    return min(n_frames, math.ceil(n_frames / n_ranks * math.prod(tile) / inside)), (tile[0], tile[1])


def _misshapen(rows: int, n_ranks: int, canvas: tuple[int, int]) -> float:
    """How far tiles are from squares where there are so many rows of them."""
    if n_ranks % rows:
        return math.inf
    return abs(math.log((canvas[0] / rows) / (canvas[1] / (n_ranks // rows))))


def _stored_bytes(scan: Scan, n_frames: int) -> float:
    """Return what the scan itself holds of its frames."""
    frames = scan.frames
    each = frames.dtype.itemsize * scan.frame_px**2
    if not isinstance(frames, LazyFrames):
        return float(each * scan.n_frames)  # arrays in memory are there as a whole
    return float(min(each * n_frames, HELD_BYTES))


def refused(needs: Needs, *, n_frames: int, frame_px: int) -> str:
    """Say why a run cannot fit this host, and what would; empty where it can, or nothing is known."""
    memory, folder = memory_bytes(), tempfile.gettempdir()
    try:
        free = shutil.disk_usage(folder).free - LEFT_BYTES
    except OSError:
        free = 0
    in_memory = needs.with_frames_in_memory()
    lacks_scratch = needs.scratch_bytes > max(free, 0)
    wanted = in_memory if lacks_scratch else needs
    # What is left of the addresses is what the program, which is loaded by now, has not taken.
    loaded = _PROGRAM_BYTES if memory is not None and memory == addresses_left_bytes() else 0
    if memory is None or wanted.memory_bytes - loaded <= memory:
        return ""
    frames = f"{n_frames} frames of {frame_px} x {frame_px} px"
    said = f"{frames} need {in_words(wanted.memory_bytes)} of memory, and this process may have "
    said += in_words(memory)
    if needs.memory_bytes - loaded <= memory:
        return (
            f"{said}: the folder for temporary files, {folder}, has {in_words(max(free, 0))} free, and the "
            f"frames would need {in_words(needs.scratch_bytes)} there. Set `TMPDIR` to a folder with room, "
            f"{_what_else(frame_px)}."
        )
    return f"{said}. Allow more, {_what_else(frame_px)}."


def _what_else(frame_px: int) -> str:
    return (
        f"bin or cut the detector (`--rebin 2`, `--crop-px {frame_px // 2}`), take fewer frames "
        "(`--frames`, `--region`), or share the scan among ranks on several hosts"
    )
