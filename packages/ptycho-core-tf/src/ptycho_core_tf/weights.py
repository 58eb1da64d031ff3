"""Weights of a network as NumPy arrays, by the canonical names and in the canonical layout.

Canonical are the names and shapes of the PyTorch core, which bundles carry. Everything is held here as it is
there, but the kernels of convolutions: those are (k, k, in, out) in TensorFlow and (out, in, k, k) in a
bundle. The name of a variable is the path of attributes that leads to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ptycho_config.errors import BundleError
from ptycho_core_tf.framework import tf

__all__ = ["KERNEL", "canonical", "named_variables", "output_axis", "read_weights", "write_weights"]

KERNEL = "kernel"
"""What TensorFlow calls a variable that is held as (k, k, in, out)."""
_TO_CANONICAL, _FROM_CANONICAL = (3, 2, 0, 1), (2, 3, 1, 0)


def named_variables(module: tf.Module) -> dict[str, tf.Variable]:
    """Return the variables of a module by their canonical names, in the order in which they were made."""
    return dict(_walk(module, ""))


def output_axis(variable: tf.Variable) -> int:
    """Give the axis that is the first one in the canonical layout; of a convolution, its outputs."""
    return -1 if _is_kernel(variable) else 0


def canonical(variable: tf.Variable, values: np.ndarray) -> np.ndarray:
    """Give values of the shape of a variable, itself or its gradient, the canonical layout."""
    return np.ascontiguousarray(values.transpose(_TO_CANONICAL)) if _is_kernel(variable) else values


def read_weights(module: tf.Module) -> dict[str, np.ndarray]:
    """Return copies of all variables, by name, in the canonical layout."""
    variables = named_variables(module)
    return {name: canonical(variable, np.array(variable.numpy())) for name, variable in variables.items()}


def write_weights(module: tf.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Set every variable of a module to the array of its name, given in the canonical layout.

    Raises:
        BundleError: names or shapes are not those of the module; nothing is changed then.
    """
    variables = named_variables(module)
    strange = sorted(set(weights) ^ set(variables))
    strange += [
        name for name in variables if name in weights and weights[name].shape != _shape(variables[name])
    ]
    if strange:
        raise BundleError(
            f"the tensors are not those of this network ({', '.join(strange[:4])}). Train it anew.",
        )
    for name, variable in variables.items():
        array = weights[name].transpose(_FROM_CANONICAL) if _is_kernel(variable) else weights[name]
        variable.assign(array.astype(variable.dtype.as_numpy_dtype))


def _walk(module: tf.Module, prefix: str) -> Iterator[tuple[str, tf.Variable]]:
    for name, part in vars(module).items():
        if name.startswith("_"):
            continue
        members = enumerate(part) if isinstance(part, list | tuple) else None
        for path, member in [(name, part)] if members is None else [(f"{name}.{i}", m) for i, m in members]:
            if isinstance(member, tf.Variable):
                yield prefix + path, member
            elif isinstance(member, tf.Module):
                yield from _walk(member, f"{prefix}{path}.")


def _is_kernel(variable: tf.Variable) -> bool:
    return variable.name.split(":")[0].endswith(KERNEL)


def _shape(variable: tf.Variable) -> tuple[int, ...]:
    shape = tuple(variable.shape)
    return tuple(shape[axis] for axis in _TO_CANONICAL) if _is_kernel(variable) else shape
