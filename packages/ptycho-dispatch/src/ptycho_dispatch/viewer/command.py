"""`ptycho view RESULT`: napari where it is installed and there is a screen, else the page of the report."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import webbrowser
from pathlib import Path

from ptycho_config.errors import BackendUnavailableError, ConfigError
from ptycho_dispatch.screen import say

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "ptycho view reconstruction",
    "ptycho view reconstruction --scan scan.npz --page",
)
_INSTALL = "pip install 'ptycho-dispatch[viewer]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the result, its scan, and the choice of the viewer."""
    parser.add_argument("run_dir", metavar="RESULT", help="output directory of a run")
    parser.add_argument(
        "--scan",
        metavar="SCAN",
        help="the scan of which frames are shown; found by itself where it lies as the run names it",
    )
    parser.add_argument("--page", action="store_true", help="the HTML page, even where napari is installed")
    parser.add_argument(
        "--screenshot", metavar="PNG", help="write a picture of the window of napari, and close it again"
    )


def run(arguments: argparse.Namespace) -> int:
    """Show a result.

    Raises:
        DataError: there is no such result, or the scan is not its own.
        BackendUnavailableError: a screenshot was asked for and napari cannot show a window here.
        ConfigError: a screenshot of the page was asked for.
    """
    if arguments.page and arguments.screenshot:
        raise ConfigError("`--screenshot` is of napari's window; leave `--page` out, or `--screenshot`.")
    reason = "" if arguments.page else _why_not_napari()
    if reason and arguments.screenshot:
        raise BackendUnavailableError(f"A window of napari cannot be shown here: {reason}.")
    if arguments.page or reason:
        if reason:
            say(f"{reason}; the page of `ptycho report` instead.")
        return _show_page(arguments)
    from ptycho_dispatch.viewer.window import show

    show(Path(arguments.run_dir).expanduser(), scan=arguments.scan, screenshot=arguments.screenshot)
    return 0


def _why_not_napari() -> str:
    if importlib.util.find_spec("napari") is None:
        return f"napari is not installed ({_INSTALL})"
    return "" if _has_screen() else "there is no screen"


def _has_screen() -> bool:
    named = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(named) or sys.platform in ("darwin", "win32")


def _show_page(arguments: argparse.Namespace) -> int:
    from ptycho_dispatch.report import command as report
    from ptycho_dispatch.report.frames import MOST_FRAMES

    wanted = argparse.Namespace(
        run_dir=arguments.run_dir, output=None, scan=arguments.scan, frames=str(MOST_FRAMES)
    )
    code = report.run(wanted)
    page = (Path(arguments.run_dir).expanduser() / report.REPORT_FILE).resolve()
    # Without a screen a browser of the terminal would take over.
    if not _has_screen() or not webbrowser.open(page.as_uri()):
        say("No browser was opened: open the page yourself.")
    return code
