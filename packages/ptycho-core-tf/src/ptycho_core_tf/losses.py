"""What training makes small. Source of the formulas: docs/reference/physics.md, "Likelihoods and losses"."""

from __future__ import annotations

from ptycho_core_tf.framework import tf

__all__ = ["amplitude_mae", "complex_mae", "negative_log_likelihood", "poisson_deviance", "total_variation"]

#: Rates are never taken below this before a logarithm, in counts.
_LOWEST_RATE = 1e-8
#: Under the root of an intensity, relative to unit amplitude, so that its gradient stays finite at zero.
_UNDER_ROOT = 1e-12


def poisson_deviance(rate: tf.Tensor, counts: tf.Tensor, good: tf.Tensor | None = None) -> tf.Tensor:
    """Mean of rate - T + T log(T / rate) over the good pixels; 0 where they agree, T = 0 included."""
    rate = tf.maximum(rate, _LOWEST_RATE)
    each = rate - counts + tf.math.xlogy(counts, tf.maximum(counts, _LOWEST_RATE) / rate)
    return _mean(each, good)


def negative_log_likelihood(rate: tf.Tensor, counts: tf.Tensor, good: tf.Tensor | None = None) -> tf.Tensor:
    """Mean of rate - T log(rate) over the good pixels, without the factorial."""
    rate = tf.maximum(rate, _LOWEST_RATE)
    return _mean(rate - counts * tf.math.log(rate), good)


def amplitude_mae(rate: tf.Tensor, amplitude: tf.Tensor, good: tf.Tensor | None = None) -> tf.Tensor:
    """Mean of |sqrt(rate) - amplitude| over the good pixels."""
    return _mean(tf.abs(tf.sqrt(rate + _UNDER_ROOT) - amplitude), good)


def total_variation(obj: tf.Tensor) -> tf.Tensor:
    """Sum of squared forward differences of real and imaginary part, along both axes of (…, h, w)."""
    down, right = obj[..., 1:, :] - obj[..., :-1, :], obj[..., 1:] - obj[..., :-1]
    return tf.add_n(
        [tf.reduce_sum(tf.square(part(d))) for d in (down, right) for part in (tf.math.real, tf.math.imag)]
    )


def complex_mae(obj: tf.Tensor, truth: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Mean difference of the moduli plus that of the phases, the latter around the circle."""
    moduli = tf.abs(tf.abs(obj) - tf.abs(truth))
    return _mean(moduli + tf.abs(tf.math.angle(obj * tf.math.conj(truth))), weights)


def _mean(values: tf.Tensor, good: tf.Tensor | None) -> tf.Tensor:
    if good is None:
        return tf.reduce_mean(values)
    weights = tf.broadcast_to(good, tf.shape(values))
    return tf.reduce_sum(values * weights) / tf.maximum(tf.reduce_sum(weights), 1)
