"""Check what came, once: what is a frame, what was had before, what is broken; and keep it as amplitude."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from ptycho_config.errors import ConfigError, DataError
from ptycho_core.io.checked_scan import admit, warn_without_overlap
from ptycho_core.io.frame_choice import far_from_all_others
from ptycho_core.io.frame_values import LARGEST_NAN_FRACTION, canvas_limit_px, largest_value
from ptycho_core.io.geometry import turned_positions
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.raw_scan import RawScan
from ptycho_core.io.units import on_grid
from ptycho_core.live.arrival import Arrival, Source
from ptycho_core.live.near import not_far_off, within_a_canvas
from ptycho_core.memory import in_words, memory_bytes
from ptycho_core.scan import Scan
from ptycho_core.scan.estimated_probe import estimate_probe
from ptycho_core.scan.lazy import LazyFrames

__all__ = ["Intake"]

#: So many frames are enough to tell counts from amplitude and where the zero frequency is, or a first few
#: after a moment.
_ENOUGH, _FEW, _MOMENT_S = 16, 4, 0.4
_LEAST_ROOM = 64
#: Parts of the memory: for room that a source declares, and for all frames.
_DECLARED_PART, _FRAMES_PART = 0.25, 0.5


class Intake:
    """The frames that came, as (M, N, N) amplitude with the zero frequency in the centre.

    Attributes:
        head: the first frames as a scan, None until there are enough: scale, probe, mask, lengths.
        broken: frames that came and cannot be used: number -> why.
        repeated: how many came again.
        arrived_s: (M,) when each came.
    """

    def __init__(self, source: Source, reading: ReadOptions | None = None) -> None:
        """Hold how frames are read.

        Args:
            reading: as for `open_scan`; names in a file, and the file of the positions, are the source's
                business.
        """
        # What frames are used is judged one by one here, and by the finish over all of them.
        every = {"bad_frames": "off", "frames": None, "exclude_frames": None, "region": None}
        self._source, self._reading = source, replace(reading or ReadOptions(), **every)
        self.head: Scan | None = None
        self.broken: dict[int, str] = {}
        self.repeated = 0
        self._held: list[Arrival] = []
        self._rows: dict[int, int] = {}
        self._count = 0
        self._bad: np.ndarray | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def amplitude(self) -> np.ndarray:
        """(M, N, N) float32 of all frames so far; a view that may not be changed."""
        return self._amplitude[: self._count]

    @property
    def positions_px(self) -> Float64[np.ndarray, "frame 2"]:
        """(M, 2) of all frames so far, in object pixels."""
        return self._positions[: self._count]

    @property
    def arrived_s(self) -> Float64[np.ndarray, " frame"]:
        """When each frame came, by `time.perf_counter`."""
        return self._arrived[: self._count]

    @property
    def bad_pixels(self) -> np.ndarray | None:
        """True = bad, as in `Scan`: (N, N) for all frames, (M, N, N) where they differ, None without any."""
        if self._bad is not None:
            return self._bad[: self._count]
        shared = None if self.head is None else _bad_in_all_frames(self.head)
        return shared if shared is not None and shared.any() else None

    @property
    def good(self) -> np.ndarray | None:
        """True = good, as in `Scan.good_pixels`: of the same shape as `bad_pixels`, None where all are."""
        bad = self.bad_pixels
        return None if bad is None else ~bad

    @property
    def left_out(self) -> dict[int, str]:
        """Frames that came broken and did not come again whole, or never came: number -> why."""
        missing = {**self.broken, **self._source.missing()}
        return {index: why for index, why in sorted(missing.items()) if index not in self._rows}

    def take(self, arrivals: Sequence[Arrival], *, last: bool = False) -> int:
        """Check frames and keep the good new ones; return how many those are.

        Args:
            last: nothing more will come.
        Raises:
            DataError: the first frames make no scan, and no others will come.
        """
        if self.head is None:
            self._held += arrivals
            arrivals = self._begin(last=last)
        before = self._count
        for arrival in arrivals:
            self._keep(arrival)
        return self._count - before

    def scan(self) -> Scan:
        """Return all frames so far as a scan, in the order of their numbers.

        Raises:
            DataError: none came.
        """
        head = self.head
        if head is None or not self._count:
            raise DataError(f"{self._source.name}: {self._why_none()}")
        order = np.array([row for _, row in sorted(self._rows.items())])
        in_order = bool((np.diff(order) == 1).all())
        rows: Any = slice(0, self._count) if in_order else order
        bad = self.bad_pixels
        scan = replace(
            head,
            frames=self._amplitude[rows],
            positions_px=self._positions[rows],
            measurement="amplitude",
            dc="center",
            bad_pixels=bad[rows] if bad is not None and bad.ndim == 3 else bad,
            notes=(*head.notes, f"{self._count} frames, watched while they were measured."),
        )
        if head.probe_source == "estimated":
            scan = replace(scan, probe=estimate_probe(scan)[0])
        far = far_from_all_others(scan.positions_px, scan.frame_px)
        if far.any():
            text = f"{np.count_nonzero(far)} of the frames that came lie far from all others and are left out"
            warnings.warn(f"{scan.name}: {text}.", UserWarning, stacklevel=2)
            scan = replace(scan.select(~far), notes=(*scan.notes, f"{text}."))
        warn_without_overlap(scan)
        return scan

    def _why_none(self) -> str:
        """Say why there is no scan: nothing came, or nothing that could be used."""
        left_out = self.left_out
        if not left_out:
            return "no frame came. Is the name right, and has the scan begun?"
        first = next(iter(left_out.values()))
        return (
            f"no frame came that could be used; {len(left_out)} were left out, the first for this: {first}. "
            "Expected frames of one size with a position each; is `--positions-file` right?"
        )

    def _begin(self, *, last: bool) -> list[Arrival]:
        """Check the first frames as a finished scan is checked; return those to keep."""
        held = self._held
        if not held:
            return []
        waited = time.perf_counter() - held[0].at_s
        usable = [arrival for arrival in held if _is_frame(arrival) == ""]
        if not last and len(usable) < _ENOUGH and (len(usable) < _FEW or waited < _MOMENT_S):
            return []
        sizes = [arrival.frame.shape for arrival in usable]
        alike = [arrival for arrival in usable if arrival.frame.shape == max(set(sizes), key=sizes.count)]
        if not alike:
            if last:
                raise DataError(f"{self._source.name}: none of the {len(held)} frames that came can be read.")
            return []
        # One wild position must not spoil the beginning, nor must a part of the scan that lies elsewhere.
        together = [alike[row] for row in not_far_off([arrival.position for arrival in alike])]
        refused: DataError | None = None
        while self.head is None and together:
            try:
                raw = self._admit(together)
            except DataError as error:
                refused = refused or error
                together = together[: len(together) // 2] if len(together) // 2 >= _FEW else []
        if self.head is None:
            if refused is not None and (last or len(alike) >= 4 * _ENOUGH):
                raise refused
            return []
        self._set_up(self.head, raw)
        self._held = []
        chosen = {id(arrival) for arrival in together}
        return [*together, *(arrival for arrival in held if id(arrival) not in chosen)]

    def _admit(self, alike: list[Arrival]) -> RawScan:
        """Check frames as a finished scan is checked, and keep them as `head`.

        Raises:
            DataError: they make no scan. ConfigError: they cannot be live.
        """
        raw = replace(
            self._source.head(),
            frames=np.stack([arrival.frame for arrival in alike]),
            positions_px=np.stack([arrival.position for arrival in alike]).astype(np.float64),
            checksum=None,
            ground_truth=None,
            patch_truth=None,
        )
        if raw.bad_pixels is not None and raw.bad_pixels.ndim == 3:
            raw = replace(raw, bad_pixels=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few frames; the whole scan warns again where it is true
            head = admit(raw, self._reading)
        if head.pixel_aspect != 1:
            high = f"{1 / head.pixel_aspect:.4g} times as high as wide"
            raise ConfigError(
                f"{self._source.name}: the detector's pixels are {high}, which the live image does not take. "
                "Reconstruct the scan when it is complete: `ptycho reconstruct`."
            )
        self.head = head
        return raw

    def _set_up(self, head: Scan, raw: RawScan) -> None:
        self._changes = head.frames.changes if isinstance(head.frames, LazyFrames) else ()
        self._turn = self._reading.positions_orientation
        self._scale = head.position_scale
        self._offset_px = 0.5 if head.position_convention == "center" else 0.0
        self._stored_shape = raw.frames.shape[1:]
        known, side = self._source.positions_known(), head.frame_px
        # Room that is never used costs nothing; a copy of all frames would make the newest wait. But a source
        # may declare any number.
        room = max(self._source.expected or 0, 0 if known is None else len(known))
        room = max(_LEAST_ROOM, min(room, _frames_in(_DECLARED_PART, side)))
        self._amplitude = np.empty((room, side, side), np.float32)
        self._positions, self._arrived = np.empty((room, 2)), np.empty(room)

    def _keep(self, arrival: Arrival) -> None:
        if arrival.index in self._rows:
            self.repeated += 1
            return
        why = _is_frame(arrival)
        if not why and arrival.frame.shape != self._stored_shape:
            why = f"{arrival.frame.shape} pixels, the others have {self._stored_shape}"
        if not why:
            why = self._place(arrival)
        if why:
            self.broken[arrival.index] = why
        else:
            self.broken.pop(arrival.index, None)

    @property
    def largest_canvas_px(self) -> float:
        """How large a canvas may become: by the frames that came or are declared, and by the memory."""
        side = 0 if self.head is None else self.head.frame_px
        return canvas_limit_px(max(self._count, len(self._amplitude)), side)

    def positions_ahead(self) -> Float64[np.ndarray, "frame 2"] | None:
        """Return the positions that the source knows and one canvas can hold; None where it knows none."""
        known = self._source.positions_known()
        if known is None or not len(known) or self.head is None or not self._count:
            return None
        finite = known[np.isfinite(known).all(axis=1)]
        ahead = self.positions_of(finite)
        near = within_a_canvas(ahead, self.positions_px, self.head.frame_px, self.largest_canvas_px)
        return ahead[near] if near.any() else None

    def positions_of(self, stored: np.ndarray) -> Float64[np.ndarray, "frame 2"]:
        """Turn positions as stored into object pixels."""
        turned = turned_positions(np.asarray(stored, np.float64).reshape(-1, 2), self._turn)
        return on_grid(turned * self._scale + self._offset_px)

    def _place(self, arrival: Arrival) -> str:
        """Put a frame in its row; or say why it has none."""
        head = self.head
        if head is None:
            return "the scan has not begun"
        position = self.positions_of(arrival.position)[0]
        if self._count and not within_a_canvas(
            position[None], self.positions_px, head.frame_px, self.largest_canvas_px
        ):
            return f"its position {position.tolist()} is far from all others"
        if (
            self._count == len(self._amplitude)
            and self._count >= _frames_in(_FRAMES_PART, head.frame_px) // 2
        ):
            room = in_words(4.0 * 2 * self._count * head.frame_px**2)
            return f"there is no memory for more than {self._count} frames (room for twice as many is {room})"
        block = arrival.frame[None]
        for change in self._changes:
            block = change(block)
        largest = float(np.fmax.reduce(block[0], axis=None))  # NaN, which marks pixels, is passed over
        if largest > largest_value(head.measurement):
            return f"it holds {largest:.3g}, more than float32 can square and sum"
        values = np.array(block[0], np.float32)
        if head.dc == "corner":
            values = np.fft.fftshift(values)
        if self._count == len(self._amplitude):
            self._make_room()
        row = self._count
        bad = np.isnan(values)
        self._mark(row, bad)
        values[bad | _bad_in_all_frames(head)] = 0
        np.maximum(values, 0, out=values)
        self._amplitude[row] = np.sqrt(values) if head.measurement == "counts" else values
        self._positions[row], self._arrived[row] = position, arrival.at_s
        self._rows[arrival.index] = row
        self._count += 1
        return ""

    def _mark(self, row: int, bad: np.ndarray) -> None:
        """Note the pixels that are NaN in this frame and not in all."""
        head = self.head
        if head is None:
            return
        known = _bad_in_all_frames(head)
        if self._bad is None and (bad & ~known).any():
            self._bad = np.zeros(self._amplitude.shape, bool)
            self._bad[:row] = known
        if self._bad is not None:
            self._bad[row] = known | bad

    def _make_room(self) -> None:
        names = ["_amplitude", "_positions", "_arrived", *(["_bad"] if self._bad is not None else [])]
        for name in names:
            held = getattr(self, name)
            grown = np.empty((2 * len(held), *held.shape[1:]), held.dtype)
            grown[: len(held)] = held
            setattr(self, name, grown)


def _frames_in(part: float, frame_px: int) -> int:
    """Return how many frames a part of the memory holds as amplitudes."""
    memory = memory_bytes()
    return 1 << 40 if memory is None else int(part * memory / (4 * frame_px**2))


def _bad_in_all_frames(head: Scan) -> np.ndarray:
    """Return the bad pixels that all frames share."""
    if head.bad_pixels is None:
        return np.zeros((head.frame_px, head.frame_px), bool)
    return np.asarray(head.bad_pixels if head.bad_pixels.ndim == 2 else head.bad_pixels.all(axis=0))


def _is_frame(arrival: Arrival) -> str:
    """Say what is wrong with a frame; an empty text where nothing is."""
    frame = arrival.frame
    if frame.ndim != 2 or frame.dtype.kind not in "biuf":
        return f"{frame.dtype} of shape {frame.shape} is no frame"
    if not np.isfinite(np.asarray(arrival.position, np.float64)).all():
        return "its position is not finite"
    if frame.dtype.kind == "f":
        if np.isinf(frame).any():
            return "it holds infinite values"
        if np.isnan(frame).mean() > LARGEST_NAN_FRACTION:
            return "most of it is NaN"
    return "" if frame.any() else "it is dark"
