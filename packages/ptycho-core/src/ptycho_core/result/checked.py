"""Whether what a file holds of a result can be one: types, shapes that belong together, values that can be.

Everything is asked when a result is loaded, so that no command stumbles over it later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import DataError

__all__ = ["check_arrays", "check_fields"]

_CURE = "Reconstruct the scan again."
#: dtype that is stored -> the kinds of NumPy that may stand for it, and what they are called.
_KINDS = {
    "complex64": ("cfiu", "numbers"),
    "float32": ("fiu", "real numbers"),
    "float64": ("fiu", "real numbers"),
    "bool": ("biuf", "true or false"),
    "str": ("US", "text"),
}
#: Keys whose values are all known.
_KNOWN = ("object", "probe", "origin_px", "coverage", "frame_weight", "probe_variations")
#: Keys whose values are NaN where they are not known, but never infinite.
_KNOWN_OR_NAN = (
    *("positions_px", "positions_given_px", "residual_per_frame", "data_residual", "frame_intensity"),
    *("amplitude_std", "phase_std_rad", "variation_weights"),
)
_NOT_NEGATIVE = (
    *("coverage", "residual_per_frame", "data_residual", "frame_weight", "frame_intensity"),
    *("amplitude_std", "phase_std_rad"),
)
_POSITIVE = ("pixel_size_m", "pixel_aspect", "energy_ev", "distance_m")
#: Amplitudes beyond this overflow where they are squared and summed.
_LARGEST = 1e12
_LARGEST_PLACE_PX = 1e9
#: No length, energy or distance that anybody means is beyond.
_SMALLEST_UNIT, _LARGEST_UNIT = 1e-30, 1e30


def check_arrays(file: Path, arrays: Mapping[str, np.ndarray], forms: Mapping[str, tuple[str, str]]) -> None:
    """Check types and shapes of the arrays of a file.

    Args:
        forms: key -> shape such as `(M, 2)`, whose letters have one value throughout, and dtype; keys that
            the file does not hold are passed over.
    Raises:
        DataError: names the first key that does not fit.
    """
    sizes: dict[str, int] = {}
    for key, (shape, dtype) in forms.items():
        if key not in arrays:
            continue
        array = arrays[key]
        kinds, name = _KINDS[dtype]
        if array.dtype.kind not in kinds:
            raise _refused(file, f"`{key}` holds {array.dtype.name}; expected {name}")
        axes = re.findall(r"\w+", shape)
        fits = len(axes) == array.ndim
        for axis, length in zip(axes, array.shape, strict=False):
            fits = fits and length == (int(axis) if axis.isdigit() else sizes.setdefault(axis, length))
        if not fits or (key != "history" and 0 in array.shape):
            known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items() if axis in axes)
            beside = f" with {known}" if known and 0 not in array.shape else ", none of them 0"
            raise DataError(
                f"{file}: the arrays do not fit together (`{key}` has the shape {array.shape}; expected "
                f"{shape}{beside if axes else ''}). {_CURE}"
            )


def check_fields(file: Path, fields: Mapping[str, Any], *, whole: bool = True) -> None:
    """Check the values of the fields of a `Reconstruction`.

    Args:
        whole: the object is no part of one, on which not every frame lies.

    Raises:
        DataError: names the first field that cannot be right.
    """
    for key in (*_KNOWN, *_KNOWN_OR_NAN):
        values = fields.get(key)
        if values is None:
            continue
        allowed = np.isfinite(values) if key in _KNOWN else ~np.isinf(values)
        if not np.all(allowed):
            n_wrong = int(np.size(values) - np.count_nonzero(allowed))
            raise _refused(file, f"`{key}` holds {n_wrong} values that are not finite")
        if key in _NOT_NEGATIVE and np.any(np.asarray(values) < 0):
            raise _refused(file, f"`{key}` holds negative values")
    if (fields.get("probe_variations") is None) != (fields.get("variation_weights") is None):
        raise _refused(file, "`probe_variations` and `variation_weights` are there only together")
    for key in ("object", "probe"):
        largest = float(np.abs(fields[key]).max())
        if largest > _LARGEST:
            raise _refused(file, f"`{key}` reaches {largest:.3g}, which is no amplitude")
    if not fields["probe"].any():
        raise _refused(file, "`probe` is dark")
    for key in _POSITIVE:
        value = fields.get(key)
        if value is not None and not _SMALLEST_UNIT < value < _LARGEST_UNIT:
            raise _refused(file, f"`{key}` is {value:g}; expected a positive number")
    if fields.get("bad_pixels") is not None and np.all(fields["bad_pixels"]):
        raise _refused(file, "`bad_pixels` marks all pixels")
    if not whole:
        return
    if "frame_weight" in fields:  # other programs' results may reach beyond their object
        _check_positions(file, fields)
    elif not (np.abs(fields["positions_px"] - fields["origin_px"]) < _LARGEST_PLACE_PX).all():
        raise _refused(file, "there are positions that are no places on its object")


def _check_positions(file: Path, fields: Mapping[str, Any]) -> None:
    """Check that the window of every frame that was used touches the canvas, of which the rim may be cut."""
    weight = fields["frame_weight"]
    used = np.ones(len(fields["positions_px"]), bool) if weight is None else weight > 0
    if not used.any():
        raise _refused(file, "`frame_weight` leaves out all frames")
    on_canvas = fields["positions_px"][used] - fields["origin_px"]
    frame_px = fields["probe"].shape[-1]
    near = (on_canvas > -frame_px) & (on_canvas < np.array(fields["object"].shape) + frame_px)
    if not near.all():
        n_far = int(np.count_nonzero(~near.all(axis=1)))
        raise _refused(
            file, f"{n_far} of the {len(near)} frames that were used lie beside the object, or nowhere"
        )


def _refused(file: Path, found: str) -> DataError:
    return DataError(f"{file}: cannot be a result: {found}. {_CURE}")
