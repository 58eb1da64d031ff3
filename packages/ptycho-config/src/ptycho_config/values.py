"""The kinds of value a setting may hold: whole numbers, numbers in a range, durations, lists.

Each kind takes the text of a command line, an environment variable or a YAML file as well as the Python
value, so that `1e6`, `3m` and `0,5,9` mean the same everywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field

__all__ = [
    "SWITCH",
    "WHOLE",
    "Accepts",
    "Duration",
    "FilePath",
    "Fraction",
    "FrameList",
    "FrameRange",
    "Indices",
    "Integer",
    "LogLevel",
    "NonNegativeInteger",
    "NonNegativeNumber",
    "Number",
    "Orientation",
    "PixelPlace",
    "PositiveFraction",
    "PositiveInteger",
    "PositiveNumber",
    "ProperFraction",
    "Region",
    "ScaleFactors",
    "Scheduler",
    "Seed",
    "Voltage",
    "parse_duration",
    "parse_voltage",
]


@dataclass(frozen=True)
class Accepts:
    """What a value may be, in words, where its type does not say it; stands in the annotation."""

    text: str


_LONGEST_NUMBER = 100
"""Characters; no number that anybody means is longer, and the patterns below stay quick."""
_LARGEST_WHOLE = 2**63 - 1
"""What the libraries that count with it can hold."""
_LONGEST_NAME = 255
"""Bytes; what the file systems in use allow."""
_UNIT_S = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(sec|min|s|m|h)")
_DURATION = Accepts("a duration such as 90s, 3m or 1h, or a number of seconds")
_VOLTAGE = Accepts("a voltage such as 80kV, or a number of volts")
_VOLTAGE_TEXT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:e([+-]?\d+))?\s*(mv|kv|v|)", re.IGNORECASE)
_UNIT_V = {"": 1.0, "v": 1.0, "kv": 1e3, "mv": 1e6}
_RANGE = Accepts("START:STOP or START:STOP:STEP as Python slices, such as 0:500 or ::2")
_RANGE_TEXT = re.compile(r"-?\d*:-?\d*(:[1-9]\d*)?|-?\d*:-?\d*:")
_REGION = Accepts("Y0:Y1,X0:X1, in the unit of the positions; an end left out is open, such as 10:,:250")
_EXPONENT_OR_POINT = re.compile(r"[+-]?\d+(?:\.0*)?(?:[eE]\+?\d+)?")


def parse_duration(value: object) -> object:
    """Turn `90s`, `3m`, `1h`, `1h30m` or a number of seconds into seconds.

    Returns:
        Seconds as a float, or the value itself where it is not text (the field's own check then judges it).

    Raises:
        ValueError: the text is neither a number nor made of numbers followed by `s`, `m` or `h`.

    Example:
        >>> parse_duration("1h30m")
        5400.0
    """
    if isinstance(value, bool):
        raise ValueError(f"expected {_DURATION.text}")
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    try:
        return float(text)
    except ValueError:
        parts = _DURATION_PART.findall(text) if len(text) <= _LONGEST_NUMBER else []
        if not parts or _DURATION_PART.sub("", text).strip():
            raise ValueError(f"expected {_DURATION.text}") from None
        return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def parse_voltage(value: object) -> object:
    """Turn `80kV`, `0.3 MV` or a number of volts into volts.

    Returns:
        Volts as a float, or the value itself where it is not text (the field's own check then judges it).

    Raises:
        ValueError: the text is no voltage.

    Example:
        >>> parse_voltage("80kV")
        80000.0
    """
    if isinstance(value, bool):
        raise ValueError(f"expected {_VOLTAGE.text}")
    if not isinstance(value, str):
        return value
    found = _VOLTAGE_TEXT.fullmatch(value.strip()) if len(value) <= _LONGEST_NUMBER else None
    if found is None:
        raise ValueError(f"expected {_VOLTAGE.text}")
    number, exponent, unit = found.groups()
    return float(f"{number}e{exponent or 0}") * _UNIT_V[unit.lower()]


def _whole_number(value: object) -> object:
    """Read `1e6` and `16.0` as whole numbers; refuse True and False, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _LONGEST_NUMBER and text.lstrip("+-").isdigit():
            raise ValueError("expected a whole number that fits into 64 bits")
        if len(text) > _LONGEST_NUMBER or not _EXPONENT_OR_POINT.fullmatch(text):
            return value
        number = int(text) if text.lstrip("+-").isdigit() else float(text)
        if number in (float("inf"), float("-inf")):
            raise ValueError("expected a whole number")
        value = int(number)
    if isinstance(value, int) and not -_LARGEST_WHOLE <= value <= _LARGEST_WHOLE:
        raise ValueError("expected a whole number that fits into 64 bits")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _split_list(value: object) -> object:
    """Read `0,5,9` as three values."""
    if isinstance(value, str):
        return [part for part in value.replace(" ", ",").split(",") if part]
    return value


def _usable_path(value: Path) -> Path:
    """Refuse what no file system can hold, before anybody tries."""
    if "\0" in str(value):
        raise ValueError("expected a path without the character NUL")
    if any(len(os.fsencode(name)) > _LONGEST_NAME for name in value.parts):
        raise ValueError(f"expected a path whose names have at most {_LONGEST_NAME} bytes each")
    return value


def _frame_range(value: str) -> str:
    if len(value) > _LONGEST_NUMBER or not _RANGE_TEXT.fullmatch(value.replace(" ", "")):
        raise ValueError(f"expected {_RANGE.text}")
    return value.replace(" ", "")


def _region(value: str) -> str:
    """Check that it is two ranges of numbers."""
    axes = [axis.split(":") for axis in value.split(",")]
    ends = [end.strip() for axis in axes for end in axis]
    try:
        numbers = [float(end) for end in ends if end]
    except ValueError:
        numbers = [float("nan")]
    if [len(axis) for axis in axes] != [2, 2] or any(number != number for number in numbers):
        raise ValueError(f"expected {_REGION.text}")
    return value


def _frame_list(value: object) -> object:
    """Read a list of whole numbers, or a path, as the text that a flag would be."""
    if isinstance(value, list | tuple):
        numbers = cast("Sequence[object]", value)
        whole = all(type(number) is int for number in numbers)
        return ",".join(map(str, numbers)) if whole else numbers
    return str(value) if isinstance(value, int | Path) and not isinstance(value, bool) else value


def _switch(value: object) -> object:
    """Read what YAML makes of the bare word `off`."""
    return "off" if value is False else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _current_scheduler(value: object) -> object:
    """Read scheduler names of earlier versions; `MultiStage` and `Adaptive` are gone."""
    if value == "Cosine":
        return "WarmupCosine"
    if value in ("MultiStage", "Adaptive"):
        import warnings

        warnings.warn(
            f"scheduler {value!r} no longer exists; `Default` is used", DeprecationWarning, stacklevel=3
        )
        return "Default"
    return value


WHOLE = BeforeValidator(_whole_number)
"""Makes an `int` read `1e6` and refuse true and false; stands after the bounds: `int, Field(ge=1), WHOLE`."""
SWITCH = BeforeValidator(_switch)
"""Makes a choice that has the word `off` read it from YAML, where the bare word is false."""
_NUMBER = BeforeValidator(_number)

Integer = Annotated[int, WHOLE]
PositiveInteger = Annotated[int, Field(ge=1), WHOLE]
NonNegativeInteger = Annotated[int, Field(ge=0), WHOLE]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1), WHOLE]
"""What every library of random numbers takes."""
Number = Annotated[float, _NUMBER]
PositiveNumber = Annotated[float, Field(gt=0), _NUMBER]
NonNegativeNumber = Annotated[float, Field(ge=0), _NUMBER]
Fraction = Annotated[float, Field(ge=0, le=1), _NUMBER]
"""From 0 to 1, both included."""
PositiveFraction = Annotated[float, Field(gt=0, le=1), _NUMBER]
"""Above 0, up to 1."""
ProperFraction = Annotated[float, Field(ge=0, lt=1), _NUMBER]
"""From 0 to 1, without 1: a momentum or a decay."""
Duration = Annotated[float, Field(gt=0), BeforeValidator(parse_duration), _DURATION]
"""Seconds."""
Voltage = Annotated[float, Field(gt=0), BeforeValidator(parse_voltage), _VOLTAGE]
"""Volts."""
FilePath = Annotated[Path, AfterValidator(_usable_path)]
"""A file or directory; whether it is there is for others to see."""
Indices = Annotated[
    tuple[NonNegativeInteger, ...],
    Field(min_length=1),
    BeforeValidator(_split_list),
    Accepts("frame numbers such as 0,5,9"),
]
"""Frame numbers, at least one."""
FrameRange = Annotated[str, Field(examples=["0:500", "::2"]), AfterValidator(_frame_range), _RANGE]
"""Some of the frames, as a slice of Python says it."""
FrameList = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(_frame_list),
    Accepts("frame numbers and ranges such as 3,17,40:45, or a text file or NPY file that holds them"),
]
"""Frames by their numbers, or the file that lists them."""
Region = Annotated[str, Field(examples=["10:,:250", "0:1,2:3.5"]), AfterValidator(_region), _REGION]
"""A rectangle of positions."""
PixelPlace = Annotated[
    tuple[NonNegativeInteger, ...],
    Field(min_length=2, max_length=2),
    BeforeValidator(_split_list),
    Accepts("two whole numbers, y and x, such as 512,530"),
]
"""A pixel, (y, x)."""
ScaleFactors = Annotated[
    tuple[PositiveNumber, ...],
    Field(min_length=1, max_length=2),
    BeforeValidator(_split_list),
    Accepts("a positive number, or two, those of y and of x, such as 1.02,0.98"),
]
"""One factor, or two: (y, x)."""
Orientation = Literal[
    "as-is", "flip-y", "flip-x", "rotate-180", "transpose", "rotate-90", "rotate-270", "anti-transpose"
]
"""The eight ways to lay a grid on itself: exchange rows and columns or not, then mirror y or x or both."""
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]
Scheduler = Annotated[
    Literal["Default", "Exponential", "WarmupCosine", "ReduceLROnPlateau"],
    BeforeValidator(_current_scheduler),
]
