"""Memory and time of `ptycho reconstruct` as a compressed scan on disk grows.

    nox -s bench -- large [--scans 12500x128 100000x64 1000000x64] [--effort fast] [--ranks 1 2 4]
        [--write-docs]

The frames are simulated block by block and written as unsigned integers, compressed by bitshuffle and LZ4 as
detectors do. "Own memory" is the most that was not pages of a file at any time; of the file in which the solver
keeps its frames the system holds in memory what it has room for. `--ranks` solves each scan again on several ranks of
one thread each, beside one process with all cores; memory is then that of the largest rank.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import frame
import h5py
import hdf5plugin
import numpy as np
from memory import measure
from ranks import mpiexec

from ptycho_core import Reconstruction
from ptycho_core.simulate.objects import make_object
from ptycho_core.simulate.positions import make_positions, step_for_overlap_px
from ptycho_core.simulate.probes import effective_diameter_px, make_probe
from ptycho_core.simulate.scan import expected_intensity
from ptycho_core.simulate.start_probe import make_start_probe

SCANS = ("12500x128", "25000x128", "50000x128", "100000x128", "100000x64", "1000000x64")
PHOTONS = 1e5
_BLOCK_PIXELS = 1 << 20
#: Large objects are made of one tile of this side: drawn whole they would take gigabytes.
_TILE_PX = 2048
FLAGS = ("--frames-key", "frames", "--positions-key", "positions", "--probe-key", "probe")
FLAGS += ("--measurement", "counts", "--dc", "center", "--positions-unit", "px", "--quiet")


def frames_and_side(text: str) -> tuple[int, int]:
    """Read a number of frames and their side, as 100000x64."""
    frames, _, side = text.partition("x")
    try:
        return int(frames), int(side)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected FRAMESxPX such as 100000x64, found {text}") from None


def made_object(shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Draw polygons; on a large canvas the same tile again and again, cut to the canvas."""
    tile = make_object("polygons", (min(shape[0], _TILE_PX), min(shape[1], _TILE_PX)), random).astype(
        np.complex64
    )
    obj = np.empty(shape, np.complex64)
    for row in range(0, shape[0], len(tile)):
        for column in range(0, shape[1], tile.shape[1]):
            part = obj[row : row + len(tile), column : column + tile.shape[1]]
            part[...] = tile[: part.shape[0], : part.shape[1]]
    return obj


