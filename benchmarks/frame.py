"""The frame of every benchmark: its arguments, turns, child processes, page, and the record of each run.

A record holds the figures of one run with date, commit and machine; `benchmarks/history/README.md` says more. It is
written at the end of every run, which also prints the ratios to the newest earlier record of the same benchmark.
Nothing beyond the standard library is imported here, so that every environment of a benchmark can.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "RESULTS",
    "Record",
    "against",
    "against_table",
    "command",
    "compare",
    "figures",
    "finish",
    "host",
    "interpreter_against",
    "keep",
    "markdown_table",
    "opening",
    "parser",
    "run_child",
    "take_turns",
]

RESULTS = Path("bench-results")
HISTORY = Path(__file__).parent / "history"
DOCS = Path("docs/benchmarks")
#: What decides over a figure; pages and records do not.
MEASURED = ("packages", "benchmarks", "noxfile.py", "constraints.txt", ":(exclude)benchmarks/history")
#: The interpreter of the commit to compare with; `nox -s bench` makes it and sets this.
AGAINST_PYTHON = "PTYCHO_AGAINST_PYTHON"
#: OpenMP's threads yield the core instead of spinning, which would slow the next child down.
QUIET = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


# Arguments


def parser(
    description: str | None, *, rounds: int | None = None, against: bool = False, docs: bool = True
) -> argparse.ArgumentParser:
    """Make the parser of a benchmark, whose own arguments are added to it.

    Args:
        description: the docstring of the benchmark.
        rounds: how often the methods take turns when nothing is said; None where there are no turns.
        against: whether the benchmark can take turns with another commit.
        docs: whether it has a page in the documentation.
    """
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds, help=f"in which all take turns ({rounds})")
    if against:
        made.add_argument("--against", metavar="COMMIT", help="take turns with this commit's packages")
        python = os.environ.get(AGAINST_PYTHON, "")
        made.add_argument("--against-python", default=python, help="the interpreter that has them")
    if docs:
        made.add_argument("--write-docs", action="store_true", help="renew the page of the documentation")
    return made


# Measuring


def take_turns(
    rounds: int,
    methods: Mapping[Key, Callable[[], Found]],
    *,
    back_and_forth: bool = False,
    note: Callable[[Key, Found], None] | None = None,
) -> dict[Key, list[Found]]:
    """Call every method once a round, so that all of them meet the same host.

    Args:
        back_and_forth: every other round goes through the methods in reverse.
        note: told of each measurement as it comes.
    """
    found: dict[Key, list[Found]] = {name: [] for name in methods}
    for round_ in range(rounds):
        for name in list(methods)[:: -1 if back_and_forth and round_ % 2 else 1]:
            found[name].append(methods[name]())
            if note is not None:
                note(name, found[name][-1])
    return found


def run_child(
    command: Sequence[str | Path],
    what: str = "",
    *,
    quiet: bool = False,
    without: Sequence[str] = (),
    cwd: Path | None = None,
) -> str:
    """Run a command in a process of its own and return what it printed.

    Args:
        what: names it in the error; the command itself when not given.
        quiet: OpenMP's threads do not spin.
        without: variables that the environment of the process shall not have.
    Raises:
        RuntimeError: it failed; shows the end of what it said.
    """
    words = [str(word) for word in command]
    environment = {key: value for key, value in os.environ.items() if key not in without}
    environment |= QUIET if quiet else {}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=cwd)
    if done.returncode:
        raise RuntimeError(f"{what or ' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def interpreter_against(arguments: argparse.Namespace) -> str:
    """Return the interpreter with the packages of the commit that was asked for, or end where it is missing."""
    commit, python = arguments.against, arguments.against_python
    if not python or not Path(python).exists():
        raise SystemExit(
            f"the interpreter with the packages of {commit} is missing: run `nox -s bench -- ... --against "
            f"{commit}`, which makes it, or give --against-python"
        )
    return python


def against(arguments: argparse.Namespace, timed: Mapping[str, Callable[[str], float]]) -> dict[str, Any]:
    """Take turns with another commit: each method with this environment and with that one, round by round.

    Args:
        timed: calls that get an interpreter and return a number, of which less is better.
    Returns:
        The commit and, for each method, the median of the rounds' ratios (below 1: now is less), their range,
        and both medians.
    """
    commit, python = arguments.against, interpreter_against(arguments)
    places = {"now": sys.executable, commit: python}
    methods = {
        (name, place): (lambda call=call, python=python: call(python))
        for name, call in timed.items()
        for place, python in places.items()
    }
    found = take_turns(
        arguments.rounds,
        methods,
        back_and_forth=True,
        note=lambda key, value: print(f"{key[0]}, {key[1]}: {value:.3f}", flush=True),
    )
    kept = {}
    for name in timed:
        now, then = found[name, "now"], found[name, commit]
        ratios = [one / other for one, other in zip(now, then, strict=True)]
        medians = {"now": statistics.median(now), "then": statistics.median(then)}
        spread = {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        kept[name] = {key: round(value, 4) for key, value in (medians | spread).items()}
    return {"commit": commit, "rounds": arguments.rounds, "methods": kept}


# The page


def host() -> str:
    """Describe processor, cores and Python."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{len(os.sched_getaffinity(0))} cores of {model}, Python {platform.python_version()}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def command(name: str, arguments: argparse.Namespace, *words: str) -> str:
    """Say how a page was made."""
    docs = ["--write-docs"] if arguments.write_docs else []
    return " ".join(["nox -s bench --", name, *words, *docs])


def opening(title: str, command: str, *, note: str = "", on: str = "") -> str:
    """Begin a page: what it is about, the command that makes it, and where it ran (this host)."""
    return f"# {title}\n\n`{command}`, {note}on {on or host()}.\n"


