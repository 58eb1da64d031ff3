"""Six scans as strangers bring them, with no flag: what comes of them now, and at another commit.

    nox -s bench -- others --against COMMIT [--write-docs]

Five are simulated, with known truth; the sixth is a real one, where it is here (`PTYCHO_DATA_DIR`). Each is written
as an NPZ that says nothing of its faults and read by `ptycho reconstruct FILE`, in a process of its own. The page
shows the object's phase from both, the object error where the truth is known, R, and what the command said of it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import frame
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ptycho_core import Reconstruction, Scan
from ptycho_core.metrics.compare import compare
from ptycho_core.simulate import simulate_scan

PICTURE = Path("docs/images/others.png")
MADE = {"object_kind": "polygons", "frames": 256, "frame_px": 64, "overlap": 0.75, "photons": 1e6, "seed": 4}


def gaps(scan: Scan) -> np.ndarray:
    """Rows and columns between the modules of a detector, which gives them the largest number of its type."""
    frames = scan.counts().astype(np.uint32)
    frames[:, 40:43] = frames[:, :, 20:22] = np.iinfo(np.uint32).max
    return frames


def hot(scan: Scan) -> np.ndarray:
    """Two hot pixels, and two frames that a cosmic ray struck."""
    frames = scan.counts().astype(np.uint32)
    frames[:, 11, 50], frames[:, 52, 18] = 60_000, 250_000
    frames[5, 20, 44], frames[9, 50, 9] = 3_000_000_000, 4_000_000_000
    return frames


def wrong_frames(scan: Scan) -> np.ndarray:
    """An empty frame, a saturated one, and two that were exchanged."""
    frames = scan.counts().astype(np.uint16)
    frames[31] = 0
    frames[90] = np.iinfo(np.uint16).max
    frames[[120, 180]] = frames[[180, 120]]
    return frames


def wrapped(scan: Scan) -> np.ndarray:
    """Counts above 32,767 in a signed type of 16 bits, where they go on from below."""
    counts = scan.counts()
    return (counts * (45_000 / counts.max())).astype(np.uint16).astype(np.int16)


def stopped(scan: Scan) -> np.ndarray:
    """A stop before the detector: nothing arrives in the middle."""
    frames = scan.counts().astype(np.uint32)
    frames[:, 28:36, 28:36] = 0
    return frames


CASES: dict[str, Callable[[Scan], np.ndarray]] = {
    "gaps of the detector": gaps,
    "hot pixels, cosmic rays": hot,
    "wrong frames": wrong_frames,
    "counts that wrapped around": wrapped,
    "a beam stop": stopped,
}
REAL = "labyrinth, DC in the corner"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a command left, and what it said.

    Attributes:
        image: phase of the part that got light. error: of the object, NaN where the truth is not known.
    """

    image: np.ndarray
    error: float
    residual: float
    said: str


def cases(folder: Path) -> dict[str, tuple[Path, np.ndarray | None]]:
    """Write the simulated scans; name -> file and true object."""
    written: dict[str, tuple[Path, np.ndarray | None]] = {}
    made = simulate_scan(**MADE)
    for name, fault in CASES.items():
        path = folder / f"{len(written)}.npz"
        y, x = made.scan.positions_px.T
        np.savez(path, diffraction=fault(made.scan), xcoords=x, ycoords=y, probeGuess=made.scan.probe)
        written[name] = path, made.obj
    real = Path(os.environ.get("PTYCHO_DATA_DIR", ".")) / "labyrinth.npz"
    if real.is_file():
        written[REAL] = real, None
    else:
        print("labyrinth.npz is not here and is left out")
    return written


def outcome(python: str, path: Path, truth: np.ndarray | None, folder: Path) -> Outcome:
    """Run the command with the packages of an interpreter."""
    words = [
        python,
        "-m",
        "ptycho_dispatch",
        "reconstruct",
        path,
        "--output-dir",
        folder,
        "--arrays",
        "numpy",
    ]
    frame.run_child(words, f"the command on {path.name}", quiet=True, without=("PYTHONPATH",))
    result = Reconstruction.load(folder)
    record = json.loads((folder / "run.json").read_text("utf-8"))
    verdict = record.get("verdict") or {}
    log = (folder / "ptycho.log").read_text("utf-8")
    warned = sum(" WARNING " in f" {line} " for line in log.splitlines())
    said = f"{verdict['grade']}, " if verdict else ""
    said += f"{warned} warnings" if warned != 1 else "1 warning"
    error = float("nan")
    if truth is not None:
        error = compare(result, truth.astype(np.complex64)).values["object_error"]
    seen = result.coverage > 0.1 * result.coverage.max()
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Outcome(np.where(seen, np.angle(result.object), np.nan)[box], error, result.data_residual, said)


def draw(found: dict[str, dict[str, Outcome]], path: Path) -> None:
    """Draw the phases, a row for each of both commits and a column for each case."""
    columns, rows = list(found), list(next(iter(found.values())))
    figure = Figure(figsize=(2.6 * len(columns), 3.0 * len(rows)), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for column, name in enumerate(columns):
        for row, when in enumerate(rows):
            one, axes = found[name][when], grid[row][column]
            known = one.image[np.isfinite(one.image)]
            low, high = np.percentile(known, (1, 99))
            axes.imshow(one.image, cmap="gray", vmin=low, vmax=high)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(f"error {one.error:.3f}" if np.isfinite(one.error) else f"R {one.residual:.3f}")
            if row == 0:
                axes.set_title(name.replace(", ", ",\n", 1), fontsize=9)
            if column == 0:
                axes.set_ylabel(when)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = frame.parser(__doc__, against=True)
    arguments = parser.parse_args()
    places = {"now": sys.executable}
    if arguments.against:
        places = {f"at {arguments.against}": frame.interpreter_against(arguments), **places}
    found: dict[str, dict[str, Outcome]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, (path, truth) in cases(folder).items():
            found[name] = {
                when: outcome(python, path, truth, folder / f"{len(found)}-{number}")
                for number, (when, python) in enumerate(places.items())
            }
            print(
                name,
                *(f"{w}: {o.error:.3f}, {o.said}" for w, o in found[name].items()),
                sep=" | ",
                flush=True,
            )
    picture = PICTURE if arguments.write_docs else frame.RESULTS / PICTURE.name
    draw(found, picture)
    rows = [
        [name, when, "-" if np.isnan(one.error) else f"{one.error:.3f}", f"{one.residual:.3f}", one.said]
        for name, both in found.items()
        for when, one in both.items()
    ]
    words = ["--against", arguments.against] if arguments.against else []
    text = "\n".join(
        [
            frame.opening("Scans as strangers bring them", frame.command("others", arguments, *words)),
            "`ptycho reconstruct FILE`, with no flag. Below each phase stands the object error, or R where the truth "
            "is not known.",
            "",
            "![Phases of six scans, at both commits](../images/others.png)",
            "",
            frame.markdown_table(["scan", "commit", "object error", "R", "said"], rows),
            "",
        ]
    )
    errors = [{"scan": name, "error": both["now"].error} for name, both in found.items()]
    frame.finish("others", arguments, text, {"rows": rows}, frame.figures(errors, ("scan",), "error"))


if __name__ == "__main__":
    main()
