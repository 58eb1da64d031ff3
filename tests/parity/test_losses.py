"""Losses and their gradients are the same numbers in both cores, and where NumPy has them, those."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ptycho_core_torch.losses", reason="the PyTorch core is not installed")
pytest.importorskip("ptycho_core_tf.losses", reason="the TensorFlow core is not installed")

from ptycho_core.physics import likelihood

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
COMPLEX = {"float32": "complex64", "float64": "complex128"}
OF_COUNTS = ("poisson_deviance", "negative_log_likelihood", "amplitude_mae")

each_precision = pytest.mark.parametrize("precision", ["float32", "float64"])
seeds = st.integers(0, 2**32 - 1)
sides = st.sampled_from([32, 64, 128])
frames = st.integers(1, 9)
doses = st.sampled_from([0.01, 1.0, 1000.0])
a_few = settings(max_examples=12, deadline=None)


def compare(cores: Any, agree: Any, name: str, precision: str, varied: Any, *fixed: Any) -> None:
    """Compare the value of a loss, and its gradient by the first argument."""
    values, gradients = [], []
    for core in cores:
        loss = getattr(core.losses, name)
        rest = [None if argument is None else core.tensor(argument) for argument in fixed]

        def of_varied(argument: Any, loss: Any = loss, rest: Any = rest) -> Any:
            return loss(argument, *rest)

        values.append(core.numpy(of_varied(core.tensor(varied))))
        gradients += core.pull_back(of_varied, (varied,), np.ones((), precision))
    agree(f"loss {name}", TOLERANCE[precision], values[1], values[0])
    agree(f"gradient of {name}", 10 * TOLERANCE[precision], gradients[1], gradients[0])


@pytest.mark.parametrize("name", OF_COUNTS)
@each_precision
@a_few
@given(seeds, sides, frames, doses, st.booleans())
def test_losses_of_counts_agree(
    cores: Any,
    agree: Any,
    name: str,
    precision: str,
    seed: int,
    n: int,
    n_frames: int,
    dose: float,
    some_bad: bool,
) -> None:
    random = np.random.default_rng(seed)
    rate = random.gamma(1.0, dose, (n_frames, n, n)).astype(precision)
    counts = random.poisson(rate).astype(precision)
    measured = np.sqrt(counts) if name == "amplitude_mae" else counts
    good = (random.random((1, n, n)) > 0.1).astype(precision) if some_bad else None
    compare(cores, agree, name, precision, rate, measured, good)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("poisson_deviance", likelihood.poisson_deviance),
        ("negative_log_likelihood", likelihood.poisson_nll),
    ],
)
@each_precision
@a_few
@given(seeds, sides, doses)
def test_likelihoods_are_those_of_numpy(
    core: Any, agree: Any, name: str, reference: Any, precision: str, seed: int, n: int, dose: float
) -> None:
    random = np.random.default_rng(seed)
    rate = random.gamma(1.0, dose, (2, n, n)).astype(precision)
    counts = random.poisson(rate).astype(precision)
    found = core.numpy(getattr(core.losses, name)(core.tensor(rate), core.tensor(counts)))
    each = reference(expected_counts=rate, measured_counts=counts)
    # Terms of both signs are added up: what rounding leaves is held against their size.
    size = np.abs(each).mean()
    agree.within(f"{name}, {core.name} to NumPy", TOLERANCE[precision], found, abs(found - each.mean()), size)


@each_precision
@a_few
@given(seeds, sides, frames)
def test_total_variations_agree(
    cores: Any, agree: Any, precision: str, seed: int, n: int, n_frames: int
) -> None:
    random = np.random.default_rng(seed)
    obj = random.normal(size=(n_frames, n, n)) + 1j * random.normal(size=(n_frames, n, n))
    compare(cores, agree, "total_variation", precision, obj.astype(COMPLEX[precision]))


@each_precision
@a_few
@given(seeds, sides, frames, st.booleans())
def test_distances_from_the_truth_agree(
    cores: Any, agree: Any, precision: str, seed: int, n: int, n_frames: int, weighted: bool
) -> None:
    random = np.random.default_rng(seed)
    obj, truth = (
        (random.uniform(0.2, 1, (n_frames, n, n)) * np.exp(1j * random.uniform(-4, 4, (n_frames, n, n))))
        for _ in range(2)
    )
    kind = COMPLEX[precision]
    weights = random.uniform(0.001, 1, (n, n)).astype(precision) if weighted else None
    compare(cores, agree, "complex_mae", precision, obj.astype(kind), truth.astype(kind), weights)
