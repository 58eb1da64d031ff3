"""Joins the sources of a configuration: flag really given > environment > YAML > default.

Every value keeps where it came from. The three sources are plain mappings that the caller hands over, so that
nothing here looks at `sys.argv` or `os.environ` by itself.

pydantic-settings is not used: its sources read the process environment only, do not record which of them
won, and importing it takes twice as long as pydantic itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from ptycho_config.aliases import KNOWN_ELSEWHERE, LEGACY_NAMES
from ptycho_config.errors import ConfigError
from ptycho_config.models import Config
from ptycho_config.naming import (
    ENV_PREFIX,
    Part,
    Place,
    nearest,
    normalised,
    places,
    shortened,
    shown,
)
from ptycho_config.validation import Location, config_error
from ptycho_config.yamlfile import Document, flat_settings, read_yaml

__all__ = ["Loaded", "Setting", "Source", "load", "load_parts"]

Source = Literal["flag", "environment", "yaml", "default"]
ConfigT = TypeVar("ConfigT", bound=Config)
Found = dict[str, tuple[Any, str]]
"""Name of a setting -> (value as found, where it stood)."""


@dataclass(frozen=True)
class Setting:
    """A value of the configuration, and where it came from.

    Attributes:
        name: what the setting is called outside, with underscores.
        field: its place in the model, such as `model.N`.
        value: the value in force.
        source: which source won.
        origin: the flag, variable or line of a file that said so; "default" where none did.
    """

    name: str
    field: str
    value: Any
    source: Source
    origin: str


@dataclass(frozen=True)
class Loaded(Generic[ConfigT]):
    """A checked configuration whose every value knows its source.

    Attributes:
        config: the model.
        settings: field (`batch_size`, `model.N`) -> value and source, in the order of the model.
        elsewhere: known YAML keys that belong to none of the models at hand, as found.
    """

    config: ConfigT
    settings: Mapping[str, Setting]
    elsewhere: Mapping[str, Any]

    def source_of(self, field: str) -> Source:
        """Tell which source a field's value came from."""
        return self.settings[field].source

    def provenance(self) -> dict[str, dict[str, Any]]:
        """Give value and source of every field as plain JSON data, for `run.json`."""
        values = self.config.model_dump(mode="json")
        return {
            field: {"value": _at(values, field), "source": setting.source, "origin": setting.origin}
            for field, setting in self.settings.items()
        }


def load(
    config_class: type[ConfigT],
    *,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    yaml: Path | str | Mapping[str, Any] | None = None,
) -> Loaded[ConfigT]:
    """Build one model from its sources; the highest that sets a field wins.

    Args:
        flags: settings from the command line, by name in either spelling; None = no flags.
        env: environment variables, usually `os.environ`; only `PTYCHO_<NAME>` counts. None = none.
        yaml: a file, or what one holds; None = no file.

    Raises:
        ConfigError: an unknown flag or YAML key (with the nearest valid name), two values for one setting in
            one source, an unreadable file or one that needs a newer version, or a value the model refuses
            (with what it accepts and the place it came from).

    Example:
        >>> from ptycho_config import SolverConfig
        >>> loaded = load(SolverConfig, flags={"seed": "7"}, yaml={"seed": 3, "max-time": "3m"})
        >>> loaded.config.seed, loaded.source_of("seed"), loaded.source_of("max_time")
        (7, 'flag', 'yaml')
    """
    return load_parts([Part(config_class)], flags=flags, env=env, yaml=yaml)[0]


def load_parts(
    parts: Sequence[Part[Any]],
    *,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    yaml: Path | str | Mapping[str, Any] | None = None,
    also: Iterable[Part[Any]] = (),
) -> tuple[Loaded[Any], ...]:
    """Build several models from the same sources; a name that two of them share goes to both.

    Args:
        parts: the models, with the names they have in this command.
        flags, env, yaml: as for `load`.
        also: models that a YAML file may configure although this command does not use them.

    Raises:
        ConfigError: as for `load`.
    """
    known = {place.name for part in parts for place in places(part)}
    others = {place.name for part in also for place in places(part)}
    found, elsewhere = _read_yaml(yaml, [*parts, *also], known, others)
    ranked: list[tuple[Source, Found]] = [
        ("flag", _read_flags(flags or {}, known)),
        ("environment", _read_env(env or {}, known)),
        ("yaml", found),
    ]
    return tuple(_build(part, ranked, elsewhere) for part in parts)


def _read_flags(flags: Mapping[str, Any], known: set[str]) -> Found:
    found: Found = {normalised(key): (value, f"`{_flag(key)}`") for key, value in flags.items()}
    found = _translate(found, known)
    for name in found:
        if name not in known:
            guess = nearest(name, known)
            raise ConfigError(
                f"unknown flag `{shortened(_flag(name))}`"
                + (f"; did you mean `{_flag(guess)}`?" if guess else ".")
            )
    return found


