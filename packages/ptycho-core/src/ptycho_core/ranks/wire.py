"""Values on their way to another process: plain ones as JSON, arrays as they are in memory, no pickle."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

__all__ = ["as_bytes", "described", "made", "split", "unsplit"]

#: Kinds of numbers that mean the same in every process: whole, floating-point, complex, and truth.
_KINDS = "biufc"
#: The key of an object that stands for an array; no setting has such a name.
_ARRAY = "ptycho: array"


def described(array: np.ndarray) -> dict[str, Any]:
    """Return type and shape of an array as plain values.

    Raises:
        TypeError: it holds something else than numbers.
    """
    if array.dtype.kind not in _KINDS:
        raise TypeError(f"an array of {array.dtype} cannot be sent to another rank; only numbers can.")
    return {"dtype": array.dtype.str, "shape": list(array.shape)}


def made(description: dict[str, Any]) -> np.ndarray:
    """Return an array of that type and shape, not filled.

    Raises:
        ValueError: what arrived describes none.
    """
    dtype, shape = np.dtype(str(description["dtype"])), [int(side) for side in description["shape"]]
    if dtype.kind not in _KINDS or min(shape, default=0) < 0:
        raise ValueError(f"another rank sent an array of {dtype} and shape {shape}.")
    return np.empty(shape, dtype)


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Return the memory of a contiguous array as bytes (n,) uint8, without a copy."""
    return array.reshape(math.prod(array.shape)).view(np.uint8)


def split(value: Any) -> tuple[bytes, list[np.ndarray]]:
    """Take the arrays out of a nest of lists and objects: the rest as JSON, and the arrays, contiguous.

    Raises:
        TypeError: something is neither plain nor an array.
    """
    arrays: list[np.ndarray] = []

    def plain(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            arrays.append(np.ascontiguousarray(part))
            return {_ARRAY: described(part)}
        if isinstance(part, dict):
            return {key: plain(inner) for key, inner in part.items()}
        if isinstance(part, list | tuple):
            return [plain(inner) for inner in part]
        return part.item() if isinstance(part, np.generic) else part

    return json.dumps(plain(value)).encode(), arrays


def unsplit(text: bytes) -> tuple[Any, list[np.ndarray]]:
    """Undo `split`: the nest with its arrays, which are not filled yet, and a list of them in their order."""
    arrays: list[np.ndarray] = []

    def whole(part: Any) -> Any:
        if isinstance(part, dict):
            if part.keys() == {_ARRAY}:
                arrays.append(made(part[_ARRAY]))
                return arrays[-1]
            return {key: whole(inner) for key, inner in part.items()}
        return [whole(inner) for inner in part] if isinstance(part, list) else part

    return whole(json.loads(text)), arrays
