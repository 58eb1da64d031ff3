"""`ptycho compare A B`: scores and a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptycho_config.errors import DataError
from ptycho_dispatch.screen import say
from ptycho_dispatch.table import print_table

if TYPE_CHECKING:
    from ptycho_core import Reconstruction
    from ptycho_core.metrics import Comparison

__all__ = ["EXAMPLES", "add_arguments", "draw_comparison", "run"]

EXAMPLES = (
    "ptycho compare reconstruction scan.npz",
    "ptycho compare reconstruction star --output-dir compared",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two sides and the place of the picture."""
    parser.add_argument("first", metavar="A", help="a result: reconstruction.npz or its directory")
    parser.add_argument("second", metavar="B", help="another result, or a scan that holds the truth")
    parser.add_argument("--output-dir", metavar="PATH", help="where comparison.png and comparison.json go")


def run(arguments: argparse.Namespace) -> int:
    """Compare a result with another one or with the truth."""
    from ptycho_core import Reconstruction
    from ptycho_core.metrics import compare

    first = Reconstruction.load(arguments.first)
    second = _second(arguments.second)
    comparison = compare(first, second)
    rows = [(name, f"{value:.4g}") for name, value in comparison.values.items()]
    print_table(f"{arguments.first} compared with {arguments.second}", ("score", "value"), rows)
    if arguments.output_dir:
        from ptycho_core.io import make_directory, write_json

        directory = make_directory(arguments.output_dir)
        write_json(directory / "comparison.json", comparison.values)
        names = (Path(arguments.first).name, Path(arguments.second).name)
        picture = draw_comparison(comparison, directory / "comparison.png", names)
        say(f"picture: {picture}")
    return 0


def draw_comparison(comparison: Comparison, path: Path, names: tuple[str, str]) -> Path:
    """Draw two objects side by side, their difference and how their detail agrees."""
    from ptycho_core.figures import write_comparison

    return write_comparison(
        path,
        first=comparison.aligned,
        second=comparison.truth,
        seen=comparison.region,
        names=names,
        frc=comparison.ring_correlation,
    )


def _second(source: str) -> Reconstruction | np.ndarray:
    """Open a result, or take the truth out of a scan."""
    from ptycho_core import Reconstruction, open_scan
    from ptycho_dispatch.commands.inspection import _is_result

    path = Path(source)
    if path.is_dir() or (path.suffix == ".npz" and _is_result(path)):
        return Reconstruction.load(path)
    truth = open_scan(source).ground_truth
    if truth is None:
        raise DataError(
            f"{source}: holds neither a result nor a true object (`objectGuess`). Give a second result."
        )
    return np.asarray(truth)
