"""Draw the cases, run them side by side, show the table, write a program for each failure."""

from __future__ import annotations

import argparse
import gc
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from injection.case import CLEAN, OUTCOMES, Case
from injection.ground import ROOT, Ground, lay_ground
from injection.judging import Finding, inputs_of, judged
from injection.page import table, write_page
from injection.programs import write_program
from injection.running import run_act

__all__ = ["Outcome", "drawn", "main"]

#: Read by libraries when they are loaded. A process without threads may be forked; two cases share two cores.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "PTYCHO_DIAGNOSE": "off",
}
#: What was still at work gets three times the time before it is said to hang: others may have had the cores.
MORE_PATIENCE = 3.0
ROOM_BYTES = 4 << 30


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        program: the small program, where it failed.
    """

    kind: str
    name: str
    finding: Finding
    seconds: float
    program: str = ""


def main() -> int:
    """Run the cases that were asked for; 1 where one of them failed."""
    asked = _parser().parse_args()
    os.environ.update(ENVIRONMENT)
    started = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="faults-", dir=_quick_place()))
    try:
        ground = lay_ground(asked.ground or place / "ground")
        if not asked.list:
            _load(ground)
        runs: list[tuple[int, list[Outcome], float]] = []
        for seed in asked.seed:
            begun = time.monotonic()
            cases = drawn(asked.cases, seed, ground, asked.only)
            if asked.list:
                print(f"seed {seed}", *(f"{case.kind}: {case.name!r}" for case in cases), sep="\n")
                continue
            outcomes = _run_all(cases, seed, place, asked)
            runs.append((seed, outcomes, time.monotonic() - begun))
            print(
                f"\nseed {seed}: {len(outcomes)} cases in {runs[-1][2]:.0f} s\n\n{table(outcomes)}",
                flush=True,
            )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    failed = [outcome for _, outcomes, _ in runs for outcome in outcomes if outcome.finding[0] != CLEAN]
    for outcome in failed:
        outcome_is, words = outcome.finding
        print(f"{outcome_is}: {outcome.kind}: {outcome.name!r}\n    {words}\n    {outcome.program}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = f"{used.ru_utime + used.ru_stime:.0f} s of processor time"
    print(f"{time.monotonic() - started:.0f} s in all, {busy}; {len(failed)} failed")
    if asked.write_docs:
        print(f"written: {write_page(runs)}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    from injection.classes import CLASSES

    made = argparse.ArgumentParser(prog="faults", description=main.__doc__)
    made.add_argument("--cases", type=int, default=2000, help="how many, over all classes (default 2000)")
    made.add_argument("--seed", type=int, nargs="+", default=[1], help="one or more; each has its own cases")
    made.add_argument("--only", action="append", choices=sorted(CLASSES), help="this class alone; repeatable")
    made.add_argument("--jobs", type=int, default=2, help="cases side by side (default 2)")
    made.add_argument(
        "--found", type=Path, default=ROOT / "faults-found", help="folder of the programs of failures"
    )
    made.add_argument("--ground", type=Path, help="folder of the sound files, made where it is not there")
    made.add_argument("--write-docs", action="store_true", help="renew docs/reference/faults.md")
    made.add_argument("--list", action="store_true", help="only show which cases there would be")
    made.add_argument(
        "--number", type=int, nargs="+", help="only the cases of these numbers; shows what they said"
    )
    return made


def _quick_place() -> str | None:
    """Give a file system in memory, where there is one with room; else the usual place."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES else None


