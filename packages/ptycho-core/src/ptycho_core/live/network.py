"""Watch with a trained network: it images each frame as it comes and stitches, with the probe it knows.

The newest frames come first, so that where frames come faster than the network sees them, the picture still
follows the beam; those passed over are imaged when there is time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from ptycho_config.errors import ConfigError
from ptycho_core.learning.frames import FrameBatch
from ptycho_core.learning.trained import Imager, Trained
from ptycho_core.live.intake import Intake
from ptycho_core.physics import whole_and_rest
from ptycho_core.physics.normalisation import intensity_scale, unit_factor_from_mean_energy
from ptycho_core.result.callbacks import Callback
from ptycho_core.result.provenance import run_provenance
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan

__all__ = ["ByNetwork"]

_MARGIN_PX = 4
_FRAMES_AT_ONCE, _FEW = 16, 4
#: A canvas that has to grow takes so much of its extent more on every side; growing means imaging all anew.
_AHEAD = 0.5


class ByNetwork:
    """A network at work on frames that come."""

    method = "network"

    def __init__(self, trained: Trained, *, keep_live: bool = False) -> None:
        """Hold a network that images each frame by itself.

        Args:
            keep_live: at the end keep the live image, where else all frames are imaged once more as a whole.
        """
        self._trained, self._keep_live = trained, keep_live
        self._members = trained.group_size
        self._imager: Imager | None = None
        self._low_px = self._high_px = np.zeros(2)
        self._light = np.zeros((0, 0), np.float32)
        self._coverage = np.zeros((0, 0), np.float32)
        self.traced = np.zeros(0, bool)
        self.news: list[str] = []

    def limits(self) -> AbstractContextManager[Any]:
        """Return the context to work in; the framework has its own threads."""
        return nullcontext()

    @property
    def size_px(self) -> int:
        """Side of the frames."""
        return self._trained.training.model.N

    @property
    def idle(self) -> bool:
        """Whether every frame that came was imaged."""
        return bool(self.traced.all())

    def ready(self, intake: Intake, *, waited_s: float, moment_s: float, last: bool) -> bool:
        """Whether there are enough frames for the network's groups.

        Raises:
            ConfigError: the frames have another size than those the network was trained on.
        """
        head = intake.head
        if head is not None and head.frame_px != self.size_px:
            raise ConfigError(
                f"The network was trained on frames of {self.size_px} px and {head.name} has frames of "
                f"{head.frame_px} px. Train one for this size, or use `--method solver`."
            )
        return len(intake) >= max(self._members, 1 if last else _FEW)

    def work(
        self, intake: Intake, *, known_px: np.ndarray | None, seconds: float, frames_per_second: float
    ) -> float:
        """Image frames that came, the newest first, for some seconds; returns NaN, as it judges none."""
        until = time.perf_counter() + seconds
        positions = intake.positions_px
        self._make_room(positions, known_px)
        self.traced = np.concatenate([self.traced, np.zeros(len(intake) - len(self.traced), bool)])
        imager = self._imager
        if imager is None:
            raise RuntimeError("there is no canvas")
        power = np.square(intake.amplitude[:: max(1, len(intake) // 64)], dtype=np.float64)
        alpha = unit_factor_from_mean_energy(float(power.sum(axis=(1, 2)).mean()), self.size_px)
        while not self.traced.all():
            chosen = np.flatnonzero(~self.traced)[::-1][:_FRAMES_AT_ONCE]
            self._image_frames(imager, intake, chosen, alpha)
            self.traced[chosen] = True
            if time.perf_counter() >= until:
                break
        return float("nan")

    def _image_frames(self, imager: Imager, intake: Intake, chosen: np.ndarray, alpha: float) -> None:
        positions = intake.positions_px
        frames = chosen if self._members == 1 else self._trained.groups(positions)[chosen].reshape(-1)
        corners, rests = whole_and_rest(positions[frames] - self._low_px)
        amplitude, good = intake.amplitude[frames], intake.good
        if good is not None:
            good = (good[frames] if good.ndim == 3 else good[None]).astype(np.float32)
        scale = intensity_scale(float(self._trained.scaling.nphotons), self.size_px)
        unit = amplitude * np.float32(alpha)
        counts = np.square(unit * np.float32(scale))
        batch = FrameBatch(unit, counts, corners, rests.astype(np.float32), good)
        corners = corners + _MARGIN_PX
        imager.add(batch, corners)
        for y, x in corners.tolist():
            self._coverage[y : y + self.size_px, x : x + self.size_px] += self._light

    def _make_room(self, positions: np.ndarray, known_px: np.ndarray | None) -> None:
        """Take a canvas that holds all windows; a new one is empty, and every frame is imaged again."""
        low, high = np.floor(positions.min(axis=0)), np.ceil(positions.max(axis=0))
        if self._imager is not None and (low >= self._low_px).all() and (high <= self._high_px).all():
            return
        if known_px is not None:
            low, high = np.minimum(low, known_px.min(axis=0)), np.maximum(high, known_px.max(axis=0))
        ahead = np.zeros(2) if self._imager is None else np.ceil(_AHEAD * (high - low)) + self.size_px
        self._low_px, self._high_px = np.floor(low - ahead), np.ceil(high + ahead)
        extent = (self._high_px - self._low_px).astype(int) + self.size_px + 2 * _MARGIN_PX
        shape = (int(extent[0]), int(extent[1]))
        self._imager = self._trained.imager()
        self._imager.begin(shape)
        self._light = np.square(np.abs(self._trained.probe)).sum(axis=0).astype(np.float32)
        self._coverage = np.zeros(shape, np.float32)
        self.traced = np.zeros(len(self.traced), bool)

    def image(self) -> tuple[np.ndarray, np.ndarray]:
        """Return object and coverage (H, W) as they are now."""
        imager = self._imager
        if imager is None:
            raise RuntimeError("there is no image before `work`")
        imager.end()
        return imager.image(), self._coverage

    def kept(self, scan: Scan) -> Reconstruction:
        """Return the live image as a result."""
        obj, _ = self.image()
        origin = self._low_px - _MARGIN_PX - self.size_px // 2
        result = self._trained.judged(scan, np.ascontiguousarray(obj), origin.astype(np.float64))
        known = {**self._trained.provenance, "papers": self._trained.papers()}
        return replace(result, provenance={**known, **run_provenance(scan)})

    def finished(self, scan: Scan, callbacks: Sequence[Callback]) -> Reconstruction:
        """Return what the network makes of the complete scan."""
        if self._keep_live and self._imager is not None:
            return self.kept(scan)
        result = self._trained.reconstruct(scan, callbacks=callbacks)
        return replace(result, provenance={**result.provenance, **run_provenance(scan)})
