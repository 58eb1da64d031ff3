"""The most probable object: Poisson likelihood times prior, all frames at once.

    minimise  sum deviance(counts + c, I + c) + prior(O)     I: predicted counts, c: a softening

O = B u: what is improved is a sharp image u, of which the object is a little blurred (`prior.py`). c on both
sides leaves the likelihood's minimum where it is and bounds the gradient where few photons are.
Each step follows the gradient of the likelihood divided by the light of each pixel, and then takes the
proximal step of the prior, with the momentum of A. Beck and M. Teboulle, SIAM J. Imaging Sci. 2 (2009) 183,
10.1137/080716542, which is dropped where it leads uphill (B. O'Donoghue and E. Candes, Found. Comput. Math.
15 (2015) 715, 10.1007/s10208-013-9150-3). A step that raises the objective is undone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy import ndimage

from ptycho_core.arrays import Array, Arrays
from ptycho_core.physics.canvas import frequencies
from ptycho_core.solver.level import FullGradient, Level
from ptycho_core.solver.prior import Prior, softened
from ptycho_core.solver.proximal import proximal_image
from ptycho_core.solver.tiles import Tiles

__all__ = ["Posterior", "PosteriorState", "ProbeFreedom", "softening_of"]

ProbeFreedom = Literal["held", "phases", "free"]

#: Curvature of the deviance along a wave, in units of the light; it grows after a step that was undone.
_CURVATURE, _GROWTH, _DECAY = 2.0, 1.3, 0.97
#: Part of the most light that is added everywhere.
_FLOOR = 2e-3
#: Iterations after which strengths that follow the edges are worked out anew.
_RENEWAL = 6
#: Passes of the blur by which a tile is wrong at its edge, where no frame looks.
_WITHIN_MARGIN = 2
#: Steps of a probe after which its light is put on the canvas anew.
_LIGHT_RENEWAL = 4
_PROBE_STEP, _PHASE_STEP, _PROBE_MOMENTUM, _LARGEST_PHASE = 1.0, 0.5, 0.7, 0.3
#: The free probe moves where the mean pattern, smoothed, has more than about this part of its peak.
_DIM = 0.05


def softening_of(mean_counts: float) -> float:
    """Return the counts per pixel that are added to both sides, for a mean of counts per pixel."""
    return max(min(0.3 * mean_counts, 0.5), 1e-9)


@dataclass(frozen=True, eq=False)
class PosteriorState:
    """Sharp image (H, W) and passes that make it the object, dual variable (2, H, W) of the prior and spectra
    (P, n, n), on the device."""

    sharp: Array
    passes: int
    dual: Array
    spectrum: Array


class Posterior:
    """The objective of one set of frames, and the present state.

    Attributes:
        spectrum: (P, n, n) complex64, centred spectra of the probe's modes.
    """

    def __init__(
        self,
        level: Level,
        arrays: Arrays,
        *,
        spectrum: Array,
        obj: Array,
        n_frames: int,
        counts_per_frame: float,
        mean_pattern: Float64[np.ndarray, "n n"],
        read_noise: float = 0.0,
    ) -> None:
        """Take frames, whose misfit is the deviance of counts, and what to start from.

        Args:
            mean_pattern: mean counts of the frames, centred; a free probe keeps to where it is bright.
            read_noise: its standard deviation in counts.
        """
        self._level, self._xp = level, arrays
        self._tiles, self._team = level.tiles, level.tiles.team
        self._n_frames, self.counts_per_frame = n_frames, counts_per_frame
        self._mean_pattern, self._read_variance = mean_pattern, read_noise**2
        self._sharp, self._passes = obj, 0
        self._dual = arrays.zeros((2, *obj.shape), complex_values=True)
        self._expected: tuple[Array, Array] | None = None
        self._set_probe(spectrum)

    def expect_image(self, image: Array, where: Array) -> None:
        """Take the image (H, W) complex64 that priors with a pull to it mean.

        Args:
            where: (H, W) float32, 1 where it pulls and 0 elsewhere.
        """
        self._expected = image, where

    @property
    def object(self) -> Array:
        """The object, (H, W) complex64."""
        return self._softened(self._sharp, self._passes)

    def _softened(self, image: Array, passes: int) -> Array:
        """Return an image after so many passes of the blur; those of many pass the margin of a tile."""
        found = softened(self._xp, image, passes)
        if passes > _WITHIN_MARGIN:
            self._tiles.as_owned(self._xp, (found,))
        return found

    def state(self) -> PosteriorState:
        """Return the present state; nothing in it is changed later."""
        return PosteriorState(self._sharp, self._passes, self._xp.copy(self._dual), self.spectrum)

    def restore(self, state: PosteriorState) -> None:
        """Go back to a state, or on from one of other frames."""
        self.go_on_with(state)
        if state.spectrum is not self.spectrum:
            self._set_probe(state.spectrum)

    def begin(self, obj: Array, spectrum: Array) -> None:
        """Start anew from an object (H, W) and spectra (P, n, n)."""
        self._sharp, self._passes = obj, 0
        self._dual = self._xp.zeros((2, *obj.shape), complex_values=True)
        self._set_probe(spectrum)

    def begin_flat(self, spectrum: Array) -> None:
        """Start anew from a transparent object and spectra (P, n, n)."""
        flat = np.ones(tuple(self._sharp.shape), np.complex64)
        self.begin(self._xp.asarray(flat), spectrum)

    def go_on_with_probe(self, spectrum: Array) -> None:
        """Go on from the present image with other spectra (P, n, n), of any number of modes."""
        self._set_probe(spectrum)

    def go_on_with(self, state: PosteriorState) -> None:
        """Go on from the image of a state, also of other frames, with the present probe."""
        self._sharp, self._passes, self._dual = state.sharp, state.passes, self._xp.copy(state.dual)

    def _set_probe(self, spectrum: Array) -> None:
        self.spectrum = spectrum
        self._light = self._level.coverage(spectrum)
        self._metric = self._light + _FLOOR * self._team.largest(self._xp.peak(self._light))
        self._our_light, self._our_metric = (
            self._tiles.of_mine(self._xp, values) for values in (self._light, self._metric)
        )

    @property
    def tiles(self) -> Tiles:
        """Where the canvas lies among those of other ranks."""
        return self._tiles

    @property
    def light(self) -> Array:
        """Counts that fall on each pixel of the canvas, (H, W)."""
        return self._light

    def total(self, values: Array) -> complex:
        """Return the sum over all ranks of values (H, W), which are 0 in pixels of other ranks."""
        total = self._xp.total(values)
        return complex(self._team.total(np.array([total], np.complex128))[0])

    def misfit(self) -> float:
        """Return the misfit of the present state."""
        return self._level.gradient(self.object, self.spectrum, with_probe=False).misfit

    def expected_misfit(self, share: Float64[np.ndarray, "n n"]) -> float:
        """Return about the misfit that the noise alone would leave, for the likelihood of the roots.

        Args:
            share: of the frames in which each pixel is good.
        """
        mean = self._mean_pattern
        per_frame = 0.5 * share * (mean + self._read_variance) / (mean + self._level.count_softening)
        return max(self._n_frames * float(per_frame.sum()), np.finfo(np.float64).tiny)

    def improve(
        self,
        prior: Prior,
        *,
        iterations: int,
        probe: ProbeFreedom = "held",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Go so many steps towards the most probable object.

        Args:
            probe: held; or its spectrum's phase moves along smooth polynomials; or all of it moves.
        """
        xp = self._xp
        mover = None if probe == "held" else _ProbeMover(xp, probe, self.spectrum, self._mean_pattern)
        image, self._passes = self._sharp, prior.passes
        ahead, momentum, curvature = image, 1.0, _CURVATURE
        best, good = math.inf, (image, xp.copy(self._dual), self.spectrum)
        tolerance = 2 * math.sqrt(prior.pull * self._n_frames * self.counts_per_frame)
        strengths: Array = None
        ours: Array = None

        def objective(misfit: float, ahead: Array, obj: Array) -> float:
            return misfit + self._team.total(prior.energy(ahead, ours)) + self._distance(obj, prior)

        for iteration in range(iterations):
            if should_stop():
                break
            if strengths is None or (prior.follows_edges and iteration % _RENEWAL == 0):
                strengths, best = xp.asarray(prior.strengths(xp.to_numpy(image))), math.inf
                ours = self._tiles.of_mine(xp, strengths)
            obj = self._softened(ahead, prior.passes)
            seen = self._level.gradient(obj, self.spectrum, with_probe=mover is not None)
            value = objective(seen.misfit, ahead, obj)
            if not value <= best + tolerance:
                image, dual, spectrum = good
                self._dual, ahead, momentum = xp.copy(dual), image, 1.0
                if not math.isfinite(value):
                    self._set_probe(spectrum)
                curvature *= _GROWTH
                if mover is not None:
                    mover.rest()
                obj = self._softened(ahead, prior.passes)
                seen = self._level.gradient(obj, self.spectrum, with_probe=mover is not None)
                value = objective(seen.misfit, ahead, obj)
            curvature = max(_CURVATURE, curvature * _DECAY)
            if value < best:
                best, good = value, (image, xp.copy(self._dual), self.spectrum)
            moved = self._step(image, ahead, obj, seen, prior, strengths, curvature)
            if self.total((ahead - moved) * (moved - image).conj() * self._our_metric).real > 0:
                momentum = 1.0
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = moved + (moved - image) * ((momentum - 1) / following)
            image, momentum = moved, following
            if mover is not None and seen.to_spectrum is not None:
                self.spectrum = mover.moved(
                    self.spectrum, seen.to_spectrum, self._n_frames, self.counts_per_frame
                )
                if (iteration + 1) % _LIGHT_RENEWAL == 0 or iteration + 1 == iterations:
                    self._set_probe(self.spectrum)
        self._sharp = image

    def _distance(self, obj: Array, prior: Prior) -> float:
        """Return what an object pays for its distance from the one that is expected."""
        if self._expected is None or not prior.to_mean:
            return 0.0
        expected, where = self._expected
        ours = self._tiles.of_mine(self._xp, where)
        return prior.to_mean * self._team.total(float((abs(obj - expected) ** 2 * ours).sum()))

    def _step(
        self,
        image: Array,
        ahead: Array,
        obj: Array,
        seen: FullGradient,
        prior: Prior,
        strengths: Array,
        curvature: float,
    ) -> Array:
        """Return the image after likelihood, pull and proximal step from `ahead`, which softened is `obj`."""
        xp = self._xp
        weight, way_down = self._metric * curvature, seen.to_object
        if self._expected is not None and prior.to_mean:
            expected, where = self._expected
            way_down = way_down + (expected - obj) * (where * prior.to_mean)
            weight = weight + where * prior.to_mean
        target = ahead * weight + softened(xp, way_down, prior.passes)
        modulus = abs(ahead)
        mean = self.total(modulus * self._our_light).real / self.total(self._our_light).real
        target += ahead * (prior.pull * mean / (modulus + 1e-3))
        weight = weight + prior.pull
        target = target / weight
        found = proximal_image(
            xp,
            target=target,
            weight=weight,
            strength=strengths,
            bend=prior.bend,
            image=image,
            dual=self._dual,
        )
        self._tiles.as_owned(xp, (found, self._dual[0], self._dual[1]))
        return found

    def misfit_of(self, level: Level, *, counts_ratio: float) -> float:
        """Return the deviance of other frames, whose counts are so many times those of ours."""
        spectrum = self.spectrum * math.sqrt(counts_ratio)
        return level.gradient(self.object, spectrum, with_probe=False).misfit


