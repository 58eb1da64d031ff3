"""Two cores, one behaviour: what both compute from the same numbers, and how far apart it was at worst."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pytest

_TABLE = pytest.StashKey[dict[tuple[str, str, float], list[float]]]()


@dataclass(frozen=True, eq=False)
class Core:
    """One core, with NumPy arrays at its doors. Its modules are found by the names that both cores share."""

    name: str
    package: str
    tensor: Callable[[Any], Any]
    """An array as a tensor of the same number type."""
    numpy: Callable[[Any], np.ndarray]
    pull_back: Callable[[Callable[..., Any], tuple[np.ndarray, ...], Any], list[np.ndarray]]
    """(f, arguments, y): what automatic differentiation makes of y, for each argument; A* y where f is A."""

    def module(self, name: str) -> Any:
        """Import a module of the core."""
        return import_module(f"{self.package}.{name}")

    @property
    def forward(self) -> Any:
        return self.module("forward")

    @property
    def overlap(self) -> Any:
        return self.module("overlap")

    @property
    def losses(self) -> Any:
        return self.module("losses")


def torch_core() -> Core:
    import torch

    def pull_back(function: Any, arguments: tuple[np.ndarray, ...], weights: Any) -> list[np.ndarray]:
        tensors = [torch.tensor(argument, requires_grad=True) for argument in arguments]
        found = torch.autograd.grad(function(*tensors), tensors, grad_outputs=torch.tensor(weights))
        return [gradient.numpy() for gradient in found]

    return Core("PyTorch", "ptycho_core_torch", torch.tensor, lambda x: x.detach().numpy(), pull_back)


def tensorflow_core() -> Core:
    from ptycho_core_tf.framework import tf

    def pull_back(function: Any, arguments: tuple[np.ndarray, ...], weights: Any) -> list[np.ndarray]:
        tensors = [tf.constant(argument) for argument in arguments]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            result = function(*tensors)
        return [gradient.numpy() for gradient in tape.gradient(result, tensors, tf.constant(weights))]

    return Core("TensorFlow", "ptycho_core_tf", tf.constant, lambda x: x.numpy(), pull_back)


@pytest.fixture(scope="session")
def cores() -> tuple[Core, Core]:
    """Both cores, PyTorch first: loaded after TensorFlow it has crashed on some hosts."""
    return torch_core(), tensorflow_core()


@pytest.fixture(scope="session", params=["torch", "tensorflow"])
def core(request: pytest.FixtureRequest, cores: tuple[Core, Core]) -> Core:
    """Each core in turn."""
    return cores[0] if request.param == "torch" else cores[1]


class Agreement:
    """Compares, keeps the worst that was seen, and fails where that is more than what is allowed."""

    def __init__(self, table: dict[tuple[str, str, float], list[float]]) -> None:
        self._table = table

    def __call__(self, quantity: str, tolerance: float, found: Any, expected: Any) -> None:
        """Hold max|found - expected| against max|expected|."""
        found, expected = np.asarray(found), np.asarray(expected)
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype or expected.dtype in (np.float64, np.complex128)
        self.within(quantity, tolerance, found, np.abs(found - expected).max(), np.abs(expected).max())

    def within(self, quantity: str, tolerance: float, like: Any, distance: float, size: float) -> None:
        """Hold a distance against a size; `like` tells the number type."""
        relative = 0.0 if distance == 0 else float(distance) / float(size)
        precision = "float64" if np.asarray(like).dtype in (np.float64, np.complex128) else "float32"
        self._table.setdefault((quantity, precision, tolerance), []).append(relative)
        assert relative <= tolerance, f"{quantity}, {precision}: {relative:.2g}, allowed {tolerance:.2g}"


@pytest.fixture(scope="session")
def agree(pytestconfig: pytest.Config) -> Agreement:
    """The judge of all comparisons of this run."""
    return Agreement(pytestconfig.stash.setdefault(_TABLE, {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what was compared, and the worst that was seen."""
    table = config.stash.get(_TABLE, {})
    if not table:
        return
    terminalreporter.section("parity: max|a - b| / max|a|")
    widest = max(len(quantity) for quantity, _, _ in table)
    terminalreporter.write_line(f"{'quantity':{widest}}  numbers  allowed  worst    compared")
    for (quantity, precision, tolerance), seen in sorted(table.items()):
        row = f"{quantity:{widest}}  {precision}  {tolerance:<7.0e}  {max(seen):<7.1e}  {len(seen)}"
        terminalreporter.write_line(row)
