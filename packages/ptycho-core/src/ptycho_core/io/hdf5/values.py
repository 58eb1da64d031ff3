"""What a value of an HDF5 file says: its unit, a text, a complex number, a place in a row of names."""

from __future__ import annotations

import re
from typing import Any

import h5py
import numpy as np

from ptycho_core.io.hdf5.handles import BROKEN

__all__ = ["joined_complex", "numbered", "text_of", "unit_of"]

_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def unit_of(item: h5py.Dataset) -> str | None:
    """Return the `units` attribute of a data set, None where there is none."""
    try:
        said = item.attrs.get("units")
    except BROKEN:
        return None
    if isinstance(said, np.ndarray) and said.size == 1:
        said = said.reshape(-1)[0]
    if isinstance(said, bytes):
        said = said.decode("utf-8", "replace")
    return said if isinstance(said, str) and said.strip() else None


def text_of(value: Any) -> str:  # Any: what h5py returns for an attribute
    """Return an attribute as text, empty where it is none."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def joined_complex(values: np.ndarray) -> np.ndarray:
    """Join the two fields by which MATLAB and others store complex numbers."""
    names = values.dtype.names
    if names is None or len(names) != 2:
        return values
    real, imaginary = values[names[0]], values[names[1]]
    if {names[0][:1].lower(), names[1][:1].lower()} != {"r", "i"}:
        return values
    if names[0][:1].lower() == "i":
        real, imaginary = imaginary, real
    joined = np.empty(values.shape, np.result_type(real.dtype, np.complex64))
    joined.real, joined.imag = real, imaginary
    return joined


def numbered(keys: list[str]) -> list[str] | None:
    """Order names such as `data_000001`, `data_000002`; None unless they differ in their number only."""
    matches = [_NUMBERED.match(key) for key in keys]
    if any(match is None for match in matches):
        return None
    stems = {match.group(1) for match in matches if match}
    if len(stems) != 1:
        return None
    return sorted(keys, key=lambda key: int(_NUMBERED.match(key).group(2)))  # type: ignore[union-attr]
