"""Reads what a finished run left of itself: its `run.json`, checked for what a judgement needs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptycho_config.errors import DataError

__all__ = ["RunRecord", "read_record", "read_run"]

_FILE = "run.json"
_KINDS = ("training", "inference", "solver")
#: What a run writes is seven levels deep.
_DEEPEST = 30
_DIGITS = 19
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RunRecord:
    """A run as it describes itself.

    Attributes:
        kind: `training`, `inference` or `solver`: which settings it has.
        settings: by what they are about, then by field: `value`, `source` and `origin`.
        execution: what was asked for and what ran, in the form of its kind.
        network: what is recorded of a network that a reconstruction trained on the way; None without one.
        policy_events: each with `finding` and `message`.
        everything: the whole file.
    """

    directory: Path
    kind: str
    settings: Mapping[str, Settings]
    execution: Mapping[str, Any]
    network: Mapping[str, Any] | None
    policy_events: tuple[Mapping[str, Any], ...]
    everything: Mapping[str, Any]

    def value(self, section: str, field: str) -> Any:
        """Give the value of a setting; None where the run has no such setting."""
        return self.settings.get(section, {}).get(field, {}).get("value")

    def source(self, section: str, field: str) -> str | None:
        """Tell which source a setting came from; None where the run has no such setting."""
        return self.settings.get(section, {}).get(field, {}).get("source")


def read_run(path: Path) -> RunRecord:
    """Read the `run.json` of a directory, or the file itself.

    Raises:
        DataError: it is absent, damaged, or lacks what later judgement needs; names it.
    """
    file, record = read_record(path)
    settings = _object(file, record, "settings")
    for section, fields in settings.items():
        for field, setting in _object(file, settings, section).items():
            if not isinstance(setting, dict) or not {"value", "source"} <= setting.keys():
                raise _lacking(file, f"settings.{section}.{field}", "a value with its source")
        settings[section] = fields
    kind = next((kind for kind in _KINDS if kind in settings), None)
    if kind is None:
        raise _lacking(file, "settings", f"one of {', '.join(_KINDS)} in it")
    network = record.get("network")
    if network is not None:
        _object(file, network if isinstance(network, dict) else record, "execution")
    trained_alone = kind == "solver" and network is not None and "execution" not in record
    return RunRecord(
        directory=file.parent,
        kind=kind,
        settings=settings,
        execution={} if trained_alone else _object(file, record, "execution"),
        network=network,
        policy_events=_events(file, record),
        everything=record,
    )


def read_record(path: Path) -> tuple[Path, dict[str, Any]]:
    """Read the `run.json` of a directory, or the file itself, as it stands.

    Returns:
        The file and what it holds.
    Raises:
        DataError: it is absent, or holds no JSON object.
    """
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"{path}: there is no {_FILE}. Expected the output directory of `ptycho train`, `infer` or "
            "`reconstruct`."
        )
    try:
        record = json.loads(
            file.read_text(encoding="utf-8"),
            parse_int=lambda digits: int(_number(digits)),
            parse_float=_number,
            parse_constant=lambda word: None,  # other programs write NaN, for which JSON has no word
        )
        _check_depth(record)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{file}: damaged, it cannot be read as JSON ({error}). Run the command again."
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{file}: holds {type(record).__name__}. Expected an object; run the command again.")
    return file, record


def _number(digits: str) -> float | int:
    """Return a number that others can calculate with.

    Raises:
        ValueError: it is beyond what a machine can hold.
    """
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number in it is too large")
    return int(digits) if len(digits) < _DIGITS and digits.lstrip("-").isdigit() else value


def _check_depth(record: object) -> None:
    """Refuse lists of lists of lists, which no run writes.

    Raises:
        ValueError: they are deeper than `_DEEPEST`.
    """
    level: list[Any] = [record]
    for _ in range(_DEEPEST):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    if level:
        raise ValueError("its values are nested too deeply")


def _events(file: Path, record: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    events = record.get("policy_events", [])
    if not isinstance(events, list) or not all(isinstance(one, dict) and "finding" in one for one in events):
        raise _lacking(file, "policy_events", "a list of events with their findings")
    return tuple(events)


def _object(file: Path, record: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = record.get(key)
    if not isinstance(found, dict):
        raise _lacking(file, key, "an object")
    return found


def _lacking(file: Path, place: str, expected: str) -> DataError:
    return DataError(
        f"{file}: `{place}` is missing or damaged. Expected {expected}, as this version writes it; "
        "run the command again."
    )
