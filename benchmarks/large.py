"""Memory and time of `ptycho reconstruct` as a compressed scan on disk grows.

    nox -s bench -- large [--frames 12500 25000 50000 100000] [--effort fast] [--write-docs]

The frames are simulated block by block and written as unsigned integers, compressed by bitshuffle and LZ4 as
detectors do. "Own memory" is the most that was not pages of a file at any time; of the file in which the solver
keeps its frames the system holds in memory what it has room for.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import frame
import h5py
import hdf5plugin
import numpy as np
from memory import measure

from ptycho_core import Reconstruction
from ptycho_core.simulate.objects import make_object
from ptycho_core.simulate.positions import make_positions, step_for_overlap_px
from ptycho_core.simulate.probes import effective_diameter_px, make_probe
from ptycho_core.simulate.scan import expected_intensity
from ptycho_core.simulate.start_probe import make_start_probe

FRAME_PX = 128
FRAMES = (12500, 25000, 50000, 100000)
PHOTONS = 1e5
_BLOCK = 64
_FLAGS = ("--frames-key", "frames", "--positions-key", "positions", "--probe-key", "probe")
_FLAGS += ("--measurement", "counts", "--dc", "center", "--positions-unit", "px", "--quiet")


def write_scan(path: Path, n_frames: int, seed: int = 0) -> None:
    """Simulate a raster over polygons and write it block by block."""
    random = np.random.default_rng(seed)
    probe = make_probe("focus", FRAME_PX, random, n_modes=1)
    step = step_for_overlap_px(0.7, effective_diameter_px(probe))
    positions = make_positions("raster", n_frames, step, random) + FRAME_PX // 2 + 4
    height, width = (np.ceil(positions.max(axis=0)).astype(int) + FRAME_PX // 2 + 4).tolist()
    obj = make_object("polygons", (height, width), random).astype(np.complex64)
    scale = PHOTONS / expected_intensity(obj, probe, positions[:: max(1, n_frames // 200)]).sum((1, 2)).mean()
    with h5py.File(path, "w") as file:
        file["positions"] = positions
        file["probe"] = make_start_probe("scan-like", probe[0], random)
        frames = file.create_dataset(
            "frames",
            (n_frames, FRAME_PX, FRAME_PX),
            np.uint16,
            chunks=(8, FRAME_PX, FRAME_PX),
            **hdf5plugin.Bitshuffle(cname="lz4"),
        )
        for first in range(0, n_frames, _BLOCK):
            part = slice(first, first + _BLOCK)
            rates = expected_intensity(obj, probe, positions[part]) * scale
            frames[part] = np.minimum(random.poisson(rates), 65535)


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--frames", type=int, nargs="*", default=FRAMES)
    parser.add_argument("--effort", default="fast")
    arguments = parser.parse_args()
    rows, data = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n_frames in arguments.frames:
            path, out = folder / "scan.h5", folder / "out"
            write_scan(path, n_frames)
            command = ("reconstruct", str(path), *_FLAGS, "--effort", arguments.effort)
            found = measure(sys.executable, "-m", "ptycho_dispatch", *command, "--output-dir", str(out))
            result = Reconstruction.load(out)
            # The object, its coverage, and what the solver holds beside it: its gradient and its steps.
            canvas_mb = result.object.nbytes / 2**20
            found |= {"frames": n_frames, "file_mb": path.stat().st_size / 2**20, "canvas_mb": canvas_mb}
            found |= {"r": result.data_residual, "float32_mb": n_frames * FRAME_PX**2 * 4 / 2**20}
            data.append(found)
            keys = ("file_mb", "float32_mb", "canvas_mb", "own_mb", "peak_mb", "seconds")
            rate = f"{1e3 * found['seconds'] / n_frames:.2f}"
            rows.append([str(n_frames), *(f"{found[key]:.0f}" for key in keys), rate, f"{found['r']:.4f}"])
            print(rows[-1], flush=True)
            path.unlink()
    flags = f"--frames {' '.join(map(str, arguments.frames))} --effort {arguments.effort} --write-docs"
    header = ["frames", "file, MB", "as float32, MB", "object, MB", "own memory, MB", "peak with pages, MB"]
    header += ["s", "ms a frame", "R"]
    text = "\n".join(
        [
            frame.opening("Scans larger than memory", f"nox -s bench -- large {flags}"),
            f"`ptycho reconstruct` of simulated rasters, frames of {FRAME_PX} x {FRAME_PX} px as 16-bit counts, "
            "compressed by bitshuffle and LZ4; the whole process with imports, figures and files. Own memory is what "
            "cannot be taken back: it leaves out the mapped file in which the solver keeps its frames, of which the "
            "system holds in memory what it has room for (the peak with pages counts all of that).",
            "",
            frame.markdown_table(header, rows),
            "",
        ]
    )
    figures = frame.figures(data, "frames", "seconds", "own_mb", "peak_mb", "r")
    frame.finish("large", arguments, text, {"cases": data}, figures)


if __name__ == "__main__":
    main()
