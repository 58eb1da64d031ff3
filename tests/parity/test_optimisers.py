"""The same gradients change the same weights in the same way in both cores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("ptycho_core_torch.optimisers", reason="the PyTorch core is not installed")
pytest.importorskip("ptycho_core_tf.optimisers", reason="the TensorFlow core is not installed")

from ptycho_config.models import TrainingConfig  # noqa: E402
from ptycho_core_tf import clipping as tensorflow_clipping  # noqa: E402
from ptycho_core_tf import optimisers as tensorflow_optimisers  # noqa: E402
from ptycho_core_tf import schedules as tensorflow_schedules  # noqa: E402
from ptycho_core_tf.framework import tf  # noqa: E402
from ptycho_core_tf.weights import KERNEL  # noqa: E402
from ptycho_core_torch import clipping as torch_clipping  # noqa: E402
from ptycho_core_torch import optimisers as torch_optimisers  # noqa: E402
from ptycho_core_torch import schedules as torch_schedules  # noqa: E402

SHAPES = [(), (7,), (2, 3, 3, 4, 4, 2), (6, 5, 3, 3)]
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}

seeds = st.integers(0, 2**32 - 1)
each_precision = pytest.mark.parametrize("precision", ["float32", "float64"])
each_optimiser = pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])


def arrays(random: np.random.Generator, precision: str, size: float = 1.0) -> list[np.ndarray]:
    return [np.asarray(size * random.normal(size=shape), precision) for shape in SHAPES]


def variables(values: list[np.ndarray]) -> list[Any]:
    """As the TensorFlow core holds them: the last one is a convolution's kernel."""
    *others, kernel = values
    return [
        *(tf.Variable(value) for value in others),
        tf.Variable(kernel.transpose(2, 3, 1, 0), name=KERNEL),
    ]


def as_held(values: list[np.ndarray]) -> list[Any]:
    return [tf.constant(value) for value in [*values[:-1], values[-1].transpose(2, 3, 1, 0)]]


def canonical(values: list[Any]) -> list[np.ndarray]:
    held = [value.numpy() for value in values]
    return [*held[:-1], held[-1].transpose(3, 2, 0, 1)]


@each_optimiser
@each_precision
@settings(max_examples=10, deadline=None)
@given(
    seed=seeds,
    epsilon=st.sampled_from([1e-8, 1e-6, 1e-3]),
    rate=st.floats(1e-4, 1e-1),
    decay=st.sampled_from([0.0, 1e-3, 0.1]),
    momentum=st.sampled_from([0.0, 0.9]),
    size=st.sampled_from([1e-6, 1e-2, 1.0]),
)
def test_steps_agree(
    agree: Any,
    name: str,
    precision: str,
    seed: int,
    epsilon: float,
    rate: float,
    decay: float,
    momentum: float,
    size: float,
) -> None:
    random = np.random.default_rng(seed)
    start = arrays(random, precision)
    config = TrainingConfig(optimizer=name, weight_decay=decay, momentum=momentum)
    parameters = [torch.nn.Parameter(torch.from_numpy(value.copy())) for value in start]
    there = variables(start)
    one = torch_optimisers.optimiser_for(config, parameters, rate)
    other = tensorflow_optimisers.optimiser_for(config, there, rate)
    if name != "sgd":
        one.param_groups[0]["eps"] = other.epsilon = epsilon
    for factor in (1.0, 0.5, 0.1):  # three steps, at a rate that falls
        gradients = arrays(random, precision, size)
        one.param_groups[0]["lr"] = rate * factor
        other.learning_rate = rate * factor
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient.copy())
        one.step()
        other.apply(as_held(gradients), there)
        found = np.concatenate([value.ravel() for value in canonical(there)])
        expected = np.concatenate([parameter.detach().numpy().ravel() for parameter in parameters])
        # The learning rate of Keras is a float32, whatever the weights are.
        agree(f"step of {name}", 1e-5 if precision == "float32" else 1e-8, found, expected)


@each_precision
@settings(max_examples=15, deadline=None)
@given(seed=seeds, limit=st.sampled_from([1e-3, 0.01, 1.0]), size=st.sampled_from([1e-6, 1e-2, 1.0]))
def test_adaptively_clipped_gradients_agree(
    agree: Any, precision: str, seed: int, limit: float, size: float
) -> None:
    random = np.random.default_rng(seed)
    start, gradients = arrays(random, precision), arrays(random, precision, size)
    parameters = [torch.nn.Parameter(torch.from_numpy(value.copy())) for value in start]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient.copy())
    torch_clipping.clip_adaptively(parameters, limit)
    clipped = tensorflow_clipping.clip_adaptively(variables(start), as_held(gradients), limit)
    for found, parameter in zip(canonical(clipped), parameters, strict=True):
        agree("adaptive clipping", TOLERANCE[precision], found, parameter.grad.numpy())


@settings(max_examples=50, deadline=None)
@given(
    losses=st.lists(st.floats(0.01, 10), min_size=1, max_size=40),
    factor=st.sampled_from([0.1, 0.5]),
    patience=st.integers(0, 3),
    threshold=st.sampled_from([0.0, 0.01]),
)
def test_a_plateau_lowers_the_rate_after_the_same_epochs(
    losses: list[float], factor: float, patience: int, threshold: float
) -> None:
    config = TrainingConfig(
        scheduler="ReduceLROnPlateau",
        plateau_factor=factor,
        plateau_patience=patience,
        plateau_threshold=threshold,
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1e-3)
    scheduler = torch_schedules.scheduler_for(optimizer, config, lambda step: 1.0, monitor="val_loss")
    there = tensorflow_optimisers.optimiser_for(config, [tf.Variable(0.0)], 1e-3)
    callback = tensorflow_schedules.scheduler_for(there, config, lambda step: 1.0, monitor="val_loss")
    for epoch, loss in enumerate(losses):
        scheduler["scheduler"].step(loss)
        callback.on_epoch_end(epoch, {"val_loss": loss})
        assert float(there.learning_rate) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)


def test_a_course_sets_the_rate_before_each_step() -> None:
    there = tensorflow_optimisers.optimiser_for(TrainingConfig(), [tf.Variable(0.0)], 2e-3)
    callback = tensorflow_schedules.scheduler_for(
        there, TrainingConfig(), lambda step: 1 / (1 + step), monitor="train_loss"
    )
    rates = []
    for batch in range(3):
        callback.on_train_batch_begin(batch)
        rates.append(float(there.learning_rate))
    assert rates == pytest.approx([2e-3, 1e-3, 2e-3 / 3])
