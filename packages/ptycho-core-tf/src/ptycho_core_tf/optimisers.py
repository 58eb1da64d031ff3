"""The optimiser that a configuration names, with the arithmetic of the PyTorch core.

Keras has optimisers of the same names and other formulas: its epsilon stands elsewhere, its decay of the
weights is always the decoupled one, and its momentum holds the learning rate of the past.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from ptycho_config.models import TrainingConfig
from ptycho_core_tf.framework import keras, tf

__all__ = ["Adam", "Sgd", "optimiser_for"]

_EPSILON = 1e-8
Rate = tf.Tensor | keras.Variable


def optimiser_for(
    config: TrainingConfig, parameters: Sequence[tf.Variable], learning_rate: float
) -> keras.optimizers.Optimizer:
    """Return the optimiser of a configuration.

    `adam` and `sgd` add the decay of the weights to the gradient, `adamw` takes it off the weights.
    """
    decay = config.weight_decay
    if config.optimizer == "sgd":
        optimiser: Sgd | Adam = Sgd(learning_rate, momentum=config.momentum, decay=decay)
    else:
        betas = (config.adam_beta1, config.adam_beta2)
        optimiser = Adam(learning_rate, betas=betas, decay=decay, decoupled=config.optimizer == "adamw")
    optimiser.build(list(parameters))
    return optimiser


class Sgd(keras.optimizers.Optimizer):
    """Gradient descent: b = momentum b + g, weight -= rate b."""

    def __init__(self, learning_rate: float, *, momentum: float = 0.0, decay: float = 0.0) -> None:
        super().__init__(learning_rate=learning_rate, name="sgd")
        self.momentum, self.decay = momentum, decay

    def build(self, variables: list[tf.Variable]) -> None:
        """Make the state: one direction for each variable."""
        if not self.built:
            super().build(variables)
            self._directions = self.add_optimizer_variables(variables, "direction")

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: Rate) -> None:
        """Change one variable."""
        direction = self._directions[self._get_variable_index(variable)]
        step = self.momentum * direction + gradient + self.decay * variable
        self.assign(direction, step)
        self.assign_sub(variable, tf.cast(learning_rate, variable.dtype) * step)


class Adam(keras.optimizers.Optimizer):
    """Adam, with m and v without their bias: weight -= rate m / (sqrt(v) + epsilon).

    A variable is changed by TensorFlow's own operation, in one pass. Written out, that is forty operations
    for each variable, and to make and to compile a graph of them took longer than a short training.

    Source:
        Kingma and Ba, arXiv:1412.6980, algorithm 1; `decoupled`: Loshchilov and Hutter, arXiv:1711.05101.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = _EPSILON,
        decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name="adam")
        self.betas, self.epsilon, self.decay, self.decoupled = betas, epsilon, decay, decoupled
        self._step = SimpleNamespace(scalars={}, decay=None)

    def build(self, variables: list[tf.Variable]) -> None:
        """Make the state: two moments for each variable."""
        if not self.built:
            super().build(variables)
            self._means = self.add_optimizer_variables(variables, "mean")
            self._squares = self.add_optimizer_variables(variables, "square")

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[tf.Variable]) -> None:
        """Change all variables, which are of one number type."""
        dtype = tf.as_dtype(trainable_variables[0].dtype)
        rate = tf.cast(tf.convert_to_tensor(self.learning_rate), tf.float64)
        # 1 - 0.999 in float32 is wrong in the fifth digit. The operation takes it so; freed from the bias of
        # the beta that float32 has instead, m and v are right. That is computed here, in float64.
        beta1, beta2 = (float(dtype.as_numpy_dtype(beta)) for beta in self.betas)
        step = tf.cast(self.iterations, tf.float64) + 1
        unbiased1, unbiased2 = (1 - tf.pow(tf.constant(beta, tf.float64), step) for beta in (beta1, beta2))
        spread = tf.sqrt(unbiased2)
        nothing = tf.zeros((), dtype)  # of the bias
        self._step.scalars = {
            "lr": tf.cast(rate * spread / unbiased1, dtype),
            "epsilon": tf.cast(self.epsilon * spread, dtype),
            "beta1": tf.constant(beta1, dtype),
            "beta2": tf.constant(beta2, dtype),
            "beta1_power": nothing,
            "beta2_power": nothing,
        }
        self._step.decay = tf.cast(rate * self.decay, dtype)
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: Rate) -> None:
        """Change one variable; `apply` knows the rate."""
        index = self._get_variable_index(variable)
        if self.decay and self.decoupled:
            self.assign_sub(variable, self._step.decay * variable)
        elif self.decay:
            gradient = gradient + self.decay * variable
        moments = {"m": self._means[index].value.handle, "v": self._squares[index].value.handle}
        tf.raw_ops.ResourceApplyAdam(var=variable.handle, grad=gradient, **moments, **self._step.scalars)
