"""Spectral convolutions: a linear map of the channels for each low spatial frequency, zero for the others.

The transforms are those of `rfft`, norm "backward": along the columns' index the frequencies from 0 up, and,
in two dimensions, along the rows' index both signs. So few frequencies are kept that multiplying by the rows
of the transform is less work than a fast transform of all, and neither needs complex numbers nor another
order of the axes. Features are (B, H, W, C); spectra have the real and then the imaginary part of all
channels in the last axis.

Weights are real, with the real and the imaginary part in a last axis of length two, so that they can be
stored and read anywhere. Transforms run in float32 also where the rest runs in half precision, and in
float64 where all does.

Weights start Glorot-uniform: real and imaginary part each uniform within sqrt(3 / (in + out)), which gives
a complex weight the variance 2 / (in + out), so a kept frequency keeps its energy.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from ptycho_config.errors import DataError
from ptycho_core_tf.first_weights import uniform
from ptycho_core_tf.framework import tf
from ptycho_core_tf.networks.layers import at_least_float32

__all__ = ["AxisConvolution", "SpectralConvolution", "SpectralPair"]


class SpectralConvolution(tf.Module):
    """Two-dimensional spectral convolution over the lowest columns and the lowest rows of both signs.

    With the non-negative rows alone, a structure along one of the two diagonals could not pass.

    `weight` is (2, in, out, m, m, 2): sign, channels, channels, row, column, (re, im). Sign 0 holds the
    rows 0, 1, ... m - 1, sign 1 the rows -m, ... -1, in this order.

    Args:
        modes: number m of columns and of rows of each sign; at most half the side of an image.
        dtype: of the weights.
    """

    def __init__(self, channels_in: int, channels_out: int, modes: int, *, dtype: str = "float32") -> None:
        super().__init__()
        self.modes = modes
        shape = (2, channels_in, channels_out, modes, modes)
        self.weight = _glorot_weight(channels_in, channels_out, *shape, dtype=dtype)

    def __call__(self, images: Float[tf.Tensor, "batch h w inputs"]) -> Float[tf.Tensor, "batch h w outputs"]:
        """Return the images filtered and mixed, of the same size, in float32 at least."""
        _check_side(images, self.modes)
        images = at_least_float32(images)
        _, height, width, _ = images.shape
        rows = np.concatenate([np.arange(self.modes), np.arange(-self.modes, 0)])
        columns = _low_columns(images, self.modes)
        cosines, sines = _waves(rows, height, images.dtype)
        along, across = (tf.einsum("rh,bhkc->brkc", part, columns) for part in (cosines, sines))
        spectrum = along + _turned(across, -1)
        mixed = tf.einsum("brki,rkio->brko", spectrum, self._mixing())
        along, across = (tf.einsum("rh,brkc->bhkc", part, mixed) for part in (cosines, sines))
        return _from_low_columns((along + _turned(across, 1)) / height, width)

    def _mixing(self) -> Float[tf.Tensor, "row column inputs2 outputs2"]:
        """Bring the weights to rows and columns of the spectrum, both signs one after the other."""
        m = self.modes
        _, channels_in, channels_out, *_ = self.weight.shape
        ordered = tf.transpose(self.weight, [0, 3, 4, 1, 2, 5])
        return _real_matrix(tf.reshape(ordered, [2 * m, m, channels_in, channels_out, 2]))


class AxisConvolution(tf.Module):
    """Spectral convolution along the rows; `weight` is (in, out, m, 2), frequencies 0 to m - 1."""

    def __init__(self, channels_in: int, channels_out: int, modes: int, *, dtype: str = "float32") -> None:
        super().__init__()
        self.modes = modes
        self.weight = _glorot_weight(channels_in, channels_out, channels_in, channels_out, modes, dtype=dtype)

    def __call__(self, images: Float[tf.Tensor, "batch h w inputs"]) -> Float[tf.Tensor, "batch h w outputs"]:
        """Return the images filtered along their rows and mixed, of the same size."""
        _check_side(images, self.modes)
        spectrum = _low_columns(at_least_float32(images), self.modes)
        mixing = _real_matrix(tf.transpose(self.weight, [2, 0, 1, 3]))
        return _from_low_columns(tf.einsum("bhki,kio->bhko", spectrum, mixing), images.shape[2])


class SpectralPair(tf.Module):
    """Sum of two one-axis spectral convolutions: `x` along the columns' index, `y` along the rows' index."""

    def __init__(self, channels: int, modes: int, *, dtype: str = "float32") -> None:
        super().__init__()
        self.x = AxisConvolution(channels, channels, modes, dtype=dtype)
        self.y = AxisConvolution(channels, channels, modes, dtype=dtype)

    def __call__(self, images: Float[tf.Tensor, "batch h w c"]) -> Float[tf.Tensor, "batch h w c"]:
        """Return the sum of both filtered images."""
        return self.x(images) + tf.transpose(self.y(tf.transpose(images, [0, 2, 1, 3])), [0, 2, 1, 3])


def _low_columns(images: Float[tf.Tensor, "batch h w c"], modes: int) -> Float[tf.Tensor, "batch h m c2"]:
    """Transform along the columns' index, frequencies 0 to m - 1 of `rfft`."""
    cosines, sines = _waves(np.arange(modes), images.shape[2], images.dtype)
    return tf.concat([tf.einsum("kw,bhwc->bhkc", part, images) for part in (cosines, -sines)], -1)