def write_scan(path: Path, n_frames: int, frame_px: int, seed: int = 0) -> None:
    """Simulate a raster over polygons and write it block by block."""
    random = np.random.default_rng(seed)
    probe = make_probe("focus", frame_px, random, n_modes=1)
    step = step_for_overlap_px(0.7, effective_diameter_px(probe))
    positions = make_positions("raster", n_frames, step, random) + frame_px // 2 + 4
    height, width = (np.ceil(positions.max(axis=0)).astype(int) + frame_px // 2 + 4).tolist()
    obj = made_object((height, width), random)
    scale = PHOTONS / expected_intensity(obj, probe, positions[:: max(1, n_frames // 200)]).sum((1, 2)).mean()
    block = max(1, _BLOCK_PIXELS // frame_px**2)
    with h5py.File(path, "w") as file:
        file["positions"] = positions
        file["probe"] = make_start_probe("scan-like", probe[0], random)
        frames = file.create_dataset(
            "frames",
            (n_frames, frame_px, frame_px),
            np.uint16,
            chunks=(max(1, (1 << 17) // frame_px**2), frame_px, frame_px),
            **hdf5plugin.Bitshuffle(cname="lz4"),
        )
        for first in range(0, n_frames, block):
            part = slice(first, first + block)
            rates = expected_intensity(obj, probe, positions[part]) * scale
            frames[part] = np.minimum(random.poisson(rates), 65535)


def solved(path: Path, out: Path, ranks: int, effort: str) -> dict[str, Any]:
    """Reconstruct as a user does; on several ranks behind a launcher, each with one thread."""
    launch = [*mpiexec(), "-n", str(ranks)] if ranks > 1 else []
    told = ["--mpi", "frames", "--threads", "1"] if ranks > 1 else []
    command = ["reconstruct", str(path), *FLAGS, *told, "--effort", effort, "--output-dir", str(out)]
    found: dict[str, Any] = measure(*launch, sys.executable, "-m", "ptycho_dispatch", *command)
    result = Reconstruction.load(out)
    found |= {"canvas_mb": result.object.nbytes / 2**20, "r": result.data_residual}
    return found | {"timings_s": json.loads((out / "run.json").read_text("utf-8"))["timings_s"]}


def main() -> None:
    parser = frame.parser(__doc__)
    default = [frames_and_side(text) for text in SCANS]
    parser.add_argument("--scans", type=frames_and_side, nargs="*", default=default, metavar="FRAMESxPX")
    parser.add_argument("--effort", default="fast")
    parser.add_argument("--folder", type=Path, help="where the scans are written; a temporary one by default")
    parser.add_argument("--ranks", type=int, nargs="*", default=[1], help="1: one process with all cores")
    arguments = parser.parse_args()
    rows, data = [], []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for n_frames, frame_px in arguments.scans:
            path, out = folder / "scan.h5", folder / "out"
            pixels = n_frames * frame_px**2
            # As large as without compression, and the scratch file of the solver, of two bytes a pixel each.
            if shutil.disk_usage(folder).free < 4 * pixels + (4 << 30):
                print(f"{n_frames}x{frame_px} is left out: the disk has no room for it", flush=True)
                continue
            write_scan(path, n_frames, frame_px)
            for ranks in arguments.ranks:
                found = solved(path, out, ranks, arguments.effort)
                found |= {"frames": n_frames, "frame_px": frame_px}
                found |= {"scan": f"{n_frames}x{frame_px}" + (f", {ranks} ranks" if ranks > 1 else "")}
                found |= {"file_mb": path.stat().st_size / 2**20, "scratch_mb": 2 * pixels / 2**20}
                data.append(found)
                keys = ("file_mb", "scratch_mb", "canvas_mb", "own_mb", "peak_mb", "seconds", "processor_s")
                cells = [f"{found[key]:.0f}" for key in keys]
                cells += [f"{1e3 * found['seconds'] / n_frames:.2f}", f"{found['r']:.4f}"]
                rows.append([f"{n_frames:,}", str(frame_px), str(ranks), *cells])
                print(rows[-1], flush=True)
                shutil.rmtree(out)
            path.unlink()
    scans = " ".join(f"{frames}x{side}" for frames, side in arguments.scans)
    flags = f"--scans {scans} --effort {arguments.effort}"
    flags += f" --ranks {' '.join(map(str, arguments.ranks))}" if arguments.ranks != [1] else ""
    header = [
        "frames",
        "side, px",
        "ranks",
        "file, MB",
        "in two bytes a pixel, MB",
        "object, MB",
        "own memory, MB",
    ]
    header += ["peak with pages, MB", "s", "of processors, s", "ms a frame", "R"]
    text = "\n".join(
        [
            frame.opening("Scans larger than memory", f"nox -s bench -- large {flags} --write-docs"),
            "`ptycho reconstruct` of simulated rasters, frames as 16-bit counts, compressed by bitshuffle and LZ4; the "
            "whole process with imports, figures and files. Own memory is what cannot be taken back: it leaves out the "
            "mapped file in which the solver keeps its frames, two bytes a pixel, of which the system holds in memory "
            "what it has room for (the peak with pages counts all of that). One rank is one process with all cores; several "
            "have one thread each, and memory is that of the largest of them.",
            "",
            frame.markdown_table(header, rows),
            "",
        ]
    )
    figures = frame.figures(data, "scan", "seconds", "processor_s", "own_mb", "peak_mb", "r")
    frame.finish("large", arguments, text, {"cases": data}, figures)


if __name__ == "__main__":
    main()