def _load(ground: Ground) -> None:
    """Load what the commands need, once: cases are forked from here, and so must no thread be started."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    for name in ground.modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # a part of a library that only its own code may load
            if name.startswith("ptycho"):
                raise RuntimeError(f"{name} cannot be loaded") from error
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise RuntimeError(f"there are {threads} threads, and a fork takes only one of them along")
    gc.collect()
    gc.freeze()


def drawn(n_cases: int, seed: int, ground: Ground, only: Sequence[str] | None = None) -> list[Case]:
    """Draw cases, no two alike: the same ones for the same number, seed and classes."""
    from injection.classes import CLASSES

    shares = {kind: share for kind, (_, share, _) in CLASSES.items() if not only or kind in only}
    cases: list[Case] = []
    left, shares_left = n_cases, sum(shares.values())
    for kind, share in shares.items():
        wanted = round(left * share / shares_left)
        left, shares_left = left - wanted, shares_left - share
        rng = random.Random(f"{seed} {kind}")
        of_kind: dict[str, Case] = {}
        for _ in range(50 * wanted):
            if len(of_kind) == wanted:
                break
            case = CLASSES[kind][0](rng, ground)
            of_kind.setdefault(case.name, case)
        cases += of_kind.values()
    return cases


_CASES: list[Case] = []
_PLACE, _FOUND, _SEED, _SHOW = Path(), Path(), 0, False


def _run_all(cases: list[Case], seed: int, place: Path, asked: argparse.Namespace) -> list[Outcome]:
    """Run cases in processes forked from this one, and tell failures as they come."""
    global _CASES, _PLACE, _FOUND, _SEED, _SHOW
    _CASES, _PLACE, _FOUND, _SEED, _SHOW = cases, place, asked.found, seed, asked.number is not None
    numbers = asked.number or range(len(cases))
    # Those that take longest are spread over the run, not left to its end.
    order = sorted(numbers, key=lambda number: random.Random(number).random())
    outcomes: list[Outcome] = []
    with multiprocessing.get_context("fork").Pool(asked.jobs) as pool:
        for done, outcome in enumerate(pool.imap_unordered(_run_one, order), start=1):
            outcomes.append(outcome)
            if outcome.finding[0] != CLEAN:
                print(
                    f"  {outcome.finding[0]}: {outcome.kind}: {outcome.name!r}: {outcome.finding[1]}",
                    flush=True,
                )
            if done % 100 == 0:
                print(f"{done} of {len(order)}", flush=True)
    return outcomes


def _run_one(number: int) -> Outcome:
    """Run the acts of a case; where one is wrong, write its program."""
    case, started = _CASES[number], time.monotonic()
    try:
        finding, at, waits = _acted(case, number, patience=1.0)
        if finding[0] == "hang" and not waits:
            finding, at, _ = _acted(case, number, patience=MORE_PATIENCE)
        program = ""
        if finding[0] != CLEAN:
            program = str(_program_of(case, number, at, finding))
    except Exception:
        finding, program = ("broken promise", f"the case itself failed: {traceback.format_exc()}"), ""
    return Outcome(case.kind, case.name, finding, time.monotonic() - started, program)


def _acted(case: Case, number: int, *, patience: float) -> tuple[Finding, int, bool]:
    """Prepare a case and run its acts up to the first that is wrong; whether that one only waited."""
    folder = Path(tempfile.mkdtemp(prefix=f"case-{number}-", dir=_PLACE))
    screens, place = folder / "screens", folder / "files"
    screens.mkdir()
    place.mkdir()
    try:
        acts = case.prepare(place)
        finding: Finding = (CLEAN, "")
        for at, act in enumerate(acts):
            before = inputs_of(place)
            if act.environment.get("HOME") == "HERE":
                act = replace(act, environment={**act.environment, "HOME": str(place)})
            ran = run_act(act, place, screens, patience=patience)
            finding = judged(act, ran, place, before, keeps_parts=case.keeps_parts)
            if _SHOW:
                words = " ".join(act.words) or act.program
                said = (ran.out + ran.err).decode(errors="replace")
                print(f"--- {case.name}\n$ {words!r}\n{said}")
                print(
                    f"exit {ran.code}, {ran.seconds:.2f} s, {ran.peak_bytes >> 20} MB: {finding}", flush=True
                )
            if finding[0] != CLEAN:
                return finding, at, ran.waits
            for file in screens.iterdir():
                file.unlink()
        return finding, 0, False
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program_of(case: Case, number: int, at: int, finding: Finding) -> Path:
    with tempfile.TemporaryDirectory(prefix="again-", dir=_PLACE) as folder:
        acts = case.prepare(Path(folder))
        told = f"Found by seed {_SEED}, {len(_CASES)} cases, number {number}"
        return write_program(case, acts, at, Path(folder), finding, _FOUND, told)


def counts_of(outcomes: Sequence[Outcome]) -> dict[str, Counter[str]]:
    """Count outcomes of each class."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.kind, Counter(dict.fromkeys(OUTCOMES, 0)))[outcome.finding[0]] += 1
    return found
