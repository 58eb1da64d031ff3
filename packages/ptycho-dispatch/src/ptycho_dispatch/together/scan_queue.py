"""Many scans over several ranks: each takes the next one when it is free, the largest first.

Every rank opens, reconstructs and writes its scan by itself, into the directory of that scan; frames and
images of a scan do not travel. Rank 0 deals out, takes a scan itself whenever it is free, and tells.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

from ptycho_config.errors import EXIT_HANGUP
from ptycho_config.plaintext import plain
from ptycho_dispatch.interrupt import Interruptible
from ptycho_dispatch.log import logging_to, writable_directory
from ptycho_dispatch.settings import Settings
from ptycho_dispatch.several import (
    Outcome,
    Place,
    Reconstruct,
    closing_table,
    done,
    failed,
    finished_before,
    interrupted,
    look_at_all,
)
from ptycho_dispatch.signals import HEARING
from ptycho_dispatch.together.one_disk import require_one_disk, require_same_inputs

if TYPE_CHECKING:
    import numpy as np

    from ptycho_dispatch.together.team import Team

__all__ = ["ScanQueue", "over_ranks"]

logger = logging.getLogger("ptycho")


class ScanQueue:
    """The scans that are still to be done, and what became of the others.

    Args:
        sizes: scan -> how much work it is, in any unit; only those that can be worked on.
        sharing: whether a scan starts from the probe of one that is done.
    """

    def __init__(self, sizes: dict[int, int], *, sharing: bool = False) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self.stopped = False
        self._waiting = sorted(sizes, key=lambda number: (-sizes[number], number))
        self._count = len(sizes)
        self._sharing = sharing
        self._imaged: list[int] = []
        self._at_work: dict[int, tuple[int, float]] = {}
        self.busy_s: dict[int, float] = {}

    def next(self, rank: int) -> list[int | None] | None:
        """Return a scan for a rank that is free, and one whose probe starts it; None where none is left."""
        if self.stopped or not self._waiting:
            return None
        number = self._waiting.pop(0)
        self._at_work[rank] = number, time.monotonic()
        neighbour = min(self._imaged, key=lambda one: (abs(one - number), one), default=None)
        return [number, neighbour if self._sharing else None]

    def finish(self, rank: int, outcome: Outcome) -> int:
        """Note what became of the scan of a rank; which one that was."""
        number, began = self._at_work.pop(rank)
        self.busy_s[rank] = self.busy_s.get(rank, 0.0) + time.monotonic() - began
        self.outcomes[number] = outcome
        if outcome.code >= EXIT_HANGUP:
            self.stopped = True
        elif outcome.said.startswith("done"):
            self._imaged.append(number)
        return number

    def progress(self) -> str:
        """Say how far it is."""
        done = self._count - len(self._waiting) - len(self._at_work)
        return f"{done} of {self._count}, {len(self._at_work)} at work"


def over_ranks(team: Team, places: list[Place], settings: Settings, reconstruct: Reconstruct) -> int:
    """Reconstruct scans over all ranks; one that fails does not stop the others.

    Returns:
        On rank 0 the exit code of the worst, behind a table of all; that of the others counts for nothing.
    """
    ranks, run = team.ranks, settings.run.config
    root = places[0].directory if len(places) == 1 else places[0].directory.parent
    require_one_disk(ranks, root)
    looked: list[int | Exception] = []
    if ranks.is_first:
        looked = look_at_all(places, settings)
    require_same_inputs(ranks, places)
    worker = _Worker(team, places, settings, reconstruct)
    if not ranks.is_first:
        worker.run()
        return 0

    before = {number for number, place in enumerate(places) if run.resume and finished_before(place)}
    sizes = {n: one for n, one in enumerate(looked) if not isinstance(one, Exception) and n not in before}
    scans = ScanQueue(sizes, sharing=bool(run.share_probe))
    for number, one in enumerate(looked):
        if isinstance(one, Exception):
            scans.outcomes[number] = failed(places[number], one, run.console_level)
        elif number in before:
            scans.outcomes[number] = Outcome("done before", f"{places[number].directory}/")
    dealer = _Dealer(scans, places, run.console_level, sys.stdout)
    idle = ranks.count - len(sizes)
    dealer.tell(logging.INFO, "%d scans over %d ranks, the largest first.", len(sizes), ranks.count)
    if idle > 0 and sizes:
        dealer.tell(
            logging.WARNING,
            "%d ranks and %d scan%s to do: %d rank%s nothing to do.",
            *(ranks.count, len(sizes), "s" * (len(sizes) != 1), idle, " has" if idle == 1 else "s have"),
        )
    began = time.monotonic()
    team.line.answer_by(dealer.answer)
    worker.run()
    dealer.wait_for_all(ranks.count)
    dealer.tell_balance(time.monotonic() - began, ranks.count)
    return closing_table(places, scans.outcomes)


class _Dealer:
    """Answers the ranks on rank 0, and tells what they have done."""

    def __init__(self, scans: ScanQueue, places: list[Place], level: str, screen: TextIO) -> None:
        self._scans, self._places, self._screen = scans, places, screen
        self._level = logging.getLevelName(level)
        self._gone: set[int] = set()
        self._all_gone = threading.Condition()

    def answer(self, rank: int, question: Any) -> list[int | None] | None:
        """Take what became of a rank's last scan, and give it the next one.

        Args:
            question: text of the report and outcome of the last scan, or None before the first.
        """
        if question is not None:
            report, *outcome = question
            number = self._scans.finish(rank, Outcome(*outcome))
            if report:
                print(report, end="", file=self._screen, flush=True)
            said = self._scans.outcomes[number].said
            self.tell(logging.INFO, "%s: %s (%s).", self._places[number].source, said, self._scans.progress())
        if HEARING.request.first is not None:
            self._scans.stopped = True
        task = self._scans.next(rank)
        if task is None:
            with self._all_gone:
                self._gone.add(rank)
                self._all_gone.notify_all()
        return task

    def tell(self, level: int, text: str, *values: Any) -> None:
        """Write a line to the screen; not by way of the log, which belongs to this rank's own scan."""
        if level >= self._level:
            line = f"{logging.getLevelName(level)} {text % values}"
            print(plain(line), file=sys.stderr, flush=True)

    def wait_for_all(self, count: int) -> None:
        """Wait until no rank is at work any more; a request to stop is theirs to obey."""
        with Interruptible(), self._all_gone:
            self._all_gone.wait_for(lambda: len(self._gone) == count)

    def tell_balance(self, seconds: float, count: int) -> None:
        """Say how evenly the ranks were at work."""
        busy = [self._scans.busy_s.get(rank, 0.0) / max(seconds, 1e-9) for rank in range(count)]
        least = min(range(count), key=busy.__getitem__)
        self.tell(
            logging.INFO,
            "%.1f s; the ranks were at work %.0f %% of it, the least busy (rank %d) %.0f %%.",
            *(seconds, 100 * sum(busy) / count, least, 100 * busy[least]),
        )


