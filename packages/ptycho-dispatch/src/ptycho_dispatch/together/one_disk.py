"""Whether all ranks of a job see the same files, asked before work begins."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from ptycho_config.errors import DataError, OutputError
from ptycho_core.ranks import Ranks
from ptycho_dispatch.log import writable_directory
from ptycho_dispatch.several import Place

__all__ = ["require_one_disk", "require_same_inputs"]

#: A file that another host has just written may be seen so much later on a network's disk.
_SEEN_WITHIN_S = 5.0


def require_one_disk(ranks: Ranks, root: Path) -> None:
    """Refuse an output directory that rank 0 alone sees.

    Raises:
        OutputError: names the rank.
    """
    mark: Path | None = None

    def leave() -> None:
        nonlocal mark
        if ranks.is_first:
            made = writable_directory(root) / f".ptycho-{secrets.token_hex(8)}"
            made.touch()
            mark = made

    ranks.one(leave)
    try:
        name = ranks.from_first("" if mark is None else mark.name)
        ranks.one(lambda: _require_seen(root / name))
    finally:
        if mark is not None:
            mark.unlink(missing_ok=True)


def _require_seen(mark: Path) -> None:
    end_s = time.monotonic() + _SEEN_WITHIN_S
    while not mark.exists():
        if time.monotonic() > end_s:
            raise OutputError(
                f"{mark.parent} is not the directory that rank 0 sees. Choose one that all hosts share with "
                "`--output-dir`."
            )
        with contextlib.suppress(OSError):
            any(mark.parent.iterdir())  # what a network's disk remembers of the directory is asked for anew
        time.sleep(0.05)


def require_same_inputs(ranks: Ranks, places: Sequence[Place]) -> None:
    """Refuse files that differ from host to host; those that no rank can open are told later.

    Raises:
        DataError: names the rank and the file.
    """
    mine = [_size(place.source) for place in places]
    first = ranks.from_first(mine)

    def compare() -> None:
        for place, here, there in zip(places, mine, first, strict=True):
            if here != there:
                what = "is not there" if here is None else f"has {here} bytes, and not {there} as on rank 0"
                raise DataError(f"{place.source} {what}. Put it where all hosts see it.")

    ranks.one(compare)


def _size(source: str) -> int | None:
    """Return the size of a file in bytes; None where it is none, as the name of a data set."""
    from ptycho_core.files import expanded

    try:
        path = expanded(source)
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None
