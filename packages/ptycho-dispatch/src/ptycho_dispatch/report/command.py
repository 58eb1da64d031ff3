"""`ptycho report RUN`: a finished run as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from ptycho_config.errors import ConfigError, OutputError
from ptycho_config.naming import shown
from ptycho_dispatch.log import file_in_run
from ptycho_dispatch.report.frames import MOST_FRAMES
from ptycho_dispatch.screen import say

__all__ = ["EXAMPLES", "REPORT_FILE", "add_arguments", "run"]

EXAMPLES = (
    "ptycho report reconstruction",
    "ptycho report star --output star.html",
    "ptycho report reconstruction --scan scan.npz --frames 12",
    "ptycho report reconstruction --frames 0",
)
REPORT_FILE = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the place of the page."""
    parser.add_argument(
        "run_dir", metavar="RUN", help="output directory of `ptycho reconstruct`, `train`, `infer` or `watch`"
    )
    parser.add_argument(
        "--output", metavar="FILE", help=f"the page to write; {REPORT_FILE} in the run when not given"
    )
    parser.add_argument(
        "--scan",
        metavar="SCAN",
        help="the scan of which frames are shown; found by itself where it lies as the run names it",
    )
    parser.add_argument(
        "--frames",
        metavar="N",
        default=str(MOST_FRAMES),
        help=f"frames shown, measured and predicted: {MOST_FRAMES} at most and when not given, 0 for none",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page.

    Raises:
        DataError: there is no such run, one of its files is absent or damaged, or the scan is not its own.
        ConfigError: the number of frames is none.
        OutputError: the page cannot be written.
    """
    from ptycho_dispatch.report.contents import read_contents
    from ptycho_dispatch.report.page import page_html

    directory = Path(arguments.run_dir).expanduser()
    count = _frames(arguments.frames)
    path = file_in_run(directory, REPORT_FILE, arguments.output)
    text = page_html(read_contents(directory, scan=arguments.scan, frames=count))
    say(f"report: {_written(path, text)} ({len(text) / 1e6:.1f} MB)")
    return 0


def _frames(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 3 or int(text) > MOST_FRAMES:
        raise ConfigError(f"`--frames {shown(text)}`: expected a number from 0 to {MOST_FRAMES}.")
    return int(text)


def _written(path: Path, text: str) -> Path:
    from ptycho_core.io import make_directory, write_text

    try:
        make_directory(path.parent)
        return write_text(path, text)
    except OutputError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)
        raise OutputError(
            f"{path}: the report cannot be written ({reason}). Choose another place with `--output FILE`."
        ) from error
