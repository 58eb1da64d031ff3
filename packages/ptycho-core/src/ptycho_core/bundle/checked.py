"""JSON from a stranger: parsed without surprises, its fields fetched one by one with what they must be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from ptycho_config.errors import BundleError
from ptycho_core.bundle.members import MANIFEST
from ptycho_core.bundle.refusal import refused

__all__ = ["Fields", "parse_json"]

_LARGEST = 1 << 53  # the largest whole number that every JSON reader keeps exact


def parse_json(source: str, content: bytes, name: str = MANIFEST) -> Fields:
    """Parse the manifest: an object in UTF-8, no key twice, no NaN.

    Args:
        name: how messages call it.
    Raises:
        BundleError: it is something else.
    """
    try:
        data = json.loads(
            content.decode("utf-8"), object_pairs_hook=_without_repetition, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise refused(source, f"`{name}` cannot be read ({error})", "JSON in UTF-8") from error
    if not isinstance(data, dict):
        raise refused(source, f"`{name}` holds {type(data).__name__}", "a JSON object")
    return Fields(source, data, name=name)


class Fields:
    """The fields of one JSON object; what they are not named for is ignored, so that later versions may add.

    Args:
        source: how messages call the bundle.
        place: where in the manifest the object is, with a dot at the end.
        name: how messages call the manifest.
    """

    def __init__(
        self, source: str, values: Mapping[str, Any], place: str = "", *, name: str = MANIFEST
    ) -> None:
        self.source, self.values, self.place, self.name = source, values, place, name

    def wrong(self, name: str, expected: str) -> BundleError:
        """Make the error for a field that is not what it must be."""
        found = "missing" if name not in self.values else _shown(self.values[name])
        return refused(self.source, f"`{self.name}`: `{self.place}{name}` is {found}", expected)

    def text(
        self, name: str, pattern: str = r"[a-z][a-z0-9_.\-]{0,63}", what: str = "a lower-case name"
    ) -> str:
        """Fetch a text that fits a pattern as a whole."""
        value = self.values.get(name)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self.wrong(name, what)
        return value

    def choice(self, name: str, choices: Collection[str]) -> Any:  # Any: stands for the caller's Literal
        """Fetch one of some texts."""
        value = self.values.get(name)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, " or ".join(f'"{choice}"' for choice in choices))
        return value

    def number(self, name: str, *, zero_is_fine: bool = False) -> float:
        """Fetch a finite number above 0, or from 0."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise self.wrong(name, "a finite number")
        if value > 0 or (value == 0 and zero_is_fine):
            return float(value)
        raise self.wrong(name, f"a finite number {'of at least 0' if zero_is_fine else 'above 0'}")

    def whole(self, name: str) -> int:
        """Fetch a whole number from 0."""
        value = self.values.get(name)
        if type(value) is not int or not 0 <= value < _LARGEST:
            raise self.wrong(name, "a whole number of at least 0")
        return value

    def shape(self, name: str = "shape") -> tuple[int, ...]:
        """Fetch the shape of an array, at most 16 sizes."""
        value = self.values.get(name)
        sizes_are_whole = isinstance(value, list) and all(
            type(one) is int and 0 <= one < _LARGEST for one in value
        )
        if not isinstance(value, list) or not sizes_are_whole or len(value) > 16:
            raise self.wrong(name, "the list of an array's sizes")
        return tuple(value)

    def object(self, name: str) -> dict[str, Any]:
        """Fetch an object as it is."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self.wrong(name, "a JSON object")
        return value

    def below(self, name: str) -> Fields:
        """Fetch an object whose fields matter."""
        return Fields(self.source, self.object(name), f"{self.place}{name}.", name=self.name)


def _is_finite(value: float | int) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of float
        return False


def _shown(value: Any) -> str:
    """Show a value in a message: its type where it has an inside."""
    return {dict: "an object", list: "a list"}.get(type(value)) or json.dumps(value)[:80]


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is there twice")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