def _read_env(env: Mapping[str, str], known: set[str]) -> Found:
    """Pick the variables of the settings at hand; an empty one counts as not set."""
    names = known | {alias.old for alias in LEGACY_NAMES if not known.isdisjoint(alias.new)}
    variables = {name: ENV_PREFIX + name.upper() for name in sorted(names)}
    return _translate(
        {
            name: (env[variable], f"the environment variable `{variable}`")
            for name, variable in variables.items()
            if env.get(variable, "") != ""
        },
        known,
    )


def _read_yaml(
    source: Path | str | Mapping[str, Any] | None,
    parts: Sequence[Part[Any]],
    known: set[str],
    others: set[str],
) -> tuple[Found, dict[str, Any]]:
    if source is None:
        return {}, {}
    document = Document(source) if isinstance(source, Mapping) else read_yaml(Path(source))
    found = _translate(flat_settings(document, parts), known | others)
    elsewhere: dict[str, Any] = {}
    for name in [name for name in found if name not in known]:
        value, origin = found.pop(name)
        if name not in others and name not in KNOWN_ELSEWHERE:
            guess = nearest(name, known | others | KNOWN_ELSEWHERE)
            raise ConfigError(f"{origin} is not a setting" + (f"; did you mean `{guess}`?" if guess else "."))
        elsewhere[name] = value
    return found, elsewhere


def _translate(found: Found, known: set[str]) -> Found:
    """Give older names their name of today; against a deprecated one, the name of today wins."""
    translated = dict(found)
    for alias in LEGACY_NAMES:
        targets = [name for name in alias.new if name in known]
        if alias.old in known or alias.old not in found or not targets:
            continue
        value, origin = translated.pop(alias.old)
        if alias.deprecated:
            warnings.warn(f"{origin} is deprecated; use `{alias.advice()}`", DeprecationWarning, stacklevel=4)
        if alias.value is not None:
            if not _switched_on(value, origin):
                continue
            value = alias.value
        for target in targets:
            if target in translated and not alias.deprecated:
                _require_same(*translated[target], value, origin)
            translated.setdefault(target, (value, origin))
    return translated


def _switched_on(value: object, origin: str) -> bool:
    """Read the value of a switch such as `quiet`."""
    text = str(value).lower()
    if text not in ("true", "1", "false", "0"):
        raise ConfigError(f"{origin} is {shown(value)}; expected true or false.")
    return text in ("true", "1")


def _require_same(former: object, former_origin: str, value: object, origin: str) -> None:
    if str(former).lower() != str(value).lower():
        raise ConfigError(
            f"{former_origin} and {origin} contradict each other: {shown(former)} and {shown(value)}. "
            "Remove one of the two."
        )


def _build(
    part: Part[ConfigT], ranked: Sequence[tuple[Source, Found]], elsewhere: Mapping[str, Any]
) -> Loaded[ConfigT]:
    given: dict[str, Any] = {}
    won: dict[str, tuple[Source, str]] = {}
    own = places(part)
    for place in own:
        for source, found in ranked:
            if place.name in found:
                value, origin = found[place.name]
                won[place.dotted] = (source, origin)
                _put(given, place.path, _none_for_text(value, place.info))
                break
    try:
        config = part.model_class.model_validate(given)
    except ValidationError as error:
        raise config_error(
            error,
            model_class=part.model_class,
            origin=lambda loc: _origin(loc, own, won),
            advice=lambda loc: _advice(loc, own),
        ) from error
    settings = {
        place.dotted: Setting(
            place.name, place.dotted, _value(config, place), *won.get(place.dotted, ("default", "default"))
        )
        for place in own
    }
    return Loaded(config, MappingProxyType(settings), MappingProxyType(dict(elsewhere)))


def _origin(loc: Location, own: Sequence[Place], won: Mapping[str, tuple[Source, str]]) -> str | None:
    """Say where the value at this place of a model came from; None where none was given."""
    for place in own:
        if loc[: len(place.path)] == place.path and place.dotted in won:
            return won[place.dotted][1]
    return None


def _advice(loc: Location, own: Sequence[Place]) -> str | None:
    """Name the flag that gives the value at this place."""
    return next((f"`{place.flag}`" for place in own if loc == place.path), None)


def _none_for_text(value: Any, info: FieldInfo) -> Any:
    """Read the word `none` as no value, where the setting allows that."""
    allows_none = NoneType in get_args(info.annotation)
    return None if allows_none and isinstance(value, str) and value.lower() in ("none", "null") else value


def _put(target: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for section in path[:-1]:
        target = target.setdefault(section, {})
    target[path[-1]] = value


def _value(config: Config, place: Place) -> Any:
    value: Any = config
    for name in place.path:
        value = getattr(value, name)
    return value


def _at(values: Mapping[str, Any], dotted: str) -> Any:
    node: Any = values
    for name in dotted.split("."):
        node = node[name]
    return node


def _flag(name: str) -> str:
    return "--" + normalised(name).replace("_", "-")
