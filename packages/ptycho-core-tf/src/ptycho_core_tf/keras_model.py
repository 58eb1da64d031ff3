"""One training step, as Keras calls it, and what it tells of itself.

Source: to train through the physics, without labels, O. Hoidn, A. A. Mishra and A. Mehta, Sci. Rep. 13 (2023)
22789, 10.1038/s41598-023-48351-7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ptycho_config import guards
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.learning.advice import (
    check_scale,
    flag_prefix,
    gradients_not_finite_advice,
    not_finite_advice,
)
from ptycho_core.learning.course import WARM_UP_STEPS
from ptycho_core.learning.recipe import clip_value_of
from ptycho_core_tf.clipping import clip_adaptively
from ptycho_core_tf.framework import keras, tf
from ptycho_core_tf.losses import (
    amplitude_mae,
    complex_mae,
    negative_log_likelihood,
    poisson_deviance,
    total_variation,
)
from ptycho_core_tf.network import Batch, PtychoNetwork

__all__ = ["EXTRAS", "LossScale", "PtychoKeras"]

#: What a step tells beside its metrics; 1 or 0 for the first three, none of it is for the log.
EXTRAS = ("finite", "loss_finite", "patches_finite", "step_residual", "spread")
Tensors = Mapping[str, tf.Tensor]


class PtychoKeras(keras.Model):
    """Trains a `PtychoNetwork` on measured diffraction alone."""

    def __init__(
        self,
        network: PtychoNetwork,
        config: TrainingConfig,
        execution: TensorFlowExecutionConfig,
        *,
        mean_counts_per_pixel: float,
    ) -> None:
        """Prepare.

        Args:
            mean_counts_per_pixel: the loss is divided by it, so that doses can be compared.
        """
        super().__init__()
        self.settings, self.execution = config, execution
        self._physics = network
        self._mean_counts = mean_counts_per_pixel
        self._supervised = config.model.model_type == "supervised"
        # Labels say nothing of the counts.
        scaled = config.intensity_scale_trainable and not self._supervised
        self.learned = [
            variable for variable in network.parameters if scaled or variable is not network.log_scale
        ]
        """What the optimiser changes."""
        self._means = {name: keras.metrics.Mean(name) for name in ("loss", "residual", "nll")}
        self.built = True  # its variables are there already
        self.loss_scale = LossScale() if execution.precision == "16-mixed" else None

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The means over an epoch, which Keras sets back between epochs."""
        return list(self._means.values())

    def train_step(self, data: Tensors) -> dict[str, tf.Tensor]:
        """Learn from the batches of one device; no device learns where the loss of one is not finite."""
        batches = _taken_apart(data)
        factor = tf.constant(1.0) if self.loss_scale is None else tf.convert_to_tensor(self.loss_scale.value)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.learned)
            losses = [self._told(batch) for batch in batches]
            loss = tf.add_n([each["loss"] for each in losses]) / len(losses)
            scaled = loss * factor
        gradients = [g / factor for g in tape.gradient(scaled, self.learned, unconnected_gradients="zero")]
        told = {name: tf.add_n([each[name] for each in losses]) / len(losses) for name in losses[0]}
        finite = tf.math.is_finite(loss)
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            gradients = replica.all_reduce("MEAN", gradients)
            finite = replica.all_reduce("SUM", tf.cast(finite, tf.float32)) >= replica.num_replicas_in_sync
        taken = goes_on = finite
        if self.loss_scale is not None:
            # Before they are clipped: what overflowed would be a number again.
            fits = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
            taken = finite & fits
            self.loss_scale.update(fits)
            # Where nothing is left to lower, it was not the scale.
            goes_on = finite & (fits | (factor >= 1))
        self._apply_if(taken, self._clipped(gradients))
        self._count(told)
        means = {f"train_{name}": mean.result() for name, mean in self._means.items()}
        return means | {
            "finite": tf.cast(goes_on, tf.float32),
            "loss_finite": tf.cast(finite, tf.float32),
            "patches_finite": told["patches_finite"],
            "step_residual": told["residual"],
            "spread": told["spread"],
        }

    def test_step(self, data: Tensors) -> dict[str, tf.Tensor]:
        """Return the same loss on the test scan."""
        for batch in _taken_apart(data):
            self._count(self._told(batch))
        return {name: self._means[name].result() for name in ("loss", "residual")}

    def why_not_finite(self, step: int, logs: Mapping[str, float]) -> str:
        """Say where a loss or gradients that are not finite come from, and what to try."""
        if logs["loss_finite"] > 0.5:
            return gradients_not_finite_advice(step, self.execution)
        finite = all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in self.learned)
        return not_finite_advice(
            step, self.execution, weights_finite=finite, patches_finite=logs["patches_finite"] > 0.5
        )

    def end_epoch(self) -> None:
        """Take a probe that is trained back to its gauge."""
        if any(variable is self._physics.probe_parts for variable in self.learned):
            self._physics.rescale_probe()

    def check_collapse(self, step: int, spread: float) -> None:
        """Stop a network that gave the same patch for every frame of the last batch (TRAIN-COLLAPSE-001)."""
        if step > 10 * WARM_UP_STEPS:
            guards.check_collapse(spread, flags=flag_prefix(self.execution))

    def check_scale(self, step: int) -> None:
        """Stop a network whose scale of the counts is no number any more."""
        check_scale(float(self._physics.log_scale.numpy()), step, self.execution)

    def _apply_if(self, taken: tf.Tensor, gradients: list[tf.Tensor]) -> None:
        """Let the optimiser take its step, or leave weights, moments and step number as they are.

        Args:
            taken: the same on all devices.
            gradients: the same on all devices.
        """

        def apply(gradients: list[tf.Tensor]) -> None:
            # Keras sums over the devices once more.
            count = tf.distribute.get_replica_context().num_replicas_in_sync
            shares = gradients if count == 1 else [g / count for g in gradients]
            self.optimizer.apply(shares, self.learned)

        def of_all(strategy: tf.distribute.Strategy, taken: tf.Tensor, gradients: list[tf.Tensor]) -> None:
            first = strategy.experimental_local_results(taken)[0]
            tf.cond(
                first,
                lambda: strategy.extended.call_for_each_replica(apply, args=(gradients,)),
                lambda: None,
            )

        # Devices wait for each other within the step, so that the way is chosen for all of them at once.
        tf.distribute.get_replica_context().merge_call(of_all, args=(taken, gradients))

    def _clipped(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        limit = clip_value_of(self.settings)
        if not limit:
            return gradients
        if self.settings.gradient_clip_algorithm == "agc":
            return [g for g in clip_adaptively(self.learned, gradients, limit) if g is not None]
        if self.settings.gradient_clip_algorithm == "value":
            return [tf.clip_by_value(g, -limit, limit) for g in gradients]
        # As torch clips: nothing is made longer, and the norm never divides by zero.
        factor = tf.minimum(1.0, limit / (tf.linalg.global_norm(gradients) + 1e-6))
        return [g * tf.cast(factor, g.dtype) for g in gradients]

    def _count(self, told: Tensors) -> None:
        for name, mean in self._means.items():
            mean.update_state(told[name])

    def _told(self, batch: Batch) -> dict[str, tf.Tensor]:
        amplitude = tf.sqrt(batch.counts)
        passes = list(self._physics.passes(batch))
        loss = tf.add_n([self._objective(patches, rate, amplitude, batch) for patches, rate in passes]) / len(
            passes
        )
        patches, rate = passes[-1]
        misfit = tf.abs(tf.sqrt(rate) - amplitude)
        if batch.good is not None:
            misfit = misfit * batch.good
        moduli = tf.abs(patches)
        return {
            "loss": loss,
            "residual": tf.stop_gradient(tf.reduce_sum(misfit) / tf.reduce_sum(amplitude)),
            "nll": tf.stop_gradient(negative_log_likelihood(rate, batch.counts, batch.good)),
            "patches_finite": tf.cast(tf.reduce_all(tf.math.is_finite(moduli)), tf.float32),
            "spread": tf.stop_gradient(tf.reduce_mean(_deviation(patches)) / tf.reduce_mean(moduli)),
        }

    def _objective(
        self, patches: tf.Tensor, rate: tf.Tensor, amplitude: tf.Tensor, batch: Batch
    ) -> tf.Tensor:
        config = self.settings
        if self._supervised and batch.truth is not None:
            loss = complex_mae(patches, batch.truth, self._physics.weights)
        elif config.torch_loss_mode == "mae":
            loss = amplitude_mae(rate, amplitude, batch.good) / math.sqrt(self._mean_counts)
        else:
            loss = poisson_deviance(rate, batch.counts, batch.good) / self._mean_counts
        if config.realspace_weight and config.tv_weight:
            loss = loss + config.realspace_weight * config.tv_weight * total_variation(patches)
        if config.realspace_mae_weight and batch.truth is not None:
            distance = complex_mae(patches, batch.truth, self._physics.weights)
            loss = loss + config.realspace_weight * config.realspace_mae_weight * distance
        return loss


class LossScale:
    """Keeps the gradients of float16 within its range: the loss is multiplied by as much as it bears."""

    _FACTOR = 2.0

    def __init__(self, *, first: float = 2.0**15, good_steps: int = 2000) -> None:
        """Begin.

        Args:
            good_steps: one after the other, after which it is raised.
        """
        self._enough = good_steps
        aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.value = tf.Variable(first, trainable=False, aggregation=aggregation)
        self._good = tf.Variable(0, trainable=False, aggregation=aggregation)

    def update(self, good: tf.Tensor) -> None:
        """Lower it after a step that overflowed, raise it after many that did not."""
        good_steps = tf.where(good, self._good + 1, 0)
        raised = good_steps >= self._enough
        kept = tf.where(raised, self.value * self._FACTOR, tf.identity(self.value))
        self.value.assign(tf.where(good, kept, self.value / self._FACTOR))
        self._good.assign(tf.where(raised, 0, good_steps))


def _taken_apart(data: Tensors) -> list[Batch]:
    """The batches of one device, from tensors (together, B, …)."""
    count = data["counts"].shape[0] or 1
    return [Batch(**{name: part[number] for name, part in data.items()}) for number in range(count)]


def _deviation(patches: tf.Tensor) -> tf.Tensor:
    """Standard deviation over the frames (B, n, n) -> (n, n) real, of B - 1 as torch has it."""
    away = patches - tf.reduce_mean(patches, 0)
    squares = tf.square(tf.math.real(away)) + tf.square(tf.math.imag(away))
    count = tf.cast(tf.shape(patches)[0], squares.dtype)
    return tf.sqrt(tf.reduce_sum(squares, 0) / (count - 1))
