"""`ptycho diagnose`: how a scan should have been read, tried on some of its frames."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from ptycho_config.errors import ConfigError
from ptycho_config.flags import add_flags, given_flags
from ptycho_config.sources import load_parts
from ptycho_config.values import parse_duration
from ptycho_dispatch.interrupt import Interruptible
from ptycho_dispatch.log import logging_to
from ptycho_dispatch.screen import say
from ptycho_dispatch.settings import READING, as_words, command_line, read_options
from ptycho_dispatch.table import print_table

if TYPE_CHECKING:
    from ptycho_core.doctor import Diagnosis

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = ("ptycho diagnose scan.npz --budget 10s --picture diagnosis.png",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the scan, the budget and the flags that say how to read it."""
    parser.add_argument("scan", metavar="SCAN", help="a file of any known format, or a data set's name")
    parser.add_argument(
        "--budget", metavar="TIME", default="20s", help="time for all trials: 20s, 2m (default 20s)"
    )
    parser.add_argument(
        "--picture", metavar="PNG", help="also draw the object in every setting that was tried"
    )
    add_flags(parser, READING)


def run(arguments: argparse.Namespace) -> int:
    """Try how a scan may be read, and print what explains its frames and the command that reads it so.

    Raises:
        ConfigError, DataError, OutputError: see their docstrings.
    """
    from ptycho_core.doctor import diagnose, write_sheet
    from ptycho_core.doctor.sheet import in_words
    from ptycho_core.io import read_scan

    budget_s = _seconds(arguments.budget)
    flags = given_flags(arguments)
    (reading,) = load_parts((READING,), flags=flags, env=os.environ)
    with logging_to(None, "WARNING"), Interruptible() as interrupt:
        scan = read_scan(arguments.scan, read_options(reading.config))
        diagnosis = diagnose(scan, budget_s=budget_s, flags=flags, should_stop=interrupt.should_stop)
    rows = [
        (
            finding.name,
            f"{finding.before:.0%} -> {finding.after:.0%}",
            finding.how_sure,
            " ".join(as_words({k: v for k, v in finding.flags.items() if flags.get(k) != v})),
        )
        for finding in diagnosis.findings
    ]
    say(f"{scan.name}: {len(diagnosis.trials)} settings tried on {diagnosis.n_frames} frames")
    if rows:
        print_table("", ("found", "unexplained", "how sure", "flags"), rows)
    elif diagnosis.explained:
        say(f"Found: {diagnosis.outcome} ({_unexplained(diagnosis)}).")
    if not diagnosis.explained:
        say(
            f"No setting explains the frames ({_unexplained(diagnosis)}, best: "
            f"{in_words(diagnosis.best.setting)}). Check that frames and positions belong together and are "
            "in the same order, and that the sample scatters."
        )
    for remark in diagnosis.remarks:
        say(remark)
    if arguments.picture:
        say(f"picture: {write_sheet(diagnosis, arguments.picture, name=scan.name)}")
    say(f"reconstruct it: {command_line(arguments.scan, diagnosis.flags)}")
    return 0


def _unexplained(diagnosis: Diagnosis) -> str:
    return f"{diagnosis.best.unexplained:.0%} of what tells frames apart stays unexplained"


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"`--budget` is {text!r}. Expected a time such as 20s or 2m.") from error
    if not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ConfigError(f"`--budget` is {text!r}. Expected a time such as 20s or 2m.")
    return float(seconds)
