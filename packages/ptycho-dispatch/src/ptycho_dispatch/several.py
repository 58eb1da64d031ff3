"""Several scans in one call: where each leaves its results, what became of it, and one after the other."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_config.errors import EXIT_HANGUP, ConfigError, exit_code
from ptycho_config.plaintext import one_line
from ptycho_dispatch.log import Screen, logging_to, writable_directory
from ptycho_dispatch.settings import Settings, read_options
from ptycho_dispatch.signals import HEARING
from ptycho_dispatch.table import print_table

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Outcome",
    "Place",
    "closing_table",
    "failed",
    "finished_before",
    "interrupted",
    "look_at_all",
    "one_after_another",
    "places_of",
]

logger = logging.getLogger("ptycho")
_LONGEST_CELL = 100


@dataclass(frozen=True)
class Place:
    """A scan and the directory of its results."""

    source: str
    directory: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a scan: a row of the closing table, and an exit code."""

    said: str
    detail: str = ""
    code: int = 0


Reconstruct = Callable[[Place, Screen, "np.ndarray | None"], "tuple[int, np.ndarray]"]


def places_of(sources: Sequence[str], root: Path, *, start: Path | None) -> list[Place]:
    """Give each scan its directory: the output directory itself, or one in it where there are several.

    Raises:
        ConfigError: one result cannot start several scans.
    """
    if len(sources) == 1:
        return [Place(sources[0], root)]
    if start is not None:
        raise ConfigError(
            f"`--start` goes on with one scan, and {len(sources)} were given. Give one scan, or leave it "
            "out: each scan starts from the probe of the one before it."
        )
    places: list[Place] = []
    for source in sources:
        name = Path(source).name.split(".")[0] or "scan"
        names = [place.directory.name for place in places]
        taken = sum(one == name or one.startswith(f"{name}-") for one in names)
        places.append(Place(source, root / (name if not taken else f"{name}-{taken + 1}")))
    return places


def look_at_all(places: Sequence[Place], settings: Settings) -> list[int | Exception]:
    """Look at every input without reading its frames: how many pixels they have, or why it is no scan."""
    from ptycho_core.io.opening import read_raw_scan

    found: list[int | Exception] = []
    with logging_to(None, settings.run.config.console_level):
        for place in places:
            try:
                raw = read_raw_scan(place.source, read_options(settings.run.config))
            except Exception as error:  # it is told, and kept for the table
                found.append(error)
                logger.error("%s cannot be opened and will be left out; the others go on.", place.source)
            else:
                found.append(math.prod(raw.frames.shape))
    return found


def finished_before(place: Place) -> bool:
    """Whether a run before this one has finished the scan, so that `--resume` has nothing to do for it."""
    from ptycho_core.result.reconstruction import RECONSTRUCTION_FILE, RUN_FILE
    from ptycho_core.result.stored_tiles import holds_tiles

    if holds_tiles(place.directory):
        return False
    try:
        record = json.loads((place.directory / RUN_FILE).read_text(encoding="utf-8"))
        result, written = place.directory / RECONSTRUCTION_FILE, place.directory / RUN_FILE
        # A checkpoint of a later run is newer than what an earlier one has told at its end.
        return record["interrupted"] is False and result.stat().st_mtime_ns <= written.stat().st_mtime_ns
    except (OSError, ValueError, KeyError, TypeError):
        return False


def failed(place: Place, error: Exception, level: str) -> Outcome:
    """Tell why a scan came to nothing."""
    text = one_line(str(error)) or type(error).__name__
    with logging_to(None, level):
        logger.error("%s: %s", place.source, text)
    short = text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + " ..."
    return Outcome("failed", short, exit_code(error))


def interrupted(error: KeyboardInterrupt) -> Outcome:
    """Tell that a scan was broken off before there was an image."""
    HEARING.was_told()
    return Outcome("interrupted", "", HEARING.exit_code or exit_code(error))


def done(place: Place, code: int, seconds: float, where: str = "") -> Outcome:
    """Tell that there is an image, whole or as far as it got."""
    said = "interrupted" if code >= EXIT_HANGUP else f"done in {seconds:.1f} s{where}"
    return Outcome(said, f"{place.directory}/", code)


def one_after_another(places: list[Place], settings: Settings, reconstruct: Reconstruct) -> int:
    """Reconstruct several scans in this process; one that fails does not stop the others.

    All inputs are looked at before the first is worked on. A table closes the call; the exit code is that of
    the worst.
    """
    run = settings.run.config
    looked = look_at_all(places, settings)
    outcomes: dict[int, Outcome] = {}
    probe = None
    for number, (place, found) in enumerate(zip(places, looked, strict=True)):
        if run.resume and finished_before(place):
            outcomes[number] = Outcome("done before", f"{place.directory}/")
            continue
        began = time.perf_counter()
        try:
            if isinstance(found, Exception):
                raise found
            with logging_to(writable_directory(place.directory), run.console_level) as screen:
                code, found_probe = reconstruct(place, screen, probe)
        except KeyboardInterrupt as caught:
            outcomes[number] = interrupted(caught)
            break
        except Exception as caught:  # whatever it is, the scans behind it are not to blame
            outcomes[number] = failed(place, caught, run.console_level)
            continue
        outcomes[number] = done(place, code, time.perf_counter() - began)
        probe = None if run.share_probe is False else found_probe
        if code >= EXIT_HANGUP:
            break
    return closing_table(places, outcomes)


def closing_table(places: Sequence[Place], outcomes: dict[int, Outcome]) -> int:
    """Print what became of every scan; the exit code, which is that of the worst."""
    not_begun = Outcome("not begun")
    every: list[tuple[Place, Any]] = [
        (place, outcomes.get(number, not_begun)) for number, place in enumerate(places)
    ]
    rows = [(place.source, outcome.said, outcome.detail) for place, outcome in every]
    print_table("", ("scan", "outcome", "result or reason"), rows)
    return max((outcome.code for _, outcome in every), default=0)
