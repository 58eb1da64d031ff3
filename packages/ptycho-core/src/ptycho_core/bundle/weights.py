"""Weights as safetensors: float32, by canonical names, in the layout of PyTorch."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from ptycho_core.bundle.refusal import TRAIN_AGAIN, refused

__all__ = ["PARAMETER_NAME", "decode_weights", "encode_weights"]

#: Its square, summed over a layer, is still a float32.
_LARGEST_WEIGHT = 1e15

PARAMETER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,254}")
"""What a parameter may be called, such as `encoder.0.conv1.weight`."""


def encode_weights(source: str, weights: Mapping[str, np.ndarray]) -> bytes:
    """Write tensors as safetensors; equal tensors give equal bytes.

    Raises:
        BundleError: a name is not a parameter's, or a tensor is not float32 or not finite.
    """
    for name, tensor in weights.items():
        if not PARAMETER_NAME.fullmatch(name):
            raise refused(
                source, f"a parameter is called `{name}`", "letters, digits, `_`, `-` and `.`", "Rename it."
            )
        if tensor.dtype != np.float32:
            then = f"Convert it: `weights[{name!r}].astype(numpy.float32)`."
            raise refused(source, f"the parameter `{name}` is {tensor.dtype}", "float32", then)
        if not np.isfinite(tensor).all():
            raise refused(
                source,
                f"the parameter `{name}` holds NaN or infinity, so training diverged",
                "finite weights",
                "Train again with a smaller `--torch-learning-rate`.",
            )
    # Not ascontiguousarray, which gives a scalar an axis.
    return save({name: np.array(tensor, "=f4", order="C") for name, tensor in sorted(weights.items())})


def decode_weights(
    source: str, member: str, content: bytes, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Float32[np.ndarray, "..."]]:
    """Read safetensors and compare their header with what the manifest declares.

    Args:
        shapes: shape of each parameter.

    Raises:
        BundleError: it is damaged, a name, shape or dtype differs, or a value is not finite.
    """
    try:
        found = dict(deserialize(content))
    except (SafetensorError, ValueError) as error:
        raise refused(source, f"`{member}` cannot be read ({error})", "complete safetensors") from error
    for name in sorted(found.keys() ^ shapes.keys()):
        where = "not in the manifest" if name in found else "only in the manifest"
        raise refused(source, f"`{member}`: the parameter `{name}` is {where}", "the same names in both")
    weights: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        tensor = found[name]
        if tensor["dtype"] != "F32":
            raise refused(
                source, f"`{member}`: the parameter `{name}` is {tensor['dtype']}", "F32, which is float32"
            )
        if tuple(tensor["shape"]) != shape:
            here = f"`{member}`: the parameter `{name}` has shape {tuple(tensor['shape'])}"
            raise refused(source, here, f"{shape}, as the manifest says")
        # A copy: writable, as frameworks that wrap the memory want it, and free of the bytes around it.
        weights[name] = np.frombuffer(tensor["data"], "<f4").reshape(shape).astype(np.float32)
        if weights[name].size and not float(np.abs(weights[name]).max()) < _LARGEST_WEIGHT:
            found_there = f"`{member}`: the parameter `{name}` holds values of {_LARGEST_WEIGHT:.0e} or more"
            if np.isfinite(weights[name]).all():
                raise refused(source, found_there, "weights that a sum of squares bears", TRAIN_AGAIN)
        if not np.isfinite(weights[name]).all():
            found_there = f"`{member}`: the parameter `{name}` holds NaN or infinity"
            raise refused(source, found_there, "finite weights", TRAIN_AGAIN)
    return weights
