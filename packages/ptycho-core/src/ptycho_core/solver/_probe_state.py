"""The probe of a level while it is found: its spectrum, its variations, and their steps.

It is held as its spectrum with the zero frequency in the centre, so that a level is a plain crop of the data
as stored; its inverse transform is the probe times a chessboard of signs, which no modulus notices.
"""

from __future__ import annotations

import numpy as np

from ptycho_core.arrays import Array, Arrays
from ptycho_core.kernel import Steps

__all__ = ["ProbeState"]


class ProbeState:
    """Spectra and their velocity, on the device.

    Attributes:
        spectrum: (P, n, n) complex64.
        variations: (P, L, n, n) complex64, spectra that each frame adds in its own measure.
        velocity: (P, n, n) of the spectrum.
    """

    def __init__(self, arrays: Arrays, filters: Array, spectrum: np.ndarray, variations: np.ndarray) -> None:
        """Copy what to start from.

        Args:
            filters: (K, n, n) that make the basis functions for sub-pixel shifts.
        """
        self._xp, self._filters = arrays, filters
        self.variations = arrays.asarray(variations.astype(np.complex64, order="C"))
        self.spectrum = arrays.asarray(spectrum.astype(np.complex64, order="C"))
        self.rest()

    def rest(self) -> None:
        """Set the velocity to zero."""
        self.velocity = self._xp.zeros(tuple(self.spectrum.shape), complex_values=True)

    def power(self) -> float:
        """Counts of a frame that the probe makes, its variations included."""
        xp = self._xp
        power = float(xp.total(xp.intensity(self.spectrum[:, None])).real)
        if self.variations.shape[1]:
            power += float(np.square(np.abs(xp.to_numpy(self.variations))).sum())
        return power

    def rescale(self, factor: float) -> None:
        """Multiply all there is."""
        self.spectrum *= factor
        self.velocity *= factor
        self.variations *= factor

    def basis(self) -> Array:
        """Inverse transforms of the filtered spectra: (P, K, n, n), those of variations last."""
        n_modes, n_basis, n = self.spectrum.shape[0], self._filters.shape[0], self.spectrum.shape[-1]
        n_more = self.variations.shape[1]
        basis = self._xp.zeros((n_modes, (1 + n_more) * n_basis, n, n), complex_values=True)
        if n_more:
            for part in range(1 + n_more):
                spectrum = self.spectrum if part == 0 else self.variations[:, part - 1]
                places = slice(part * n_basis, (part + 1) * n_basis)
                basis[:, places] = self._xp.ifft2(spectrum[:, None] * self._filters[None])
            return basis

        def fill(lane: slice) -> None:
            basis[:, lane] = self._xp.ifft2(self.spectrum[:, None] * self._filters[None, lane])

        self._xp.run_lanes(fill, n_basis, n_modes * n**2)
        return basis

    def light(self) -> Array:
        """Sum over the modes of the probe's squared modulus, unshifted: (n, n)."""
        return self._xp.intensity(self._xp.ifft2(self._xp.copy(self.spectrum))[:, None])[0]

    def move(self, gradients: list[Array], n_frames: int, steps: Steps) -> None:
        """Move down the gradients by the basis functions that the lanes of a batch found, with momentum."""
        if not steps.probe_step:
            return
        xp, n_basis = self._xp, self._filters.shape[0]
        gradient = gradients[0]
        for more in gradients[1:]:
            gradient += more
        # The step should be divided by the mean transmission where the light is; `settle` keeps that at one.
        for part in range(self.variations.shape[1]):
            places = slice((part + 1) * n_basis, (part + 2) * n_basis)
            pulled_back = (self._filters.conj()[None] * xp.fft2(gradient[:, places])).sum(1)
            self.variations[:, part] += pulled_back * (steps.probe_step / n_frames)
        gradient = gradient[:, :n_basis]
        pulled_back = (self._filters.conj()[None] * xp.fft2(gradient)).sum(1)
        self.velocity *= steps.probe_momentum
        self.velocity += pulled_back * (steps.probe_step / n_frames)
        self.spectrum += self.velocity
