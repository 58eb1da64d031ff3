"""What a program gives to the public functions, checked at the door.

A wrong type is a TypeError that says what was expected, and not an attribute missing somewhere inside.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.naming import shown

__all__ = ["expect", "expect_path", "expect_reading"]

_TEXT = ("text", lambda value: isinstance(value, str))
_PATH = ("a path", lambda value: isinstance(value, str | Path))
_NUMBER = ("a number", lambda value: _is_number(value))
_VOLTS = ("a number, or text such as '80kV'", lambda value: _is_number(value) or isinstance(value, str))
_WHOLE = ("a whole number", lambda value: _is_whole(value))
_WHOLES = ("a tuple of whole numbers", lambda value: _all(value, _is_whole))
_NUMBERS = ("a tuple of numbers", lambda value: _all(value, _is_number))
_IMAGE = ("an array or a path", lambda value: isinstance(value, str | Path | np.ndarray))
_FRAMES = (
    "whole numbers, or text such as '3,17,40:45'",
    lambda value: isinstance(value, str | Path) or _all(value, _is_whole),
)
_SWITCH = ("True or False", lambda value: isinstance(value, bool | np.bool_))
#: How a scan is read: name -> what is expected, and whether a value is that.
_READING = {
    **dict.fromkeys(
        (
            *("measurement", "dc", "probe_start", "frames_key", "positions_key", "probe_key", "scan_step"),
            *("positions_unit", "positions_orientation", "frames_orientation", "bad_pixels", "bad_frames"),
            *("frames", "region", "missing_positions"),
        ),
        _TEXT,
    ),
    **dict.fromkeys(("probe_file", "positions_file"), _PATH),
    **dict.fromkeys(
        (
            *("pixel_size_m", "energy_ev", "distance_m", "detector_pixel_m", "counts_per_photon"),
            "positions_turn_deg",
        ),
        _NUMBER,
    ),
    **dict.fromkeys(("crop_px", "rebin"), _WHOLE),
    **dict.fromkeys(("scan_shape", "beam_center_px"), _WHOLES),
    **dict.fromkeys(("dark", "flat", "mask"), _IMAGE),
    "electrons": _VOLTS,
    "positions_scale": _NUMBERS,
    "mask_invert": _SWITCH,
    "exclude_frames": _FRAMES,
}


def expect(value: object, kind: type | tuple[type, ...], call: str, expected: str) -> None:
    """Refuse a value of another type.

    Args:
        call: the function, with the name of its parameter.
        expected: in words, with the way to get one.
    Raises:
        TypeError: in one line.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{call} expects {expected}, not {type(value).__name__} {shown(value)}.")


def expect_path(value: object, call: str, what: str) -> None:
    """Refuse what is no path, bytes among them.

    Raises:
        TypeError: in one line.
    """
    expect(value, (str, os.PathLike), call, f"the path of {what}")


def expect_reading(call: str, given: Mapping[str, Any]) -> None:
    """Refuse a keyword of another type among those that say how a scan is read; None stands for none.

    Raises:
        TypeError: names the keyword.
    """
    for name, value in given.items():
        expected, fits = _READING[name]
        if value is not None and not fits(value):
            raise TypeError(
                f"{call} expects {expected} as `{name}`, not {type(value).__name__} {shown(value)}."
            )


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _all(values: object, fits: Any) -> bool:
    return (
        isinstance(values, Sequence | np.ndarray)
        and not isinstance(values, str | bytes)
        and all(fits(value) for value in values)
    )