def against_table(compared: Mapping[str, Any]) -> str:
    """Show what `against` found."""
    commit = compared["commit"]
    rows = [
        [
            name,
            *(f"{found[key]:.3f}" for key in ("now", "then", "ratio")),
            "{least:.3f} to {most:.3f}".format(**found),
        ]
        for name, found in compared["methods"].items()
    ]
    header = ["method", "now", f"at {commit}", "now / then", "range"]
    return f"Medians of {compared['rounds']} rounds, and of their ratios:\n\n{markdown_table(header, rows)}\n"


def finish(
    name: str,
    arguments: argparse.Namespace,
    page: str,
    data: Mapping[str, Any],
    figures: Mapping[str, float | None],
    *,
    machine: str = "",
    against: Mapping[str, Any] | None = None,
) -> None:
    """End a run: print the page and write it, keep the record, and compare it with the one before.

    Args:
        data: everything that was measured; goes to bench-results/.
        figures: the numbers to compare from run to run, by names that stay the same.
        machine: what ran it, where that is more than this host.
        against: what `against` returned.
    """
    record = Record.of_this_run(name, figures, machine=machine, against=against or {})
    found = f"{page}\n{against_table(against)}" if against else page
    print(found)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(found, encoding="utf-8")
    everything = {"host": host(), "command": record.command, **data}
    (RESULTS / f"{name}.json").write_text(json.dumps(everything, indent=1), encoding="utf-8")
    if getattr(arguments, "write_docs", False):
        DOCS.mkdir(parents=True, exist_ok=True)
        (DOCS / f"{name}.md").write_text(page, encoding="utf-8")
        print(f"written: {DOCS / name}.md")
    keep(record)


# The record


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one run found.

    Attributes:
        date: UTC, to the second. commit: the first seven digits, `unknown` outside a checkout.
        dirty: whether something that decides over the figures was not committed; None where that is unknown.
        machine: processor, cores and Python. command: as typed, without folders and interpreters.
        figures: name -> number. against: commit -> ratios, of a run that took turns with one.
    """

    benchmark: str
    date: str
    commit: str
    dirty: bool | None
    machine: str
    command: str
    figures: dict[str, float]
    against: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_this_run(
        cls,
        benchmark: str,
        figures: Mapping[str, float | None],
        *,
        machine: str = "",
        against: Mapping[str, Any] | None = None,
    ) -> Record:
        """Describe the run that is going on; figures that are no finite numbers are left out."""
        commit, changes = _git("rev-parse", "--short=7", "HEAD"), _git("status", "--porcelain", *MEASURED)
        finite = {
            name: float(f"{value:.6g}")
            for name, value in figures.items()
            if value is not None and math.isfinite(value)
        }
        return cls(
            benchmark=benchmark,
            date=datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00"),
            commit=commit or "unknown",
            dirty=None if changes is None else bool(changes),
            machine=machine or host(),
            command=" ".join(["nox -s bench --", benchmark, *_without_paths(sys.argv[1:])]),
            figures=finite,
            against=dict(against or {}),
        )

    def write(self, folder: Path = HISTORY) -> Path:
        """Write the record under its date and commit; never over another one."""
        stem, place = f"{self.date[:16].replace(':', '')}-{self.commit}", folder / self.benchmark
        place.mkdir(parents=True, exist_ok=True)
        names = (f"{stem}.json", *(f"{stem}-{number}.json" for number in range(2, 100)))
        path = next(place / name for name in names if not (place / name).exists())
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def figures(rows: Iterable[Mapping[str, Any]], by: str | Sequence[str], *keys: str) -> dict[str, float]:
    """Name the numbers of a table: `{row[by]}, {key}`; what a row lacks is left out."""
    by = (by,) if isinstance(by, str) else by
    return {
        ", ".join([*(str(row[part]) for part in by), key]): row[key]
        for row in rows
        for key in keys
        if row.get(key) is not None
    }


def keep(record: Record, folder: Path = HISTORY) -> Path:
    """Write the record and print how it compares with the newest earlier one."""
    earlier = newest(record, folder)
    path = record.write(folder)
    print(f"kept: {path.relative_to(folder.parent)}")
    print(compare(record, earlier) if earlier else "No earlier record to compare with.", flush=True)
    return path


def newest(record: Record, folder: Path = HISTORY) -> Record | None:
    """Return the newest earlier record of the same benchmark; one of the same machine before all others."""
    records = map(Record.read, (folder / record.benchmark).glob("*.json"))
    earlier = [other for other in records if other.date <= record.date]
    return max(earlier, key=lambda other: (other.machine == record.machine, other.date), default=None)


def compare(now: Record, then: Record) -> str:
    """Put the figures of two runs side by side, with their ratios."""
    unlike = [] if then.machine == now.machine else [f"on another machine ({then.machine})"]
    unlike += [] if then.command == now.command else [f"by `{then.command}`"]
    changed = " with changes" if then.dirty else ""
    first = " ".join([f"Against {then.date}, {then.commit}{changed}", *unlike]) + ":"
    shared = [name for name in now.figures if name in then.figures]
    rows = [
        [
            name,
            f"{now.figures[name]:.4g}",
            f"{then.figures[name]:.4g}",
            f"{now.figures[name] / then.figures[name]:.3f}" if then.figures[name] else "-",
        ]
        for name in shared
    ]
    if not rows:
        return f"{first} no figure in common."
    return f"{first}\n\n{markdown_table(['figure', 'now', 'then', 'now / then'], rows)}"


def _without_paths(words: Sequence[str]) -> list[str]:
    """Leave folders and interpreters of one machine out of a command."""
    return ["..." if os.sep in word else word for word in words]


def _git(*words: str) -> str | None:
    """Ask git about this checkout; None where there is no git or no checkout."""
    try:
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
