"""The table of a run, and the page of the documentation that shows it."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from injection.case import OUTCOMES
from injection.ground import ROOT

__all__ = ["PAGE", "table", "write_page"]

PAGE = ROOT / "docs" / "reference" / "faults.md"
MARK = "<!-- Written by `nox -s faults -- --write-docs`; what is above is written by hand. -->"


def table(outcomes: Sequence[Any]) -> str:
    """Show how many cases of each class came to what."""
    from injection.classes import CLASSES

    counts = {kind: Counter(one.finding[0] for one in outcomes if one.kind == kind) for kind in CLASSES}
    rows = [("class", "cases", *OUTCOMES), ("---",) * (2 + len(OUTCOMES))]
    rows += [_row(kind, found) for kind, found in counts.items() if found]
    total = sum(counts.values(), Counter())
    rows.append(_row("**all**", total))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _row(kind: str, found: Counter[str]) -> tuple[str, ...]:
    return (kind, str(sum(found.values())), *(str(found[outcome]) for outcome in OUTCOMES))


def write_page(runs: Sequence[tuple[int, Sequence[Any], float]]) -> Path:
    """Renew what the page shows below its mark: a table for each seed, and one of all of them."""
    by_hand = PAGE.read_text("utf-8").partition(MARK)[0]
    parts = [_of_all_seeds(runs)] if len(runs) > 1 else []
    parts += [
        f"## Seed {seed}\n\n{len(outcomes)} cases in {seconds / 60:.0f} minutes, on {platform.system()} with "
        f"Python {platform.python_version()}.\n\n{table(outcomes)}"
        for seed, outcomes, seconds in runs
    ]
    PAGE.write_text(f"{by_hand}{MARK}\n\n" + "\n".join(parts), encoding="utf-8")
    return PAGE


def _of_all_seeds(runs: Sequence[tuple[int, Sequence[Any], float]]) -> str:
    """Show each seed in a line, and what all of them came to."""
    rows = [("seed", "cases", *OUTCOMES), ("---",) * (2 + len(OUTCOMES))]
    total: Counter[str] = Counter()
    for seed, outcomes, _ in runs:
        found = Counter(one.finding[0] for one in outcomes)
        rows.append(_row(str(seed), found))
        total += found
    rows.append(_row("**all**", total))
    return "## All seeds\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)
