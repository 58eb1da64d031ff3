"""The command that repeats a run, put together from what its `run.json` says of settings and sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ptycho_config.flags import flag_specs
from ptycho_config.naming import Part, places
from ptycho_config.plaintext import typed
from ptycho_dispatch import settings
from ptycho_dispatch.commands import inference, training, watching
from ptycho_dispatch.execution_parts import core_prefix

__all__ = ["as_typed", "reading_flags", "repeating_words"]

#: A section that only one command has -> that command.
_COMMANDS = {"training": "train", "inference": "infer", "watch": "watch", "solver": "reconstruct"}
Record = Mapping[str, Any]


def repeating_words(record: Record) -> list[str] | None:
    """Give the words that start the same run again; every choice that was made becomes a flag.

    A setting from the environment or from a YAML file becomes a flag too, so that the command stands alone.
    Settings that this version does not know are left out.

    Args:
        record: what `run.json` holds.
    Returns:
        None where the record does not say which command it was, or what was reconstructed.
    """
    sections = _mapping(record.get("settings"))
    command = next((command for section, command in _COMMANDS.items() if section in sections), None)
    if command is None:
        return None
    given = _given(record, command)
    if command in ("watch", "reconstruct") and not given:
        return None
    flags: dict[str, str] = {}  # a name that two models share is one flag
    for section, part in _parts(command, record):
        flags |= _flags(part, _mapping(sections.get(section)))
    words = ["ptycho", command, *given]
    for flag, value in flags.items():
        # A value that looks like a flag must hang on its own.
        words += [f"{flag}={value}"] if value.startswith("-") else [flag, value]
    return words


def as_typed(words: list[str]) -> str:
    """Write words as a shell reads them."""
    return typed(words)


def reading_flags(record: Record) -> dict[str, str]:
    """Give the settings that said how the scan of a run was read: name -> text, defaults left out."""
    section = _mapping(_mapping(record.get("settings")).get("run"))
    return {
        flag.removeprefix("--").replace("-", "_"): value for flag, value in _flags(settings.READING, section)
    }


def _given(record: Record, command: str) -> list[str]:
    """List what stood behind the command without a flag; older records name the file alone."""
    words = record.get("command")
    if isinstance(words, list) and words[:1] == [command] and all(isinstance(word, str) for word in words):
        return words[1:]
    if command != "reconstruct":
        return []
    known = _mapping(record.get("input"))
    name = known.get("file") or known.get("scan")
    return [name] if isinstance(name, str) else []


def _parts(command: str, record: Record) -> Iterator[tuple[str, Part[Any]]]:
    if command == "reconstruct":
        yield from zip(("run", "solver", "execution"), settings.PARTS, strict=True)
        return
    if command == "watch":
        yield from zip(("watch", "run", "solver", "execution"), watching.PARTS, strict=True)
        return
    section, parts = ("training", training.PARTS) if command == "train" else ("inference", inference.PARTS)
    chosen = _mapping(_mapping(_mapping(record.get("settings")).get(section)).get("backend")).get("value")
    prefix = core_prefix(str(record.get("backend") or chosen))
    first, *cores, last = parts
    yield section, first
    yield from (("execution", part) for part in cores if part.prefix == prefix)
    yield "run", last


def _flags(part: Part[Any], section: Record) -> Iterator[tuple[str, str]]:
    specs = {spec.dest: spec for spec in flag_specs(part)}
    for place in places(part):
        setting = _mapping(section.get(place.dotted))
        if setting.get("source", "default") == "default":
            continue
        value = _text(setting.get("value"))
        if value is None:
            if "none" not in specs[place.name].metavar:
                continue
            value = "none"
        yield place.flag, value


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    return None if value is None else str(value)


def _mapping(value: Any) -> Record:
    return value if isinstance(value, dict) else {}
