"""A result, as the commands that make one write it and show its verdict."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptycho_config.models import RunConfig
    from ptycho_core import Reconstruction

__all__ = ["prior_mean_rows", "save_as_asked", "tell_verdict", "verdict_rows"]

logger = logging.getLogger("ptycho")


def save_as_asked(result: Reconstruction, directory: Path, run: RunConfig) -> dict[str, Path]:
    """Write a result, cut and in the further formats that were asked for."""
    shown = result.cropped() if run.crop_result else result
    return shown.save(directory, tiff=run.save_tiff, mat=run.save_mat, unwrap=run.unwrap)


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


def prior_mean_rows(result: Reconstruction) -> list[tuple[str, str]]:
    """Return a row that says how strongly the image of a network was followed, where one was offered."""
    told = [event.data for event in result.events if event.kind == "prior_mean"]
    if not told:
        return []
    strength, starts = told[-1]["strength"], told[-1]["starts"]
    if strength:
        return [("prior mean", f"the network's image, with a strength of {strength:.3g}")]
    return [("prior mean", "the network's image as a start alone" if starts else "not wanted (strength 0)")]


def tell_verdict(result: Reconstruction) -> None:
    """Warn of a verdict that is not good; a good one is a line of the log."""
    verdict = result.verdict
    if verdict is not None:
        level = logging.INFO if verdict.grade == "good" else logging.WARNING
        logger.log(level, "Verdict: %s", verdict)
