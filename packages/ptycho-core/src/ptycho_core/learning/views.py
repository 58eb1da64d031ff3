"""Other views of a known object: turned, mirrored, zoomed, of another contrast, and laid over each other.

A network that learns one sample for long learns that sample's habits. What the solver found of the sample is
cut out at any place, angle and scale, and seen through the same probe: frames that could have been measured.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex64, Float32, Float64
from scipy.ndimage import map_coordinates

from ptycho_core.learning.probe_refinement import refine_probe
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.simulate.scan import expected_intensity

__all__ = ["Views"]

#: More of the sample than these frames show teaches little more.
_MOST_FRAMES = 1000
#: Where the object got less light than this part of the most, it is not known.
_KNOWN = 0.1
#: Views are up to so many times larger or smaller than the object.
_MOST_ZOOM = 2.0
#: Factors of the logarithm of the amplitude, and of the phase.
_AMPLITUDE_CONTRAST, _PHASE_CONTRAST = (0.3, 1.5), (0.3, 1.5)
#: What a sample can transmit at most; a little above 1, as the networks can.
_LARGEST_AMPLITUDE = 1.2
#: Part of the views in which two layers lie over each other.
_TWO_LAYERS = 0.5


class Views:
    """Draws views of an object and what a detector would see of them through a probe."""

    def __init__(self, known: Reconstruction, probe: Complex64[np.ndarray, "mode n n"]) -> None:
        """Hold the part of the object that is known.

        Args:
            known: of the sample; its object is around 1 where nothing is.
            probe: through which views are seen; given the power of the probe of `known`, in counts.
        """
        illuminated = known.coverage > _KNOWN * known.coverage.max()
        rows, columns = np.flatnonzero(illuminated.any(1)), np.flatnonzero(illuminated.any(0))
        inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        obj = np.where(illuminated, known.object, 1.0)[inside]
        self._log_amplitude = np.log(np.abs(obj).clip(1e-3)).astype(np.float32)
        self._phasor = (obj / np.abs(obj).clip(1e-12)).astype(np.complex64)
        self._probe = (probe * (np.linalg.norm(known.probe) / np.linalg.norm(probe))).astype(np.complex64)

    @classmethod
    def of_scan(cls, scan: Scan) -> Views:
        """Hold what the solver sees, in a few seconds, in the frames around the middle of a bright scan."""
        return cls(refine_probe(scan, most_frames=_MOST_FRAMES), scan.probe)

    def counts(
        self, positions_px: Float64[np.ndarray, "frame 2"], random: np.random.Generator
    ) -> Float32[np.ndarray, "frame n n"]:
        """Expected counts of frames at these (y, x) positions, all on one new view; DC in the centre."""
        n = self._probe.shape[-1]
        local = positions_px - np.floor(positions_px.min(axis=0)) + n // 2 + 1
        height, width = (np.ceil(local.max(axis=0)).astype(int) + n // 2 + 1).tolist()
        return expected_intensity(self.draw((height, width), random), self._probe, local)

    def draw(
        self, shape: tuple[int, int], random: np.random.Generator
    ) -> Complex64[np.ndarray, "height width"]:
        """Return a view of this shape."""
        view = self._layer(shape, random)
        if random.random() < _TWO_LAYERS:
            view = view * self._layer(shape, random)
        modulus = np.abs(view)
        return (view * (np.minimum(modulus, _LARGEST_AMPLITUDE) / modulus)).astype(np.complex64)

    def _layer(self, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
        angle = random.uniform(0, 2 * np.pi)
        zoom = _MOST_ZOOM ** random.uniform(-1, 1)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        if random.random() < 0.5:
            turn[:, 1] *= -1
        middle = random.uniform(0, 1, 2) * (np.array(self._phasor.shape) - 1)
        grid = np.stack(np.meshgrid(*(np.arange(s) - s / 2 for s in shape), indexing="ij"))
        at = np.tensordot(turn, grid, 1) + middle[:, None, None]
        log_amplitude = map_coordinates(self._log_amplitude, at, order=1, mode="mirror")
        # The phasor is interpolated, since a phase has seams.
        phase = np.angle(
            map_coordinates(self._phasor.real, at, order=1, mode="mirror")
            + 1j * map_coordinates(self._phasor.imag, at, order=1, mode="mirror")
        )
        amplitude_contrast = random.uniform(*_AMPLITUDE_CONTRAST)
        phase_contrast = random.uniform(*_PHASE_CONTRAST) * random.choice((-1, 1))
        return np.exp(amplitude_contrast * log_amplitude + 1j * phase_contrast * phase)
