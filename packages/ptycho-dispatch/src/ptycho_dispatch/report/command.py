"""`ptycho report RUN`: a finished run as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from ptycho_config.errors import OutputError
from ptycho_dispatch.screen import say

__all__ = ["EXAMPLES", "REPORT_FILE", "add_arguments", "run"]

EXAMPLES = (
    "ptycho report reconstruction",
    "ptycho report star --output star.html",
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


def run(arguments: argparse.Namespace) -> int:
    """Write the page.

    Raises:
        DataError: there is no such run, or one of its files is absent or damaged.
        OutputError: the page cannot be written.
    """
    from ptycho_dispatch.report.contents import read_contents
    from ptycho_dispatch.report.page import page_html

    directory = Path(arguments.run_dir).expanduser()
    path = directory / REPORT_FILE if arguments.output is None else Path(arguments.output).expanduser()
    if path.is_dir():
        raise OutputError(f"{path}: is a directory. Name a file with `--output {path / REPORT_FILE}`.")
    text = page_html(read_contents(directory))
    say(f"report: {_written(path, text)} ({len(text) / 1e6:.1f} MB)")
    return 0


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
