"""The frames as the solver sees them: read once, in the order of their batches, cropped for each level.

They lie in memory or, where they are many, in a file without a name.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from ptycho_core.coded_frames import CodedFrames
from ptycho_core.cores import usable_cores
from ptycho_core.held_out import hold_out_into
from ptycho_core.memory import in_words, memory_bytes
from ptycho_core.result.history import RunEvent
from ptycho_core.scan import Scan
from ptycho_core.scan.dose import central
from ptycho_core.solver.team import ON_ITS_OWN, Team

__all__ = [
    "IN_MEMORY_BYTES",
    "LEFT_BYTES",
    "MeasuredFrames",
    "OrderedFrames",
    "can_be_in_a_file",
    "room_for",
    "room_for_frames",
    "scans_of_parts",
]

#: Pixels read at a time by one thread; what lies between file and copy stays in its cache.
_READ_PIXELS = 1 << 18


class OrderedFrames:
    """Amplitudes, good pixels and positions of frames, in the order in which they are solved.

    Attributes:
        frame_px: side N of the frames as measured.
        positions_px: (m, 2) float64, (y, x).
        least_px: where the canvas begins; no position is smaller.
        in_file: the amplitudes lie in a temporary file, which is mapped into memory.
    """

    def __init__(
        self,
        amplitude: Float32[np.ndarray, "frame n n"] | CodedFrames,
        good: np.ndarray | None,
        positions_px: Float64[np.ndarray, "frame 2"],
        *,
        least_px: Float64[np.ndarray, " 2"] | None = None,
        order: Int64[np.ndarray, " frame"] | None = None,
        in_file: bool = False,
    ) -> None:
        """Take frames that are at hand; nothing is copied.

        Args:
            good: bool (n, n) or (frame, n, n), None where all pixels are good.
            least_px: where the canvas begins; by default at the smallest y and x among the positions.
            order: which frame of the scan each one is; by default they lie as in the scan.
        """
        self._amplitude, self._good = amplitude, good
        self.frame_px = amplitude.shape[-1]
        self.positions_px = positions_px
        self.least_px = positions_px.min(axis=0) if least_px is None else least_px
        self.in_file = in_file
        self._order = np.arange(len(amplitude)) if order is None else order

    @classmethod
    def read(
        cls,
        scan: Scan,
        order: Int64[np.ndarray, " frame"],
        *,
        threads: int | None = None,
        at_hand: MeasuredFrames | None = None,
        least_px: Float64[np.ndarray, " 2"] | None = None,
    ) -> OrderedFrames:
        """Read frames of a scan, once.

        Args:
            order: which frames of the scan, in the order in which they are wanted.
            at_hand: the amplitudes of the scan where they were read before; its file may be gone by now.
            least_px: where the canvas begins; by default at the smallest y and x among these frames.
        """
        source = scan if at_hand is None else at_hand
        amplitude, in_file = room_for_frames((len(order), scan.frame_px, scan.frame_px))
        # Written in the order of the file, which may be a disk.
        rows = np.argsort(order, kind="stable")
        as_in_file = order[rows]
        step = max(1, _READ_PIXELS // scan.frame_px**2)

        def read(first: int) -> None:
            wanted = slice(first, first + step)
            numbers = as_in_file[wanted]
            if numbers[-1] - numbers[0] == len(numbers) - 1:
                amplitude[rows[wanted]] = source.amplitude(slice(int(numbers[0]), int(numbers[-1]) + 1))
            else:
                amplitude[rows[wanted]] = source.amplitude(numbers)

        with ThreadPoolExecutor(threads or usable_cores()) as pool:
            list(pool.map(read, range(0, len(order), step)))
        good = None if scan.bad_pixels is None else scan.good_pixels()
        if good is not None and good.ndim == 3:
            good = good[order]
        return cls(amplitude, good, scan.positions_px[order], least_px=least_px, order=order, in_file=in_file)

    def __len__(self) -> int:
        return len(self._order)

    def events(self) -> list[RunEvent]:
        """Say where the frames lie, if that is not in memory."""
        if not self.in_file:
            return []
        n_bytes, each = len(self) * self.frame_px**2, "four"
        if isinstance(self._amplitude, CodedFrames):
            n_bytes, each = 2 * n_bytes, "two"
        else:
            n_bytes *= 4
        text = (
            f"The frames as the solver goes through them, {n_bytes / 2**30:.1f} GiB in {each} bytes a pixel, "
            "lie in a temporary file."
        )
        return [RunEvent("room", text, {"bytes": n_bytes})]

    def moved_by(self, correction_px: Float64[np.ndarray, "frame 2"]) -> OrderedFrames:
        """Return the same frames at corrected positions; the canvas begins where it did."""
        return self._with(positions_px=self.positions_px + correction_px)

    def split_photons(self, random: np.random.Generator) -> tuple[OrderedFrames, OrderedFrames]:
        """Return the same frames twice: with the photons that are kept, and with those that are held out."""
        shape = self._amplitude.shape
        (kept, in_file), (held, _) = room_for_frames(shape), room_for_frames(shape)
        hold_out_into(self._amplitude, random, kept=kept, held=held)
        return self._with(amplitude=kept, in_file=in_file), self._with(amplitude=held, in_file=in_file)

    def seen_only_where(self, wanted: Bool[np.ndarray, "n n"]) -> OrderedFrames:
        """Return the same frames with all pixels but those wanted marked as bad."""
        return self._with(good=wanted if self._good is None else self._good & wanted)

    def _with(
        self,
        *,
        amplitude: Float32[np.ndarray, "frame n n"] | CodedFrames | None = None,
        good: np.ndarray | None = None,
        positions_px: Float64[np.ndarray, "frame 2"] | None = None,
        in_file: bool | None = None,
    ) -> OrderedFrames:
        """Return the same frames, on the same canvas, but for what is given."""
        return OrderedFrames(
            self._amplitude if amplitude is None else amplitude,
            self._good if good is None else good,
            self.positions_px if positions_px is None else positions_px,
            least_px=self.least_px,
            order=self._order,
            in_file=self.in_file if in_file is None else in_file,
        )

    def good_share(self, size_px: int, team: Team = ON_ITS_OWN) -> Float64[np.ndarray, "n n"]:
        """Return in which part of the frames of all ranks each of the central frequencies is good."""
        crop = central(size_px, self.frame_px)
        if self._good is None:
            return np.ones((size_px, size_px))
        good = self._good[..., crop, crop].astype(np.float64)
        return team.mean_of_each(good) if good.ndim == 3 else good

    def near_the_middle(self, count: int, scan: Scan, team: Team = ON_ITS_OWN) -> OrderedFrames:
        """Return copies of so many frames, those nearest to the scan's middle; their canvas is their own.

        Several ranks call this together.
        """
        positions_px = scan.positions_px if team.several else self.positions_px
        distance = np.square(positions_px - np.median(positions_px, axis=0)).sum(axis=1)
        nearest = np.sort(np.argsort(distance, kind="stable")[:count])
        return self.some_of(nearest, team) if team.several else self._rows(nearest)

    def mean_pattern(self, size_px: int, team: Team = ON_ITS_OWN) -> Float64[np.ndarray, "n n"]:
        """Return the mean counts of the central frequencies over the frames of all ranks, centred."""
        seen, total = self._central(size_px), np.zeros((size_px, size_px))
        step = max(1, _READ_PIXELS // size_px**2)
        for first in range(0, len(self), step):
            part = seen[first : first + step]
            total += np.einsum("fij,fij->ij", part, part, dtype=np.float64)
        return team.total(total) / team.total(float(len(self)))

    def select(self, numbers: Int64[np.ndarray, " chosen"]) -> OrderedFrames:
        """Return copies of some frames, in this order, without reading them again.

        Args:
            numbers: which frames of the scan.
        """
        return self._rows(self._place()[numbers])

    def _rows(self, rows: Int64[np.ndarray, " chosen"]) -> OrderedFrames:
        """Return copies of the frames that lie there, on a canvas of their own."""
        good = self._good[rows] if self._good is not None and self._good.ndim == 3 else self._good
        return OrderedFrames(self._amplitude[rows], good, self.positions_px[rows])

    def some_of(self, numbers: Int64[np.ndarray, " chosen"], team: Team) -> OrderedFrames:
        """Return copies of a few frames of the scan, in this order, whichever rank has them.

        Several ranks call this together.
        """
        if not team.several:
            return self.select(numbers)
        order = np.argsort(self._order)
        at = np.searchsorted(self._order, numbers, sorter=order)
        rows = order[np.minimum(at, len(order) - 1)]
        ours = self._order[rows] == numbers
        shape = (len(numbers), self.frame_px, self.frame_px)
        amplitude, positions_px, good = np.zeros(shape, np.float32), np.zeros((len(numbers), 2)), self._good
        amplitude[ours], positions_px[ours] = self._amplitude[rows[ours]], self.positions_px[rows[ours]]
        if good is not None and good.ndim == 3:
            seen = np.zeros(shape, np.uint8)
            seen[ours] = good[rows[ours]]
            good = team.total(seen) > 0
        return OrderedFrames(team.total(amplitude), good, team.total(positions_px))

    def as_measured(self) -> MeasuredFrames:
        """Return all frames in the order of the scan."""
        return MeasuredFrames(self._amplitude, self._good, self._place())

    def seen_at(
        self, size_px: int
    ) -> tuple[Float32[np.ndarray, "frame n n"] | CodedFrames, Float32[np.ndarray, "*_ n n"] | None]:
        """Return amplitudes and weights of the central frequencies; no weights where all pixels are good.

        The amplitudes are a view of the one copy that all levels share, and must not be changed.
        """
        crop, amplitude = central(size_px, self.frame_px), self._central(size_px)
        if self._good is None:
            return amplitude, None
        good = self._good[..., crop, crop].astype(np.float32)
        return amplitude, None if good.all() else good

    def _central(self, size_px: int) -> Float32[np.ndarray, "frame n n"] | CodedFrames:
        """Return a view of the central frequencies."""
        crop = central(size_px, self.frame_px)
        if isinstance(self._amplitude, CodedFrames):
            return self._amplitude.central(crop)
        return self._amplitude[:, crop, crop]

    def _place(self) -> Int64[np.ndarray, " frame"]:
        """Return where each frame of the scan lies; those of other ranks lie nowhere."""
        place = np.full(int(self._order.max()) + 1, np.iinfo(np.int64).max)
        place[self._order] = np.arange(len(self._order))
        return place


class MeasuredFrames:
    """Frames that lie in another order, as `data_residual` reads those of a scan."""

    def __init__(
        self, amplitude: np.ndarray | CodedFrames, good: np.ndarray | None, place: np.ndarray
    ) -> None:
        """Take amplitudes (m, N, N), good pixels (N, N) or (m, N, N), and where each frame lies."""
        self._amplitude, self._good, self._place = amplitude, good, place

    def select(self, numbers: Int64[np.ndarray, " chosen"]) -> MeasuredFrames:
        """Return some of the frames of the scan, as those of a scan of its own."""
        return MeasuredFrames(self._amplitude, self._good, self._place[numbers])

    def amplitude(self, indices: slice | np.ndarray) -> Float32[np.ndarray, "frame n n"]:
        """Return the amplitudes of some frames of the scan."""
        return self._amplitude[self._place[indices]]

    def good_pixels(self, indices: slice) -> np.ndarray:
        """Return which pixels of these frames are good: (N, N) or (frame, N, N)."""
        if self._good is None:
            return np.ones(self._amplitude.shape[1:], bool)
        return self._good if self._good.ndim == 2 else self._good[self._place[indices]]


def scans_of_parts(scan: Scan, random: np.random.Generator, *, share: float) -> tuple[Scan, Scan]:
    """Return the scan twice, with two parts of its photons: those that are kept, and those held out.

    Args:
        share: chance of a photon to be held out.
    """
    shape = (scan.n_frames, scan.frame_px, scan.frame_px)
    (kept, _), (held, _) = room_for(shape), room_for(shape)
    step = max(1, (1 << 20) // scan.frame_px**2)
    for start in range(0, scan.n_frames, step):
        rows = slice(start, start + step)
        hold_out_into(scan.amplitude(rows), random, share=share, kept=kept[rows], held=held[rows])
    for counts in (kept, held):
        np.square(counts, out=counts)
        np.rint(counts, out=counts)
    one, other = (replace(scan, frames=counts, measurement="counts", dc="center") for counts in (kept, held))
    return one, other


#: Up to here the frames are held in memory, which is where small scans are solved fastest.
IN_MEMORY_BYTES = 1 << 29
#: What has to stay free on the disk, for the results among other things.
LEFT_BYTES = 1 << 30


def room_for_frames(shape: tuple[int, ...]) -> tuple[np.ndarray | CodedFrames, bool]:
    """Make room for amplitudes, and say whether it lies in a file.

    Small scans are float32 in memory. Large ones have two bytes a pixel, in a file where there is room.

    Raises:
        MemoryError: as `room_for`.
    """
    if 4 * math.prod(shape) <= IN_MEMORY_BYTES:
        return room_for(shape, in_memory_bytes=IN_MEMORY_BYTES)
    codes, in_file = room_for(shape, np.uint16, in_memory_bytes=0)
    return CodedFrames(codes), in_file


def can_be_in_a_file() -> bool:
    """Whether the system can promise the room of a temporary file."""
    return hasattr(os, "posix_fallocate")


def room_for(
    shape: tuple[int, ...],
    dtype: type[np.float32] | type[np.uint16] = np.float32,
    *,
    in_memory_bytes: int = IN_MEMORY_BYTES,
) -> tuple[np.ndarray, bool]:
    """Make an array to write frames into, and say whether it lies in a file.

    A large one lies in a temporary file (`TMPDIR`), which has no name and is gone when the process ends,
    however it ends. The system keeps as much of it in memory as is free, and takes it back when it is needed.
    Where the disk has no room, or the system cannot promise it, the array is in memory.

    Raises:
        MemoryError: it has room in neither; says how much it needs.
    """
    n_bytes = np.dtype(dtype).itemsize * math.prod(shape)
    if n_bytes > in_memory_bytes and can_be_in_a_file():
        try:
            return _in_file(shape, dtype, n_bytes), True
        except OSError:
            pass  # no such folder, or no room in it
    memory = memory_bytes()
    if memory is not None and n_bytes > memory:
        raise MemoryError(
            f"the frames need {in_words(n_bytes)}, this process may have {in_words(memory)}, and the folder "
            "for temporary files (`TMPDIR`) has no room for them"
        )
    return np.empty(shape, dtype), False


def _in_file(shape: tuple[int, ...], dtype: type, n_bytes: int) -> np.ndarray:
    if shutil.disk_usage(tempfile.gettempdir()).free < n_bytes + LEFT_BYTES:
        raise OSError("too little room")
    with tempfile.TemporaryFile(prefix="ptycho-") as file:
        # Promised now: a file with holes would end the process when the disk is full later.
        os.posix_fallocate(file.fileno(), 0, n_bytes)
        return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
