"""The flags of a command, generated from the configuration models, so that nothing is written twice.

A flag carries text to `ptycho_config.sources`, where the model judges it; argparse only splits the line. A
flag that was not given leaves no trace, so that the environment, a YAML file or the default can speak.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from ptycho_config.accepted import members
from ptycho_config.aliases import LEGACY_NAMES
from ptycho_config.models import Config
from ptycho_config.naming import Part, Place, places
from ptycho_config.values import parse_duration

__all__ = ["FlagSpec", "add_flags", "adopt_flags", "flag_specs", "given_flags"]

Kind = Literal["boolean", "choice", "integer", "number", "text", "path", "duration", "list", "switch"]

_METAVAR: dict[Kind, str] = {
    "boolean": "{true,false}",
    "choice": "NAME",
    "integer": "INTEGER",
    "number": "NUMBER",
    "text": "TEXT",
    "path": "PATH",
    "duration": "TIME",
    "list": "I,J,...",
    "switch": "",
}


@dataclass(frozen=True)
class FlagSpec:
    """One flag of a command line.

    Attributes:
        name: the flag as shown, with hyphens.
        aliases: other spellings that mean the same.
        dest: the setting it carries, as `sources.load` knows it.
        kind: what its value is.
        default: value of the setting where none is chosen; None where the run decides.
        help: one line, with units and default.
        metavar: what stands for the value in the help text.
        alone: what the flag means without a value; None when it needs one.
        hidden: whether the help text leaves it out (deprecated names).
    """

    name: str
    dest: str
    kind: Kind
    help: str
    metavar: str
    aliases: tuple[str, ...] = ()
    default: object = None
    alone: str | None = None
    hidden: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """All spellings, the one to show first."""
        return (self.name, *self.aliases)


def flag_specs(
    part: Part[Any] | type[Config], prefix: str = "", rename: Mapping[str, str] | None = None
) -> list[FlagSpec]:
    """Describe the flags of a model, older names included.

    Args:
        part: a model, or a model with the names it has in this command.
        prefix: put before each name when `part` is a bare model.
        rename: field -> name outside, when `part` is a bare model.

    Example:
        >>> from ptycho_config import SolverConfig
        >>> [spec.name for spec in flag_specs(SolverConfig)][:3]
        ['--effort', '--probe-search', '--background']
    """
    if not isinstance(part, Part):
        part = Part(part, prefix, rename or {})
    specs = [_describe(place) for place in places(part)]
    return specs + list(_older_names({spec.dest: spec for spec in specs}))


def add_flags(parser: argparse.ArgumentParser, *parts: Part[Any] | type[Config]) -> list[FlagSpec]:
    """Add the flags of several models to a parser, one titled group for each.

    A name that two models share is one flag, which `sources.load_parts` hands to both.

    Returns:
        The flags that were added.
    """
    groups = [part if isinstance(part, Part) else Part(part) for part in parts]
    # What is an older name here may be the setting itself there: `accelerator`.
    settings = {place.name for part in groups for place in places(part)}
    added: dict[str, FlagSpec] = {}
    for part in groups:
        group = parser.add_argument_group(part.heading)
        own = {place.name for place in places(part)}
        for spec in flag_specs(part):
            if spec.dest not in added and (spec.dest in own or spec.dest not in settings):
                added[spec.dest] = spec
                _add(group, spec)
    return list(added.values())


def given_flags(namespace: argparse.Namespace) -> dict[str, str]:
    """Give the settings that stood on the command line: name -> text, the others left out."""
    return dict(getattr(namespace, _GIVEN, {}))


def adopt_flags(namespace: argparse.Namespace, given: Mapping[str, str]) -> None:
    """Let these settings, name -> text, be those that stood on the command line."""
    setattr(namespace, _GIVEN, dict(given))


_GIVEN = "flags_given"


class _Record(argparse.Action):
    """Stores a flag in the record of those really given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        value = self.const if values is None or values == [] else values
        setattr(namespace, _GIVEN, {**getattr(namespace, _GIVEN, {}), self.dest: value})


def _add(group: argparse._ArgumentGroup, spec: FlagSpec) -> None:  # pyright: ignore[reportPrivateUsage]
    group.add_argument(
        *spec.options,
        action=_Record,
        nargs=0 if spec.kind == "switch" else "?" if spec.alone is not None else None,
        const=spec.alone,
        default=argparse.SUPPRESS,
        metavar=spec.metavar,
        help=argparse.SUPPRESS if spec.hidden else spec.help.replace("%", "%%"),
    )


def _describe(place: Place) -> FlagSpec:
    """Read a flag off a field: its type, its default and its description."""
    kind, choices, boolean = _kind(place.info)
    default = None if place.info.is_required() else place.info.default
    text = place.info.description or ""
    if default is not None:
        text += f" (default: {_text(default)})"
    return FlagSpec(
        name=place.flag,
        dest=place.name,
        kind=kind,
        help=text,
        metavar=_metavar(kind, choices),
        aliases=_spellings(place.name)[1:],
        default=default,
        alone="true" if boolean else None,
    )


def _older_names(specs: Mapping[str, FlagSpec]) -> Iterator[FlagSpec]:
    """Give a flag for each older name of the settings at hand; `sources` translates it."""
    for alias in LEGACY_NAMES:
        today = next((specs[name] for name in alias.new if name in specs), None)
        if today is None or alias.old in specs:
            continue
        name, *others = _spellings(alias.old)
        switch = alias.value is not None
        yield FlagSpec(
            name=name,
            dest=alias.old,
            kind="switch" if switch else today.kind,
            help=f"same as {alias.advice()}",
            metavar=_METAVAR["switch"] if switch else today.metavar,
            aliases=tuple(others),
            alone="true" if switch else today.alone,
            hidden=not alias.shown,
        )


def _spellings(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}")))


def _metavar(kind: Kind, choices: tuple[str, ...]) -> str:
    if kind in ("choice", "boolean"):
        return f"{{{','.join(choices)}}}"
    return "|".join((_METAVAR[kind], *choices))


def _text(value: object) -> str:
    """Write a default the way it would be typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind(info: FieldInfo) -> tuple[Kind, tuple[str, ...], bool]:
    """Find what a flag's value is, which words it takes, and whether it can be true or false."""
    found = list(members(info.annotation, info.metadata))
    types_found = [get_origin(member) or member for member, _ in found]
    words = [word for member, _ in found for word in _words(member)]
    boolean = bool in types_found
    if boolean:
        words = ["true", "false", *words]
    if type(None) in types_found and words:
        words.append("none")
    kind: Kind = "text"
    if boolean:
        kind = "choice" if len(words) > 2 else "boolean"
    elif any(_is_duration(metadata) for _, metadata in found):
        kind = "duration"
    elif int in types_found:
        kind = "integer"
    elif float in types_found:
        kind = "number"
    elif tuple in types_found:
        kind = "list"
    elif Path in types_found:
        kind = "path"
    elif words:
        kind = "choice"
    return kind, tuple(words), boolean


def _words(member: Any) -> tuple[str, ...]:
    return get_args(member) if get_origin(member) is Literal else ()


def _is_duration(metadata: Iterable[Any]) -> bool:
    return any(isinstance(item, BeforeValidator) and item.func is parse_duration for item in metadata)