def _from_low_columns(
    spectrum: Float[tf.Tensor, "batch h m c2"], width: int
) -> Float[tf.Tensor, "batch h w c"]:
    """Transform back to rows of a length, as `irfft` does where all other frequencies are 0."""
    cosines, sines = _waves(np.arange(spectrum.shape[2]), width, spectrum.dtype)
    # A frequency stands for its negative, too; 0 has none.
    share = tf.constant([1.0] + [2.0] * (spectrum.shape[2] - 1), spectrum.dtype)[:, None] / width
    real, imaginary = tf.split(spectrum, 2, -1)
    along = tf.einsum("kw,bhkc->bhwc", cosines * share, real)
    return along - tf.einsum("kw,bhkc->bhwc", sines * share, imaginary)


def _waves(frequencies: np.ndarray, side_px: int, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosine and sine of each frequency at each pixel: (frequency, pixel)."""
    # Whole turns are taken off before the angle is rounded.
    angles = 2 * np.pi * (np.outer(frequencies, np.arange(side_px)) % side_px) / side_px
    return tf.constant(np.cos(angles), dtype), tf.constant(np.sin(angles), dtype)


def _turned(spectrum: Float[tf.Tensor, "*axes c2"], sign: int) -> Float[tf.Tensor, "*axes c2"]:
    """Multiply by i or -i."""
    real, imaginary = tf.split(spectrum, 2, -1)
    return tf.concat([-sign * imaginary, sign * real], -1)


def _real_matrix(
    pairs: Float[tf.Tensor, "*axes inputs outputs 2"],
) -> Float[tf.Tensor, "*axes inputs2 outputs2"]:
    """Matrices that do to (real, imaginary) what the complex ones do."""
    real, imaginary = pairs[..., 0], pairs[..., 1]
    upper, lower = tf.concat([real, imaginary], -1), tf.concat([-imaginary, real], -1)
    return tf.concat([upper, lower], -2)


def _glorot_weight(channels_in: int, channels_out: int, *shape: int, dtype: str) -> tf.Variable:
    """Draw complex weights of the given shape, with a last axis for (re, im)."""
    limit = math.sqrt(3 / (channels_in + channels_out))
    return tf.Variable(uniform((*shape, 2), limit, dtype), name="weight")


def _check_side(images: Float[tf.Tensor, "batch h w channel"], modes: int) -> None:
    if 2 * modes > min(images.shape[1:3]):
        raise DataError(
            f"Images of shape {tuple(images.shape[1:3])} have fewer than {modes} modes of each sign. Give "
            f"images of at least {2 * modes} px, or lower `fno_modes`."
        )
