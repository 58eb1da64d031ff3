"""From object patches to the rates at the detector, differentiable, equal to the float64 reference.

Source of the formulas: docs/reference/physics.md, "Forward model", and `ptycho_core.physics`, with which the
tests compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ptycho_core_tf.framework import tf

__all__ = ["back_project", "detector_intensity", "move_probe", "propagate", "split_positions"]

#: Powers are never taken below this before their root divides.
_DARK = 1e-20
#: Part of the largest wave at the detector below which its phase is what rounding makes of it, and fades out.
_UNSURE = 3e-4


def split_positions(positions_px: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Split positions (…, 2) into the nearest whole pixels (int64, halves upwards) and the rest."""
    whole = tf.floor(positions_px + 0.5)
    return tf.cast(whole, tf.int64), positions_px - whole


def propagate(waves: tf.Tensor) -> tf.Tensor:
    """Carry waves (…, n, n) to the far field: energy is kept, zero frequency lands on [n/2, n/2].

    The origin of the phases is index [0, 0], not the middle: a modulus does not notice.
    """
    return tf.signal.fftshift(tf.signal.fft2d(waves), axes=(-2, -1)) / _side(waves)


def move_probe(probe: tf.Tensor, shifts_px: tf.Tensor) -> tf.Tensor:
    """Move probe modes (P, n, n) by each of the shifts (B, 2), (y, x), around the edges: (B, P, n, n)."""
    k = tf.constant(np.fft.fftfreq(probe.shape[-1]), shifts_px.dtype)
    angles = -2 * math.pi * shifts_px[:, None, :, None] * k
    ramps = tf.complex(tf.cos(angles), tf.sin(angles))
    down, right = ramps[:, :, 0, :, None], ramps[:, :, 1, None, :]
    return tf.signal.ifft2d(tf.signal.fft2d(probe)[None] * down * right)


def detector_intensity(probes: tf.Tensor, patches: tf.Tensor) -> tf.Tensor:
    """Sum over the incoherent modes of |F(P o)|^2: (B or 1, P, n, n) and (B, n, n) -> (B, n, n) real."""
    # As `propagate` says; real numbers are shifted and scaled in half the time.
    power = tf.reduce_sum(_power(tf.signal.fft2d(probes * patches[:, None])), 1)
    return tf.signal.fftshift(power, axes=(-2, -1)) / (power.shape[-1] * power.shape[-2])


def back_project(amplitude: tf.Tensor, probes: tf.Tensor, patches: tf.Tensor | None = None) -> tf.Tensor:
    """Place what a pattern says that the object so far does not: (B, n, n) -> complex (B, n, n).

    The measured amplitude with the phase of the first mode's wave is carried back, the exit wave is taken
    away, and the rest is divided by the mode, regularised by its largest modulus: one step of an iterative
    reconstruction. Further modes keep their share of the amplitude.

    Args:
        amplitude: (B, n, n) in the unit of the probe.
        probes: the modes (P, n, n), or (B, P, n, n) where they differ from frame to frame.
        patches: the object so far in the window of each frame, (B, n, n); transparent when not given.
    """
    probes = probes if len(probes.shape) == 4 else probes[None]
    waves = probes if patches is None else probes * patches[:, None]
    far = tf.signal.fft2d(waves)  # n times what keeps the energy, and so is `back` but for its own n
    n_pixels = far.shape[-1] * far.shape[-2]
    power = tf.reduce_sum(_power(far), 1)
    power = power + _UNSURE**2 * tf.reduce_max(power, (-2, -1), keepdims=True)
    power = tf.maximum(power, _DARK * n_pixels)
    share = tf.signal.ifftshift(amplitude, axes=(-2, -1)) * (tf.math.rsqrt(power) * math.sqrt(n_pixels))
    back = tf.signal.ifft2d(far[:, 0] * tf.cast(share, far.dtype))
    first = probes[:, 0]
    light = tf.reduce_max(_power(first), (-2, -1), keepdims=True)
    return (back - waves[:, 0]) * (tf.math.conj(first) / tf.cast(light, first.dtype))


@tf.custom_gradient
def _power(waves: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """|w|^2, whose gradient is one multiplication."""
    power = tf.square(tf.math.real(waves)) + tf.square(tf.math.imag(waves))
    return power, lambda upstream: waves * tf.cast(2 * upstream, waves.dtype)


def _side(waves: tf.Tensor) -> tf.Tensor:
    """Root of the number of pixels, which makes a transform orthonormal."""
    return tf.constant(math.sqrt(waves.shape[-1] * waves.shape[-2]), waves.dtype)