class _ProbeMover:
    """Moves the probe's spectra down the gradient, with momentum; its power is that of the counts."""

    def __init__(
        self, arrays: Arrays, freedom: ProbeFreedom, spectrum: Array, mean_pattern: np.ndarray
    ) -> None:
        self._xp, self._freedom = arrays, freedom
        if freedom == "phases":
            power = np.square(np.abs(arrays.to_numpy(spectrum)), dtype=np.float64).sum(axis=0)
            self._phases = smooth_phases(power)
        else:
            smooth = ndimage.gaussian_filter(mean_pattern, 1.0, mode="wrap")
            self._where = arrays.asarray((smooth / (smooth + _DIM * smooth.max())).astype(np.float32))
        self.rest()

    def rest(self) -> None:
        self._velocity: Array = 0.0

    def moved(self, spectrum: Array, way_down: Array, n_frames: int, counts_per_frame: float) -> Array:
        """Return the spectra (P, n, n) after a step."""
        xp = self._xp
        if self._freedom == "free":
            self._velocity = self._velocity * _PROBE_MOMENTUM + way_down * self._where * (
                _PROBE_STEP / n_frames
            )
            moved = spectrum + self._velocity
        else:
            now, way = xp.to_numpy(spectrum), xp.to_numpy(way_down)
            slope = np.tensordot(self._phases, np.imag(now.conj() * way).sum(axis=0), axes=2)
            power = np.square(np.abs(now)).sum(axis=0)
            bend = n_frames * np.tensordot(np.square(self._phases), power, axes=2)
            change = 2 * _PHASE_STEP * slope / bend
            change *= min(1.0, _LARGEST_PHASE / max(float(np.abs(change).max()), 1e-9))
            self._velocity = self._velocity * _PROBE_MOMENTUM + change
            turned = now * np.exp(1j * np.tensordot(self._velocity, self._phases, axes=1))
            moved = xp.asarray(turned.astype(np.complex64))
        power = float(xp.total(xp.intensity(moved[:, None])).real)
        return moved * math.sqrt(counts_per_frame / power)


