"""What a setting is called outside: its flag, its environment variable and its YAML key come from one name.

A command joins several models; a `Part` says under which names one of them appears there.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic.fields import FieldInfo

from ptycho_config.models import Config

__all__ = ["ENV_PREFIX", "Part", "Place", "nearest", "normalised", "places", "shortened", "shown"]

ENV_PREFIX = "PTYCHO_"
_LONGEST_SHOWN = 60
"""Characters of a value that a message shows."""
_BOUNDED = reprlib.Repr()
_BOUNDED.maxstring = _BOUNDED.maxother = _LONGEST_SHOWN
ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True)
class Part(Generic[ConfigT]):
    """One model among the settings of a command.

    Attributes:
        model_class: the model.
        prefix: put before the name of every field, such as `torch_`.
        rename: field -> name outside, for those that the prefix rule does not fit.
        exclude: fields that this command does not offer; they keep their defaults.
        title: heading in the help text; the first line of the model's docstring when empty.
    """

    model_class: type[ConfigT]
    prefix: str = ""
    rename: Mapping[str, str] = field(default_factory=dict[str, str])
    exclude: frozenset[str] = frozenset()
    title: str = ""

    @property
    def heading(self) -> str:
        """The heading in the help text."""
        if self.title:
            return self.title
        # Python without docstrings (`-OO`) has the name alone.
        said = (self.model_class.__doc__ or self.model_class.__name__).strip()
        return said.splitlines()[0].rstrip(".")


@dataclass(frozen=True)
class Place:
    """Where one setting stands in its model, and what it is called outside."""

    path: tuple[str, ...]
    name: str
    info: FieldInfo

    @property
    def dotted(self) -> str:
        """The field, with its section: `model.N`."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """The flag, with hyphens: `--batch-size`."""
        return "--" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        """The environment variable: `PTYCHO_BATCH_SIZE`."""
        return ENV_PREFIX + self.name.upper()


def places(part: Part[Any]) -> tuple[Place, ...]:
    """List the settings of a model; those of a nested model (`model`) stand among them, flat."""
    found: list[Place] = []
    for name, info in part.model_class.model_fields.items():
        if name in part.exclude or name in part.model_class.derived_fields:
            continue
        if isinstance(info.annotation, type) and issubclass(info.annotation, Config):
            inner = Part(info.annotation, part.prefix, part.rename, part.exclude)
            found.extend(Place((name, *place.path), place.name, place.info) for place in places(inner))
        else:
            found.append(Place((name,), part.rename.get(name, part.prefix + name), info))
    return tuple(found)


def normalised(name: str) -> str:
    """Bring `--batch-size`, `batch-size` and `batch_size` to one spelling."""
    return name.removeprefix("--").replace("-", "_")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that a misspelt one most likely meant; None when nothing is near."""
    if len(name) > _LONGEST_SHOWN:
        return None  # nothing of ours is so long, and comparing would take its time
    by_lower = {candidate.lower(): candidate for candidate in known}
    match = difflib.get_close_matches(name.lower(), by_lower)
    return by_lower[match[0]] if match else None


def shortened(text: str) -> str:
    """Cut a text that was given to what fits into a message."""
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def shown(value: object) -> str:
    """Write a value into a message, in code form and short, whatever it is."""
    if isinstance(value, str):
        return shortened(repr(value[:_LONGEST_SHOWN]))
    if isinstance(value, int) and value.bit_length() > 4 * _LONGEST_SHOWN:
        return "a huge number"  # Python refuses to write one of several thousand digits
    return shortened(" ".join(_BOUNDED.repr(value).split()))
