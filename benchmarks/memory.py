"""Peak memory and time: of `ptycho reconstruct siemens-star`, and of the solver as a scan on the disk grows.

    nox -s bench -- memory [--frames 1000 5000 20000] [--epochs N] [--against COMMIT] [--write-docs]

Every measured process is started by a bare interpreter of its own, since a process counts the peak of the one that
started it: a benchmark that had simulated a large scan would measure itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import frame

from ptycho_core.scan.held import HELD_BYTES
from ptycho_core.solver.frames import IN_MEMORY_BYTES

FRAME_PX = 64
FRAMES = (1000, 5000, 20000)
#: Waits for a command: seconds, peak MB, the most MB at once that were not pages of a file (Linux only), and seconds
#: of all processors. Of a command that starts others, as a launcher of ranks does, the MB are those of the largest.
LAUNCHER = """
import json, os, sys, time
began = time.perf_counter()
child = os.fork()
if not child:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execvp(sys.argv[1], sys.argv[1:])
def family():
    found = [child]
    for one in found:
        try:
            with open(f"/proc/{one}/task/{one}/children") as started:
                found += map(int, started.read().split())
        except OSError:
            pass
    return found
own = 0
while True:
    done, status, usage = os.wait4(child, os.WNOHANG)
    if done:
        break
    for one in family():
        try:
            with open(f"/proc/{one}/status") as lines:
                own = max([own, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
        except OSError:
            pass
    time.sleep(0.01)
processor = usage.ru_utime + usage.ru_stime
print(json.dumps([time.perf_counter() - began, usage.ru_maxrss / 1024, own / 1024, processor]))
sys.exit(os.waitstatus_to_exitcode(status))
"""
SIMULATE = (
    "import sys; from ptycho_core.io import save_scan; from ptycho_core.simulate import simulate_scan; "
    "made = simulate_scan(position_kind='raster', frames=int(sys.argv[2]), frame_px=int(sys.argv[3])); "
    "save_scan(made.scan, sys.argv[1])"
)
SOLVE = (
    "import sys; from ptycho_core.scan.lazy import LazyFrames; from ptycho_config.models import SolverConfig; "
    "from ptycho_config.execution import SolverExecutionConfig; from ptycho_core import open_scan, solve; "
    "scan = open_scan(sys.argv[1]); isinstance(scan.frames, LazyFrames) or sys.exit('the frames do not lie in the file'); "
    "epochs = int(sys.argv[2]); config = SolverConfig(epochs=epochs) if epochs else SolverConfig(); "
    "solve(scan, config, SolverExecutionConfig(arrays='numpy', accelerator='cpu'))"
)
COMMAND = ("-m", "ptycho_dispatch", "reconstruct", "siemens-star", "--quiet", "--output-dir")


def measure(*command: str) -> dict[str, float]:
    """Run a command and return its seconds, its peak and its own memory in MB, and its processors' seconds."""
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *command]
    found = json.loads(frame.run_child(launcher, str(command), without=("OMP_NUM_THREADS",)))
    return dict(zip(("seconds", "peak_mb", "own_mb", "processor_s"), found, strict=True))


def measure_command(target: Path, python: str = sys.executable) -> dict[str, float | str]:
    """Measure the main job as a user starts it: imports, solving, figures and files."""
    return {"work": "`ptycho reconstruct siemens-star`", **measure(python, *COMMAND, str(target))}


def command_against(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Take turns with another commit over the main job."""
    targets = (folder / f"turn-{number}" for number in count())
    return frame.against(
        arguments,
        {
            f"`ptycho reconstruct siemens-star`, {key}": lambda python, key=key: measure_command(
                next(targets), python
            )[key]
            for key in ("seconds", "own_mb")
        },
    )


def measure_solver(folder: Path, frames: int, epochs: int) -> dict[str, float | str]:
    """Measure opening and solving a scan that lies uncompressed on disk."""
    path = folder / f"{frames}.npz"
    frame.run_child([sys.executable, "-c", SIMULATE, path, str(frames), str(FRAME_PX)], "the simulation")
    work = f"`solve`, {frames} frames of {FRAME_PX} x {FRAME_PX}"
    copy = frames * FRAME_PX**2 * 4 / 2**20
    found = {"work": work, "file_mb": path.stat().st_size / 2**20, "float32_copy_mb": copy}
    found |= measure(sys.executable, "-c", SOLVE, str(path), str(epochs))
    path.unlink()
    return found


def report(command: str, rows: list[dict[str, float | str]]) -> str:
    """Write the table."""
    keys = ("file_mb", "float32_copy_mb", "peak_mb", "own_mb")
    cells = [
        [
            str(row["work"]),
            *(f"{row[key]:.0f}" if key in row else "-" for key in keys),
            f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    header = ["work, a whole process", "file, MB", "one float32 copy, MB", "peak, MB", "its own, MB", "s"]
    return f"""{frame.opening("Memory", command)}
Frames are read through a handle, block by block; of a scan up to {HELD_BYTES >> 20} MiB, as stored, they are held as
well. The solver's own copy is float32 in memory up to {IN_MEMORY_BYTES >> 20} MiB, else two bytes a pixel in a temporary file. The
peak counts pages of files, such as the libraries' code, which the system takes back when it needs them; "its own"
leaves those out (sampled every 10 ms).

{frame.markdown_table(header, cells)}
"""


def main() -> None:
    parser = frame.parser(__doc__, rounds=5, against=True)
    parser.add_argument("--frames", type=int, nargs="*", default=FRAMES)
    parser.add_argument("--epochs", type=int, default=0, help="of the solver; 0 for its default")
    arguments = parser.parse_args()
    command = " ".join(["nox -s bench -- memory", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as name:
        measure_command(Path(name, "warm"))  # the data set is fetched and unpacked once for good
        compared = command_against(arguments, Path(name)) if arguments.against else None
        rows = [measure_command(Path(name, "timed"))]
        for frames in arguments.frames:
            rows.append(measure_solver(Path(name), frames, arguments.epochs))
            print(rows[-1], file=sys.stderr, flush=True)
    figures = frame.figures(rows, "work", "peak_mb", "own_mb", "seconds")
    data = {"rows": rows, "against": compared}
    frame.finish("memory", arguments, report(command, rows), data, figures, against=compared)


if __name__ == "__main__":
    main()
