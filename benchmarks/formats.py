"""The real scan from every format, each by one command, against the NPZ of the same scan.

    nox -s bench -- formats [--effort default] [--write-docs]

The files are written as the programs of the field write them (`format_files.py`), with the counts, positions and
probe of the Siemens star; energy, distance and detector pixel are made up, and give lengths but no other image.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path

import frame
import numpy as np
from format_files import WRITERS, Original, Written

from ptycho_core import Reconstruction, open_scan

NAMES = {
    "npz": "NPZ, ours",
    "cxi": "CXI 1.6, a near-field and a far-field detector",
    "ptyd": "PtyPy `.ptyd`, three chunks",
    "ptychodus": "Ptychodus, diffraction and product",
    "ptychodus_raw": "Ptychodus, product with raw data",
    "nexus": "NeXus, NXtomo-like, with flat and dark frame",
    "raster": "any HDF5, by keys",
    "matlab": "MATLAB 7.3",
    "tiff": "TIFF, a file of pages",
    "tiff_directory": "TIFF, a directory",
    "npy": "NPY and a table of positions",
    "lcls": "NPZ, LCLS",
    "tike": "NPZ, tike",
    "ptylab": "PtyLab HDF5",
    "xptycho": "xptycho",
    "fold_slice": "fold_slice and PtychoShelves",
    "npy_directory": "NPY, a directory",
    "hdf5_directory": "HDF5, a directory",
}


def command_for(written: Written, folder: Path, effort: str) -> list[str]:
    """Return what a user types in that folder."""
    words = ["reconstruct", str(written.path.relative_to(folder))]
    for name, value in written.options.items():
        text = str(value.relative_to(folder)) if isinstance(value, Path) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return [*words, *(() if effort == "default" else ("--effort", effort))]


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--effort", default="default", choices=("fast", "default", "thorough"))
    arguments = parser.parse_args()
    scan = open_scan("siemens-star")
    counts = np.rint(scan.counts()).astype(np.int32)
    original = Original(counts, scan.positions_px, scan.probe, np.zeros(counts.shape[1:], bool))
    missing = set(WRITERS) - set(NAMES)
    if missing:
        raise SystemExit(f"no name for {', '.join(sorted(missing))}")
    rows, data, first = [], [], None
    for key, name in NAMES.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            command = command_for(WRITERS[key](folder, original), folder, arguments.effort)
            run = [sys.executable, "-m", "ptycho_dispatch", *command, "--output-dir", "out", "--quiet"]
            frame.run_child(run, cwd=folder)
            result = Reconstruction.load(folder / "out")
            record = json.loads((folder / "out" / "run.json").read_text())
        first = first or result
        apart = abs(result.data_residual - first.data_residual)
        same = result.object.shape == first.object.shape
        off = float(np.abs(result.object - first.object).max()) if same else float("nan")
        pixel = "" if result.pixel_size_m is None else f"{result.pixel_size_m * 1e9:.2f} nm"
        figures = f"{result.data_residual:.6f}", f"{apart:.1e}", f"{off:.1e}"
        rows.append([name, f"`ptycho {shlex.join(command)}`", *figures, pixel])
        data.append({"format": key, "r": result.data_residual, "object_off": off, "run": record["timings_s"]})
        print(*rows[-1], flush=True)
    header = ["file", "command", "R", "R off", "object off, at most", "pixel"]
    flags = f"--effort {arguments.effort} --write-docs"
    opening = frame.opening("The real scan from every format", f"nox -s bench -- formats {flags}")
    text = (
        f"{opening}\n"
        f"{scan.n_frames} frames of the Siemens star, written as each program writes them and reconstructed by "
        "the command beside; compared with the NPZ of the first row. Energy, distance and detector pixel are made "
        "up: they give the pixel its length.\n\n"
        f"{frame.markdown_table(header, rows)}\n"
    )
    frame.finish(
        "formats", arguments, text, {"cases": data}, frame.figures(data, "format", "r", "object_off")
    )


if __name__ == "__main__":
    main()
