"""Reads a YAML configuration file into flat settings: name -> value and the line where it stood.

A file holds flat keys (`N: 128`), sections (`model: {N: 128}`, `torch: {accelerator: cpu}`), or both; the
same setting with two values is an error. It is plain data: no tags, and no alias to more than a single value,
so that a file cannot contain itself nor grow when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from ptycho_config.errors import ConfigError
from ptycho_config.naming import Part, normalised, places, shortened, shown
from ptycho_config.regular import open_regular

__all__ = ["CONFIG_VERSION", "Document", "flat_settings", "read_yaml"]

CONFIG_VERSION = "0.2"
"""A file that needs a newer ptycho-config names the oldest that reads it: `config_version: 0.3`."""

_VERSION_KEY = "config_version"
_LARGEST_FILE = 1 << 16
"""Bytes; a configuration has a few thousand, a scan given by mistake has millions."""


@dataclass(frozen=True)
class Document:
    """What a configuration holds, and where each setting stands.

    Attributes:
        data: the settings; those of a section are a mapping of their own.
        label: name of the file, for messages.
        lines: path of a key, such as `("model", "N")`, -> its line; empty where there is no file.
    """

    data: Mapping[str, Any]
    label: str = "the configuration"
    lines: Mapping[tuple[str, ...], int] | None = None

    def origin(self, *path: str) -> str:
        """Say where a setting stands: "`model.N` in run.yaml, line 3"."""
        line = (self.lines or {}).get(path)
        where = self.label if line is None else f"{self.label}, line {line}"
        return f"`{shortened('.'.join(path))}` in {where}"


class _Loader(yaml.SafeLoader):
    """Builds plain data and no objects, with names as text."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = cast(Any, self).peek_event()  # PyYAML's types leave events open
        tag: str | None = getattr(event, "tag", None)
        if tag is not None:
            tag = shortened(tag.replace("tag:yaml.org,2002:", "!!"))
            raise _refused(event, f"`{tag}` is a tag; expected plain values")
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent) and not isinstance(node, yaml.ScalarNode):
            name = shortened(str(event.anchor))
            raise _refused(event, f"`*{name}` repeats a section or a list; write it out")
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return cast(Any, super()).construct_object(node, deep)
        except ConfigError:
            raise
        except ValueError:
            # Digits without end, `0b_`: numbers by the pattern of YAML, and yet none.
            raise _refused(node, f"{shown(node.value)} is no number") from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused(key_node, "a list or a section is no name; expected `name: value`")
            key = str(key_node.value)
            if key_node.tag.endswith(":merge"):
                raise _refused(key_node, f"`{key}` merges another section; write it out")
            if key in mapping:
                raise _refused(key_node, f"`{shortened(key)}` stands there twice; remove one of the two")
            mapping[key] = self.construct_object(value_node)
        return mapping


# A date is text here: `output_dir: 2026-10-01`.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> Document:
    """Read a file whose top level is a mapping.

    Raises:
        ConfigError: the file is missing, unreadable, no plain YAML, or holds something else than settings;
            with the line, where it is in one.
    """
    label = _short_path(path)
    root, data = _parse(_read_text(path, label), label)
    if root is None:
        return Document({})
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"configuration file {label} holds a {type(data).__name__}; "
            "expected settings, one `name: value` per line."
        )
    version = {key.value: value.value for key, value in root.value if key.value == _VERSION_KEY}
    return Document({**data, **version}, label, _lines(root))


def flat_settings(document: Document, parts: Iterable[Part[Any]]) -> dict[str, tuple[Any, str]]:
    """Bring sections and spellings of a document to the flat names of the settings.

    Args:
        document: what was read.
        parts: the models whose sections may occur.

    Returns:
        Name -> (value, where it stood, such as "`model.N` in run.yaml, line 3").

    Raises:
        ConfigError: a section is no mapping, one setting has two values, or the file needs a newer version.
    """
    document = _of_this_version(document)
    sections = _sections(parts)
    flat: dict[str, tuple[Any, str]] = {}
    for raw, value in document.data.items():
        key = normalised(str(raw))
        if key not in sections:
            _put(flat, key, value, document.origin(str(raw)))
            continue
        if not _is_section(value):
            raise ConfigError(
                f"{document.origin(str(raw))} is {shown(value)}; "
                f"expected a section such as `{raw}: {{name: value}}`."
            )
        for inner_raw, inner in value.items():
            name = normalised(str(inner_raw))
            origin = document.origin(str(raw), str(inner_raw))
            _put(flat, sections[key].get(name, f"{key}.{name}"), inner, origin)
    return flat