#: Highest degree of the polynomials, and where they end to grow, in widths of the spectrum.
_DEGREE, _SATURATION = 4, 2.5


def smooth_phases(power: Float64[np.ndarray, "n n"]) -> Float64[np.ndarray, "phase n n"]:
    """Return polynomials of degree 2 to 4 of the frequency, orthonormal where a spectrum has its power.

    Degrees 0 and 1 would change nothing but the phase of the object and its place.
    """
    weight = power / power.sum()
    y, x = np.broadcast_arrays(frequencies(len(power))[:, None], frequencies(len(power))[None])
    y, x = y - (weight * y).sum(), x - (weight * x).sum()
    width = math.sqrt(float((weight * (y**2 + x**2)).sum()))
    distance = np.hypot(y, x) / width
    bounded = np.minimum(1, _SATURATION / np.maximum(distance, 1e-9)) / width
    y, x = y * bounded, x * bounded
    found: list[np.ndarray] = []
    for degree in range(_DEGREE + 1):
        for power_of_y in range(degree + 1):
            shape = y**power_of_y * x ** (degree - power_of_y)
            for earlier in found:
                shape = shape - (weight * shape * earlier).sum() * earlier
            found.append(shape / np.sqrt((weight * shape**2).sum()))
    return np.array(found[3:])