class _Worker:
    """Does scans on one rank until there are none left."""

    def __init__(self, team: Team, places: list[Place], settings: Settings, reconstruct: Reconstruct) -> None:
        self._team, self._places, self._settings, self._reconstruct = team, places, settings, reconstruct
        level = settings.run.config.console_level
        # What goes on within a scan is for its own log; side by side on one screen nobody could read it.
        self._level = level if logging.getLevelName(level) >= logging.WARNING else "WARNING"

    def run(self) -> None:
        """Ask for a scan, do it, tell, and ask again."""
        told: list[Any] | None = None
        while (task := self._team.line.ask(told)) is not None:
            told = self._done(*task)

    def _done(self, number: int, neighbour: int | None) -> list[Any]:
        """Do a scan; report, and what became of it."""
        place, began = self._places[number], time.perf_counter()
        report = io.StringIO()
        try:
            directory = writable_directory(place.directory)
            probe = None if neighbour is None else _probe_of(self._places[neighbour])
            with (
                contextlib.redirect_stdout(report),
                logging_to(directory, self._level, about=place.source) as screen,
            ):
                code, _ = self._reconstruct(place, screen, probe)
            where = f" on rank {self._team.ranks.rank}"
            outcome = done(place, code, time.perf_counter() - began, where)
        except KeyboardInterrupt as caught:
            outcome = interrupted(caught)
        except Exception as caught:  # whatever it is, the other scans are not to blame
            outcome = failed(place, caught, self._level)
        return [report.getvalue(), outcome.said, outcome.detail, outcome.code]


def _probe_of(place: Place) -> np.ndarray:
    from ptycho_core import Reconstruction

    return Reconstruction.load(place.directory).probe
