"""What a case is: files that it makes, what runs on them, and what is right."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from injection.ground import Ground

__all__ = ["CLEAN", "OUTCOMES", "Act", "Case", "Draw", "Stop", "grafted"]

CLEAN = "clean"
#: What a case may come to; the first that holds is told.
OUTCOMES = (
    CLEAN,
    "traceback",
    "hang",
    "crash by signal",
    "half-written file",
    "wrong exit code",
    "too much memory",
    "broken promise",
)
GIB = 1 << 30


@dataclass(frozen=True)
class Stop:
    """A signal that is sent while an act runs.

    Attributes:
        number: of the signal.
        after_s: seconds from the beginning of `main`, or from the fork.
        again_after_s: seconds until it is sent once more; None for once.
    """

    number: int
    after_s: float
    again_after_s: float | None = None


@dataclass(frozen=True)
class Act:
    """One command, or some lines of Python, and what is right.

    Attributes:
        words: those behind `ptycho`; text that is not UTF-8 holds surrogates.
        program: Python that is run instead; it ends with an exit code, or an exception.
        codes: exit codes that are right.
        environment: variables that are set, or taken away where None.
        process: started as a process of its own, not forked from one that has all libraries.
        stdout, stderr: `file`, `null`, `closed`, `full` (no room), or `head` (the reader leaves soon).
        patience_s: how long it may take: what it needs, and ten seconds.
        memory_bytes: the most resident memory.
        address_space_bytes: limit of the process; None for the usual one.
        file_bytes: limit on the size of files; None for the usual one.
        check: lines of Python run behind it, in its folder; an assertion that fails is a broken promise.
        told: whether a failure must be told in one line that begins with `ptycho:`.
        may_die: that the process dies of the signal of `stop` is right.
    """

    words: tuple[str, ...] = ()
    program: str = ""
    codes: frozenset[int] = frozenset({0, 3})
    environment: dict[str, str | None] = field(default_factory=dict)
    process: bool = False
    stdout: str = "file"
    stderr: str = "file"
    stop: Stop | None = None
    patience_s: float = 15.0
    memory_bytes: int = GIB
    address_space_bytes: int | None = None
    file_bytes: int | None = None
    check: str = ""
    told: bool = True
    may_die: bool = False


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        kind: its class.
        name: what is done to what; no two cases of a run share it.
        prepare: makes the files in a folder and returns what runs there, one act after the other.
        keeps_parts: an act is killed, so temporary files may stay.
    """

    kind: str
    name: str
    prepare: Callable[[Path], list[Act]]
    keeps_parts: bool = False


#: Draws one case of a class.
Draw = Callable[[random.Random, Ground], Case]


def grafted(pieces: dict[str, object], text: str) -> str:
    """Put values into lines of Python: `$name` becomes the value as it is written in Python."""
    for name, value in pieces.items():
        text = text.replace(f"${name}", repr(value))
    return text
