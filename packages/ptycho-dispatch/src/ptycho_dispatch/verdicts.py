"""The verdict of a result, as the commands that make one show it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptycho_core import Reconstruction

__all__ = ["tell_verdict", "verdict_rows"]

logger = logging.getLogger("ptycho")


def verdict_rows(result: Reconstruction) -> list[tuple[str, str]]:
    """Return the rows of a closing table: the grade with its first reason, the others below it."""
    verdict = result.verdict
    if verdict is None:
        return []
    first, *more = verdict.reasons or ("",)
    return [
        ("verdict", f"{verdict.grade}: {first}" if first else verdict.grade),
        *(("", one) for one in more),
    ]


def tell_verdict(result: Reconstruction) -> None:
    """Warn of a verdict that is not good; a good one is a line of the log."""
    verdict = result.verdict
    if verdict is not None:
        level = logging.INFO if verdict.grade == "good" else logging.WARNING
        logger.log(level, "Verdict: %s", verdict)
