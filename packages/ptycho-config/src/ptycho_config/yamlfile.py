"""Reads a YAML configuration file into flat settings: name -> value and where it stood.

A file holds flat keys (`N: 128`), sections (`model: {N: 128}`, `torch: {accelerator: cpu}`), or both; the
same setting with two values is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from ptycho_config.errors import ConfigError
from ptycho_config.naming import Part, normalised, places

__all__ = ["flat_settings", "read_yaml"]


class _Loader(yaml.SafeLoader):
    """Plain data only, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise ConfigError(f"line {key_node.start_mark.line + 1}: `{key}` stands there twice.")
            seen.add(key)
        return cast("dict[Any, Any]", super().construct_mapping(node, deep))


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Read a file whose top level is a mapping.

    Raises:
        ConfigError: the file is missing, unreadable, no YAML, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error}.") from error
    try:
        # `_Loader` is a SafeLoader: it builds plain data and no objects.
        data: Any = yaml.load(text, Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"configuration file {path}, {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration file {path} is not YAML: {_one_line(error)}.") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"configuration file {path} holds a {type(cast('object', data)).__name__}; "
            "expected settings, one `name: value` per line."
        )
    return cast("dict[str, Any]", data)


def flat_settings(
    data: Mapping[str, Any], parts: Iterable[Part[Any]], label: str
) -> dict[str, tuple[Any, str]]:
    """Bring sections and spellings of a YAML mapping to the flat names of the settings.

    Args:
        data: top level of the file.
        parts: the models whose sections may occur.
        label: name of the file, for messages.

    Returns:
        Name -> (value, where it stood, such as "`model.N` in run.yaml").

    Raises:
        ConfigError: a section is no mapping, or one setting has two values.
    """
    sections = _sections(parts)
    flat: dict[str, tuple[Any, str]] = {}
    for raw, value in data.items():
        key = normalised(str(raw))
        if key not in sections:
            _put(flat, key, value, f"`{raw}` in {label}")
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"`{raw}` in {label} is {value!r}; expected a section such as `{raw}: {{name: value}}`."
            )
        for inner_raw, inner in cast("Mapping[Any, Any]", value).items():
            name = normalised(str(inner_raw))
            origin = f"`{raw}.{inner_raw}` in {label}"
            _put(flat, sections[key].get(name, f"{key}.{name}"), inner, origin)
    return flat


def _sections(parts: Iterable[Part[Any]]) -> dict[str, dict[str, str]]:
    """List the sections a file may have: section -> field -> flat name of the setting."""
    sections: dict[str, dict[str, str]] = {}
    for part in parts:
        for place in places(part):
            *section, field = place.path
            name = section[0] if section else part.prefix.rstrip("_")
            if name:
                sections.setdefault(name, {})[field] = place.name
    return sections


def _put(flat: dict[str, tuple[Any, str]], name: str, value: Any, origin: str) -> None:
    if name in flat and flat[name][0] != value:
        former, former_origin = flat[name]
        raise ConfigError(
            f"{former_origin} is {former!r}, but {origin} is {value!r}; expected one value for both. "
            "Remove one of the two."
        )
    flat.setdefault(name, (value, origin))


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
