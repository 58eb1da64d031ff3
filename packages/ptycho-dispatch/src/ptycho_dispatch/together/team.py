"""The tasks of a launcher as one command: they meet, are told alike, and end together.

Rank 0 alone speaks to the screen. What the others say, it says for them; what fails on one of them, ends all
with one line that names the rank.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ptycho_config.errors import ConfigError, exit_code
from ptycho_config.launcher import Launch
from ptycho_config.plaintext import one_line
from ptycho_core.ranks import MpiRanks, Ranks, open_ranks
from ptycho_core.result.provenance import versions
from ptycho_dispatch.failures import explained
from ptycho_dispatch.screen import tell
from ptycho_dispatch.settings import Settings
from ptycho_dispatch.signals import HEARING
from ptycho_dispatch.together.line import Line, open_line
from ptycho_dispatch.together.shares import described_host, divide_gpus, threads_each

__all__ = ["Team", "work_together"]


@dataclass(frozen=True)
class Team:
    """This process and the others.

    Attributes:
        ranks: for what all do together, in the same order.
        line: for what cannot wait for that.
        threads: on this host for each rank; None where the launcher gave each its own cores.
        warnings: what rank 0 has to say before work begins.
    """

    ranks: Ranks
    line: Line
    threads: int | None = None
    warnings: tuple[str, ...] = ()

    def agreed(self, read: Callable[[], Settings]) -> Settings:
        """Read the settings, which must be the same on all ranks.

        Raises:
            ConfigError: they are wrong, or differ; names the rank.
        """
        settings = self.ranks.one(read)
        values = _values(settings)
        first = self.ranks.from_first(values)
        differ = [name for name in first.keys() | values.keys() if first.get(name) != values.get(name)]
        name = min(differ, default="")

        def compare() -> None:
            if differ:
                raise ConfigError(
                    f"`{name}` is {values.get(name)!r} there and {first.get(name)!r} on rank 0. Give all "
                    "tasks the same environment and the same files."
                )

        self.ranks.one(compare)
        return settings


def _values(settings: Settings) -> dict[str, Any]:
    return {
        f"{part}.{name}": json.loads(json.dumps(one["value"]))
        for part, every in settings.provenance().items()
        for name, one in every.items()
    }


def work_together(launch: Launch, words: Sequence[str], work: Callable[[Team], int]) -> int:
    """Meet the other tasks, do the work of a command with them, and end with them.

    Args:
        words: behind `ptycho`.
        work: the command; called on every rank.
    Returns:
        The exit code, which is that of rank 0 on all of them: launchers do not agree on which they take, and
        Hydra, of MPICH, takes one by chance where ranks end at the same moment.
    Raises:
        What failed, on rank 0; BackendUnavailableError and ConfigError where the tasks cannot meet.
    """
    if launch.rank == 0:
        return _first(launch, words, work)
    HEARING.was_told()  # rank 0 answers whoever asks all of them to stop
    screen = _Relay()
    sys.stdout, sys.stderr = io.StringIO(), screen
    return _other(launch, words, work, screen)


def _first(launch: Launch, words: Sequence[str], work: Callable[[Team], int]) -> int:
    ranks = open_ranks(launch)
    line: Line | None = None
    try:
        _compare(ranks, words)
        line = open_line(ranks)
        line.said = lambda rank, text: tell(f"rank {rank}: {text}")
        team = _team(ranks, line)
        code = work(team)
    except BaseException as error:
        _, code = _explained(error)
        if error is ranks.failure or isinstance(error, SystemExit):
            _part(ranks, line, code)
        else:
            HEARING.leave_at_once()  # the others are gone: whatever waits for them at the end waits for ever
            if line is not None:
                line.end_others(code)
        raise
    return _part(ranks, line, code)


def _other(launch: Launch, words: Sequence[str], work: Callable[[Team], int], screen: _Relay) -> int:
    line: Line | None = None
    ranks: MpiRanks | None = None
    try:
        ranks = open_ranks(launch)
        _compare(ranks, words)
        line = open_line(ranks)
        screen.join(line)
        code = work(_team(ranks, line))
    except BaseException as error:
        text, code = _explained(error)
        if ranks is not None and (error is ranks.failure or isinstance(error, SystemExit)):
            return _part(ranks, line, code)
        HEARING.leave_at_once()
        if line is not None:
            line.fail(code, text)
        elif launch.local_rank == 0:  # once on each host, where the same may be missing
            HEARING.last_words(f"rank {launch.rank} ({_host()}): {one_line(text)}")
        HEARING.was_told()
        return code
    return _part(ranks, line, code)


def _explained(error: BaseException) -> tuple[str, int]:
    """Return what is said of an error, and the exit code."""
    if isinstance(error, Exception):
        return explained(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", HEARING.exit_code or exit_code(error)
    return "", exit_code(error)


def _part(ranks: MpiRanks, line: Line | None, code: int) -> int:
    """Part from the others; the code of rank 0, where it could tell it."""
    code = code if line is None else line.leave(code)
    ranks.close()
    return code


def _host() -> str:
    import socket

    return socket.gethostname()


def _compare(ranks: Ranks, words: Sequence[str]) -> None:
    """Refuse ranks that are not the same program, before anything is read or written.

    Raises:
        ConfigError: names the rank, and what differs.
    """
    told = ranks.from_first({"words": list(words), "versions": versions()})

    def compare() -> None:
        if told["words"] != list(words):
            raise ConfigError(
                "it was started with other words than rank 0. Start all tasks with the same command."
            )
        mine, first = versions(), told["versions"]
        for name in sorted(mine.keys() | first.keys()):
            if mine.get(name) != first.get(name):
                raise ConfigError(
                    f"{name} is {mine.get(name, 'absent')} there and {first.get(name, 'absent')} on rank 0. "
                    "Install the same versions on all hosts."
                )

    ranks.one(compare)


def _team(ranks: Ranks, line: Line) -> Team:
    """Divide what the ranks of a host have in common."""
    everyone = ranks.everyone([ranks.host, described_host()])
    here = [rank for rank, (host, _) in enumerate(everyone) if host == ranks.host]
    hosts = [everyone[rank][1] for rank in here]
    warned = ranks.everyone(divide_gpus(hosts, here.index(ranks.rank)))
    said = {host: text for (host, _), text in zip(everyone, warned, strict=True) if text}
    return Team(ranks, line, threads_each(hosts), tuple(f"{host}: {text}" for host, text in said.items()))


class _Relay(io.TextIOBase):
    """The screen of a rank that is not the first: rank 0 shows its lines.

    What is said before there is a line to rank 0 is kept until then.
    """

    encoding = "utf-8"  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    def __init__(self) -> None:
        super().__init__()
        self._line: Line | None = None
        self._kept: list[str] = []
        self._rest = ""

    def join(self, line: Line) -> None:
        """Say from now on what is written, and what was."""
        self._line = line
        for text in self._kept:
            line.say(text)
        self._kept.clear()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for one in lines:
            if self._line is None:
                self._kept.append(one)
            elif one:
                self._line.say(one)
        return len(text)
