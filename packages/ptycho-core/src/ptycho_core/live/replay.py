"""Replay a scan that is finished as if it were being measured."""

from __future__ import annotations

import time

import numpy as np

from ptycho_core.io.raw_scan import RawScan
from ptycho_core.live.arrival import Arrival
from ptycho_core.scan import Scan

__all__ = ["Replay"]


class Replay:
    """The frames of a scan, so many a second by the clock, whether or not they are taken."""

    def __init__(self, scan: Scan, frames_per_second: float) -> None:
        """Begin with the first call of `poll`."""
        self.name = scan.name
        self._scan, self._rate = scan, frames_per_second
        self._began: float | None = None
        self._given = 0

    def head(self) -> RawScan:
        scan = self._scan
        return RawScan(
            name=scan.name,
            format="NPZ",
            frames=np.empty((0, 0, 0)),
            positions_px=None,
            position_unit_open=False,
            probe=None if scan.probe_source == "estimated" else scan.probe,
            probe_source="given" if scan.probe_source == "given" else "file",
            bad_pixels=scan.bad_pixels if scan.bad_pixels is not None and scan.bad_pixels.ndim == 2 else None,
            declared_measurement=("amplitude", "the replay gives the roots of the counts"),
            declared_dc="center",
            pixel_size_m=scan.pixel_size_m,
            energy_ev=scan.energy_ev,
            distance_m=scan.distance_m,
            source=scan.source,
            known_sha256=scan.known_sha256,
        )

    def positions_known(self) -> np.ndarray | None:
        return self._scan.positions_px

    @property
    def expected(self) -> int | None:
        return self._scan.n_frames

    @property
    def ended(self) -> bool:
        return self._given == self._scan.n_frames

    def missing(self) -> dict[int, str]:
        return {}

    def poll(self, *, last: bool = False) -> list[Arrival]:
        """Return the frames that are due; each arrived when it was due, not when it was asked for."""
        now = time.perf_counter()
        if self._began is None:
            self._began = now
        due = min(int((now - self._began) * self._rate) + 1, self._scan.n_frames)
        chosen = slice(self._given, due)
        amplitude = self._scan.amplitude(chosen)
        good = self._scan.good_pixels(chosen)
        if good.ndim == 3:
            amplitude[~good] = np.nan
        found = [
            Arrival(
                index,
                amplitude[index - self._given],
                self._scan.positions_px[index],
                self._began + index / self._rate,
            )
            for index in range(self._given, due)
        ]
        self._given = due
        return found
