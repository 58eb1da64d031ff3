"""One scan over several ranks against one process: image, seams, bytes, memory, time; and scaling on paper.

    nox -s bench -- ranks [--ranks 1 2 3 4 8] [--frames 20000] [--seeds 6] [--cases NAME ...] [--skip-large]
        [--write-docs]

Another seed alone moves the error of one process by several per cent, so each number of ranks is run with the same
seeds, and the means are compared; how far the seeds of one process lie apart stands beside it.
Every rank has one thread, and there may be more ranks than cores; then only images, bytes and memory say something.
The large scan compares times: two ranks of one thread against one process of two threads and one of one.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import frame
import numpy as np
from cases import build_case

from ptycho_core import Reconstruction, open_scan
from ptycho_core.arrays.numpy_arrays import NumpyArrays
from ptycho_core.io import save_scan
from ptycho_core.kernel import Steps, load_kernel
from ptycho_core.metrics import compare
from ptycho_core.simulate import simulate_scan
from ptycho_core.solver.batches import Batch, cut_evenly
from ptycho_core.solver.frames import OrderedFrames
from ptycho_core.solver.level import Level

RUN = Path(__file__).parent / "ranks_run.py"
RANKS, SEEDS = (1, 2, 3, 4, 8), 6
CASES = ("centre", "object star", "frames 400", "two modes", "background 10%", "positions raster")
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

# On paper
FRAMES_ON_PAPER, STEP_PX = 1_000_000, {64: 8.0, 128: 12.0, 256: 24.0}
RANKS_ON_PAPER = (1, 4, 16, 64, 256, 512)
LATENCY_S, GBITS = 5e-6, (25, 200)
#: Epochs of the coarse, middle and full level of a bright scan with the usual effort, and steps with the prior.
EPOCHS, PRIOR_STEPS, ROUNDS, MARGIN_PX = (25, 5, 6), 8, 12, 4


def mpiexec() -> list[str]:
    """Return the words that start ranks; ends the program where there is no MPI."""
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        sys.exit("This benchmark needs an MPI: `pip install mpi4py mpich`.")
    return [found]


def run(scan: str, count: int, out: Path, *, threads: int = 1, **settings: Any) -> dict[str, Any]:
    """Solve a scan on so many ranks, each a process with so many threads; return what rank 0 tells."""
    words = [sys.executable, str(RUN), scan, str(out), str(threads), json.dumps(settings)]
    launch = [] if count == 1 else [*mpiexec(), "-n", str(count)]
    set_variables = ["env", *(f"{key}={value}" for key, value in QUIET.items())]
    return json.loads(
        frame.run_child([*set_variables, *launch, *words], f"{scan} on {count} ranks", quiet=True)
    )


def seam(result: Reconstruction, reference: Reconstruction, edges: list[list[int]]) -> tuple[float, float]:
    """Return the root mean square difference along the borders of tiles, and elsewhere, where it is bright.

    Args:
        edges: [top, left, bottom, right] of each tile, and of what belongs to each rank, on the canvas.
    """
    found = compare(result, reference)
    off = np.abs(found.aligned - found.truth)
    lines = np.zeros(result.object.shape, bool)
    for top, left, bottom, right in edges:
        rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
        for row in (top, bottom):
            if 2 < row < lines.shape[0] - 2:
                lines[row - 2 : row + 2, columns] = True
        for column in (left, right):
            if 2 < column < lines.shape[1] - 2:
                lines[rows, column - 2 : column + 2] = True
    corner = np.rint(found.window_origin_px - result.origin_px).astype(int)
    box = tuple(slice(at, at + side) for at, side in zip(corner, off.shape, strict=True))
    on, bright = lines[box], (result.coverage > 0.3)[box]
    inside, beside = off[on & bright], off[~on & bright]
    rms = [float(np.sqrt(np.mean(part**2))) if part.size else math.nan for part in (inside, beside)]
    return rms[0], rms[1]


def images(arguments: Any, folder: Path) -> list[dict[str, Any]]:
    """Solve the star and the simulated scans on every number of ranks, with every seed."""
    rows = []
    for name in ("siemens-star", *arguments.cases):
        place, truth, modes = name, None, 1
        if name != "siemens-star":
            made = build_case(name)
            place, truth, modes = str(folder / "scan.npz"), made.obj, 2 if name == "two modes" else 1
            save_scan(made.scan, place)
        alone: dict[int, Reconstruction] = {}
        one: dict[str, Any] = {}
        # One process comes first: the others are held against it.
        for count in sorted({1, *arguments.ranks}):
            rs: list[float] = []
            errors: list[float] = []
            row: dict[str, Any] = {"scan": name, "ranks": count, "rs": rs, "errors": errors}
            for seed in range(arguments.seeds):
                out = folder / f"ranks-{count}-{seed}"
                told = run(place, count, out, probe_modes=modes, seed=seed)
                result = Reconstruction.load(out)
                if count == 1 and seed < 2:
                    alone[seed] = result
                rs.append(told["r"])
                if truth is not None:
                    errors.append(compare(result, truth).values["object_error"])
                if seed:
                    continue
                row |= {"r": told["r"], "epochs": told["epochs"], "steps_back": told["steps_back"]}
                row["mb"] = max(told["sent_mb"])
                if count > 1:
                    row["on_borders"], row["elsewhere"] = seam(result, alone[0], told["tiles"])
                    # What chance alone does in the same pixels: another seed, in one process.
                    if 1 in alone:
                        row["chance_there"], row["chance_elsewhere"] = seam(alone[1], alone[0], told["tiles"])
            one = row if count == 1 else one
            row["off_r"] = float(np.mean(rs) - np.mean(one["rs"]))
            if errors:
                row["error"] = errors[0]
                row |= against_one(np.array(errors), np.array(one["errors"]))
            rows.append(row)
            print(row, flush=True)
    return rows


def against_one(errors: np.ndarray, of_one: np.ndarray) -> dict[str, float]:
    """Return by which part the mean error exceeds that of one process, and the standard error of that part.

    Args:
        errors, of_one: (S,) object errors with S seeds, on some ranks and in one process.
    """
    off = float(errors.mean() / of_one.mean() - 1)
    if len(errors) < 2:
        return {"off": off}
    spread = [values.std(ddof=1) / values.mean() / math.sqrt(len(values)) for values in (errors, of_one)]
    return {"off": off, "off_error": float(np.hypot(*spread))}


def large(arguments: Any, folder: Path) -> list[dict[str, Any]]:
    """Time a scan of many frames on one process of one and two threads, and on ranks."""
    place = folder / "large.npz"
    made = simulate_scan(position_kind="raster", frames=arguments.frames, frame_px=64, photons=1e5)
    save_scan(made.scan, place)
    rows = []
    for count, threads in ((1, 1), (1, 2), (2, 1), (4, 1), (8, 1)):
        told = run(str(place), count, folder / "large", threads=threads, epochs=arguments.epochs)
        rows.append(
            {
                "ranks": count,
                "threads": threads,
                **told,
                "mb_per_epoch": max(told["sent_mb"]) / told["epochs"],
            }
        )
        print({key: value for key, value in rows[-1].items() if key != "tiles"}, flush=True)
    return rows


def seconds_per_frame(size_px: int) -> float:
    """Measure how long one thread takes for a frame in an epoch."""
    random, count = np.random.default_rng(0), max(48, (1 << 21) // size_px**2)
    side = math.ceil(math.sqrt(count))
    positions = np.stack(np.divmod(np.arange(count), side), axis=1) * size_px / 10 + random.uniform(
        0, 1, (count, 2)
    )
    amplitude = np.abs(random.normal(10, 3, (count, size_px, size_px))).astype(np.float32)
    arrays = NumpyArrays(threads=1)
    arrays.kernel = load_kernel().library
    whole = slice(0, count)
    level = Level(
        OrderedFrames(amplitude, None, positions),
        arrays,
        batches=[Batch(part, whole) for part in cut_evenly(whole, max(1, count // 24))],
        size_px=size_px,
        background=0.0,
        softening=1e-3,
        object_floor=0.05,
    )
    axis = np.arange(size_px) - size_px // 2
    level.start(
        (100 * np.exp(-(axis[:, None] ** 2 + axis**2) / (size_px / 6) ** 2))[None].astype(np.complex64)
    )
    steps, best = Steps(0.1, 0.1, 0.5, 0.5), math.inf
    for _ in range(3):
        began = time.perf_counter()
        for index in range(len(level.batches)):
            level.step(index, steps)
        best = min(best, (time.perf_counter() - began) / count)
    return best


def on_paper(frame_px: int, ranks: int, gbits: float, cost: dict[int, float]) -> dict[str, float]:
    """Return seconds of compute and of talk on so many ranks of one core, and their parts of the whole."""
    each, bytes_per_s = FRAMES_ON_PAPER / ranks, gbits * 1e9 / 8
    compute = talk = sent = 0.0
    for part, epochs in zip((0.5, 0.75, 1.0), EPOCHS, strict=True):
        size = int(frame_px * part)
        compute += epochs * each * cost[size]
        shared = _shared_px(size, each, part * STEP_PX[frame_px]) if ranks > 1 else 0.0
        # Object and velocity, and the light; the probe and its velocity as a sum in two halves.
        n_bytes = 20 * shared + 2 * 2 * 8 * size**2 * (ranks > 1)
        sent += epochs * ROUNDS * n_bytes
        talk += (
            epochs * ROUNDS * (n_bytes / bytes_per_s + LATENCY_S * (8 + 4 * math.log2(ranks)) * (ranks > 1))
        )
    shared = _shared_px(frame_px, each, STEP_PX[frame_px]) if ranks > 1 else 0.0
    compute += PRIOR_STEPS * each * cost[frame_px]
    n_bytes = 32 * shared + 2 * 8 * frame_px**2 * (ranks > 1)
    sent += PRIOR_STEPS * n_bytes
    talk += PRIOR_STEPS * (n_bytes / bytes_per_s + LATENCY_S * 30 * math.log2(max(2, ranks)) * (ranks > 1))
    # What all ranks do alike: the search of a start probe; and what rank 0 does alone: laying the tiles together.
    alike = 18 * 3 * 120 * cost[int(frame_px * 0.5)]
    canvas_bytes = 12 * FRAMES_ON_PAPER * STEP_PX[frame_px] ** 2
    alone = canvas_bytes / bytes_per_s * (ranks > 1)
    total = compute + talk + alike + alone
    return {
        "compute_s": compute,
        "talk_s": talk,
        "alike_s": alike,
        "first_s": alone,
        "total_s": total,
        "mb_per_epoch": sent / 1e6 / sum(EPOCHS),
    }


def _shared_px(size_px: int, frames: float, step_px: float) -> float:
    """Return the pixels of a square tile that it sends to its eight neighbours."""
    side, rim = math.sqrt(frames) * step_px, size_px + 2 * MARGIN_PX
    return 4 * side * rim + 4 * rim**2


def tables(data: dict[str, Any]) -> list[str]:
    """Return the tables of the page."""
    lines = ["## The image", ""]
    header = [
        "scan",
        "ranks",
        "R",
        "mean R to one process",
        "object error",
        "of all seeds",
        "mean to one process",
        "difference on borders",
        "elsewhere",
        "of two seeds there",
        "elsewhere",
        "epochs",
        "MB sent by a rank",
    ]
    rows = [
        [
            row["scan"],
            str(row["ranks"]),
            f"{row['r']:.4f}",
            f"{row['off_r']:+.4f}" if row["ranks"] > 1 else "",
            f"{row['error']:.4f}" if "error" in row else "",
            f"{min(row['errors']):.4f} to {max(row['errors']):.4f}" if row["errors"] else "",
            _per_cent(row) if row["ranks"] > 1 else "",
            f"{row['on_borders']:.4f}" if "on_borders" in row else "",
            *(
                f"{row[key]:.4f}" if key in row else ""
                for key in ("elsewhere", "chance_there", "chance_elsewhere")
            ),
            str(row["epochs"]),
            f"{row['mb']:.1f}",
        ]
        for row in data["images"]
    ]
    lines += [frame.markdown_table(header, rows), ""]
    if data["large"]:
        lines += [f"## {data['frames']} frames of 64 x 64 px", ""]
        header = [
            "ranks",
            "threads",
            "solve, s",
            "R",
            "peak memory of a rank, MB",
            "MB an epoch and rank",
            "waited, s",
        ]
        rows = [
            [
                str(row["ranks"]),
                str(row["threads"]),
                f"{row['seconds']:.1f}",
                f"{row['r']:.4f}",
                f"{max(row['peak_mb']):.0f}",
                f"{row['mb_per_epoch']:.1f}",
                f"{max(row['waited_s']):.1f}",
            ]
            for row in data["large"]
        ]
        lines += [frame.markdown_table(header, rows), ""]
    lines += [f"## {FRAMES_ON_PAPER:,} frames on paper", ""]
    header = ["N", "Gbit/s", "ranks", "compute, s", "talk, s", "alike, s", "rank 0 alone, s", "efficiency"]
    rows = [
        [
            str(row["frame_px"]),
            str(row["gbits"]),
            str(row["ranks"]),
            *(f"{row[key]:.1f}" for key in ("compute_s", "talk_s", "alike_s", "first_s")),
            f"{100 * row['efficiency']:.0f} %",
        ]
        for row in data["paper"]
    ]
    lines += [frame.markdown_table(header, rows), ""]
    return lines


def _per_cent(row: dict[str, Any]) -> str:
    """Return by how many per cent the mean error is another than that of one process, and how sure that is."""
    if "off" not in row:
        return ""
    return f"{100 * row['off']:+.1f} %" + (f" ± {100 * row['off_error']:.1f}" if "off_error" in row else "")


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--ranks", type=int, nargs="*", default=RANKS)
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"with which each image is made ({SEEDS})")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--skip-large", action="store_true")
    arguments = parser.parse_args()
    cost = {int(n * part): seconds_per_frame(int(n * part)) for n in (128, 256) for part in (0.5, 0.75, 1.0)}
    print({size: f"{1e6 * seconds:.0f} us" for size, seconds in cost.items()}, flush=True)
    paper = []
    for size in (128, 256):
        for gbits in GBITS:
            one = on_paper(size, 1, gbits, cost)["total_s"]
            for count in RANKS_ON_PAPER:
                found = on_paper(size, count, gbits, cost)
                paper.append({"frame_px": size, "gbits": gbits, "ranks": count, **found})
                paper[-1]["efficiency"] = one / (count * found["total_s"])
    with tempfile.TemporaryDirectory() as name:
        found_images = images(arguments, Path(name))
        found_large = [] if arguments.skip_large else large(arguments, Path(name))
    data = {"images": found_images, "large": found_large, "paper": paper, "frames": arguments.frames}
    data["seconds_per_frame"] = cost
    note = (
        f"Each rank is a process of one thread. Every image is made with {arguments.seeds} seeds: R, object error, the "
        "differences and all behind them are of the first, whose differences are to the image of one process, along "
        "the borders of the tiles and in all other illuminated pixels. Another seed alone moves the object error by "
        "several per cent, in one process too (`of all seeds`, in the rows of one rank), so what the ranks add is seen "
        "in the means over the seeds, which stand with their standard error. On paper: measured seconds of a frame, "
        "the bytes of the halos and of the probe as they are counted, a latency of "
        f"{1e6 * LATENCY_S:.0f} us a message."
    )
    flags = f"--ranks {' '.join(map(str, arguments.ranks))} --frames {arguments.frames} --seeds {arguments.seeds} --write-docs"
    text = "\n".join(
        [
            frame.opening("One scan over several ranks", f"nox -s bench -- ranks {flags}"),
            note,
            "",
            *tables(data),
        ]
    )
    errors = [row for row in found_images if "error" in row]
    figures = frame.figures(found_images, ("scan", "ranks"), "r") | frame.figures(
        errors, ("scan", "ranks"), "error", "off"
    )
    frame.finish("ranks", arguments, text, data, figures)


if __name__ == "__main__":
    # A scan of the data sets is opened once here, so that no rank fetches it.
    open_scan("siemens-star")
    main()