def _read_text(path: Path, label: str) -> str:
    try:
        with open_regular(path) as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise ConfigError(
                f"configuration file {label} has more than {_LARGEST_FILE >> 10} KiB; "
                "expected a few lines of `name: value`. Is it a scan?"
            )
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"configuration file {label} does not exist.") from None
    except OSError as error:
        raise ConfigError(f"configuration file {label} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"configuration file {label}, line {line}: cannot be read, it is not UTF-8 text."
        ) from None


def _parse(text: str, label: str) -> tuple[Any, Any]:
    """Read YAML into its nodes, which know their lines, and its data."""
    try:
        # `_Loader` is a SafeLoader: it builds plain data and no objects.
        loader: Any = _Loader(text)
        root: Any = loader.get_single_node()
        return root, None if root is None else loader.construct_document(root)
    except ConfigError as error:
        raise ConfigError(f"configuration file {label}, {error}") from None
    except RecursionError:
        raise ConfigError(f"configuration file {label} is nested too deeply; expected settings.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration file {label} is not YAML: {_one_line(error)}.") from error


def _of_this_version(document: Document) -> Document:
    """Refuse what needs a newer version than this one; leave the key that says so out."""
    if _VERSION_KEY not in document.data:
        return document
    found = str(document.data[_VERSION_KEY])
    origin = document.origin(_VERSION_KEY)
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6}){0,3}", found):
        raise ConfigError(f"{origin} is {shown(found)}; expected a version such as {CONFIG_VERSION}.")
    if _ordered(found) > _ordered(CONFIG_VERSION):
        raise ConfigError(
            f"{origin} is {found}: ptycho-config {found} or later reads it, and this one reads up to "
            f"{CONFIG_VERSION}. Type `pip install --upgrade 'ptycho-config>={found}'`."
        )
    rest = {key: value for key, value in document.data.items() if key != _VERSION_KEY}
    return Document(rest, document.label, document.lines)


def _ordered(version: str) -> tuple[int, ...]:
    """Make versions comparable: 0.1 and 0.1.0 are the same."""
    numbers = [int(number) for number in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _lines(root: yaml.MappingNode) -> dict[tuple[str, ...], int]:
    """List the line of every key, those inside sections included."""
    lines: dict[tuple[str, ...], int] = {}
    for key, value in root.value:
        lines[(key.value,)] = key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            for inner, _ in value.value:
                lines[(key.value, inner.value)] = inner.start_mark.line + 1
    return lines


def _sections(parts: Iterable[Part[Any]]) -> dict[str, dict[str, str]]:
    """List the sections a file may have: section -> field -> flat name of the setting."""
    sections: dict[str, dict[str, str]] = {}
    for part in parts:
        for place in places(part):
            *section, field = place.path
            name = section[0] if section else part.prefix.removesuffix("_")
            if name:
                sections.setdefault(name, {})[field] = place.name
    return sections


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping)


def _put(flat: dict[str, tuple[Any, str]], name: str, value: Any, origin: str) -> None:
    if name in flat and flat[name][0] != value:
        former, former_origin = flat[name]
        raise ConfigError(
            f"{former_origin} is {shown(former)}, but {origin} is {shown(value)}; "
            "expected one value for both. Remove one of the two."
        )
    flat.setdefault(name, (value, origin))


def _refused(place: yaml.Node | yaml.Event, text: str) -> ConfigError:
    """Make the error for something that stands in one line of a file; `read_yaml` puts the file before it."""
    return ConfigError(f"line {place.start_mark.line + 1}: {text}.")


def _one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {shortened(' '.join(str(error.problem).split()))}"
    return " ".join(str(error).split())


def _short_path(path: Path) -> str:
    """Name a file in a message; of a very long path the end."""
    text = str(path)
    return text if len(text) <= 120 else f"...{text[-117:]}"
