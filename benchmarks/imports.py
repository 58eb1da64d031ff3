"""Time and peak memory of the cheap commands: importing the configuration, and `ptycho --help`.

    nox -s bench -- imports [--runs 25] [--write-docs]

Each measured process is started by a bare interpreter of its own, since a process counts the peak of the one that
started it. Times are of the processor (user and system), so that other programs on the host count less; the
median of the runs, and the wall clock beside it.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import frame

RUNS = 25
LAUNCHER = """
import json, os, sys, time
began = time.perf_counter()
child = os.fork()
if not child:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - began
print(json.dumps([usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024]))
sys.exit(os.waitstatus_to_exitcode(status))
"""
#: What must not be loaded by any of them.
HEAVY = ("numpy", "scipy", "torch", "lightning", "tensorflow", "keras")
_LOADED = f"import sys; sys.exit(', '.join(sorted({set(HEAVY)!r} & set(sys.modules))) or 0)"
USE = "from ptycho_config import TrainingConfig, load; load(TrainingConfig, flags={'N': '128'})"
LEGACY = "from ptycho.config.config import ModelConfig as M, TrainingConfig as T; T(model=M(N=0))"
TORCH = "from ptycho_torch.config_params import *; DataConfig(), ModelConfig(), TrainingConfig()"
HELP = "from ptycho_dispatch.cli import main; main(['--help'])"


def cases() -> list[tuple[str, tuple[str, ...], str, float | None]]:
    """Name, command, the same as a statement, and the target in seconds of the processor."""
    python = (sys.executable, "-c")
    script = Path(sys.executable).with_name("ptycho")
    return [
        ("`python -c pass`", (*python, "pass"), "pass", None),
        ("`import ptycho_config`", (*python, "import ptycho_config"), "import ptycho_config", 0.3),
        ("a `TrainingConfig` loaded from flags", (*python, USE), USE, 0.3),
        ("the client's configs, `ptycho`", (*python, LEGACY), LEGACY, 0.4),
        ("the client's configs, `ptycho_torch`", (*python, TORCH), TORCH, 0.4),
        ("`ptycho --help`", (str(script), "--help"), HELP, 0.5),
    ]


def measure(command: tuple[str, ...]) -> list[float]:
    """Run a command; its seconds of processor and wall clock, and its peak memory in MB."""
    return json.loads(frame.run_child([sys.executable, "-S", "-c", LAUNCHER, *command], str(command)))


def require_light(statement: str) -> None:
    """Fail where a statement loads an array library or a framework."""
    frame.run_child(
        [sys.executable, "-c", f"{statement}\n{_LOADED}"], f"`{statement}` without {', '.join(HEAVY)}"
    )


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    rows, data = [], []
    for name, command, statement, target in cases():
        require_light(statement)
        measure(command)  # the files are in the system's cache from here on
        seconds, wall, peak = zip(*(measure(command) for _ in range(arguments.runs)), strict=True)
        found = {
            "case": name,
            "processor_s": statistics.median(seconds),
            "wall_s": statistics.median(wall),
            "peak_mb": max(peak),
            "target_s": target,
        }
        data.append(found)
        rows.append(
            (
                name,
                f"{found['processor_s']:.3f}",
                f"{min(seconds):.3f} to {max(seconds):.3f}",
                f"{found['wall_s']:.3f}",
                "-" if target is None else f"{target:g}",
                f"{found['peak_mb']:.0f}",
            )
        )
        print(*rows[-1], sep=" | ", flush=True)
    header = ("process", "processor, s", "range, s", "wall clock, s", "target, s", "peak, MB")
    runs = f"{arguments.runs} runs each, "
    text = "\n".join(
        [
            frame.opening("Imports", "nox -s bench -- imports --write-docs", note=runs),
            "Medians of whole processes, the interpreter's own start (first row) included; the peak is the highest of",
            f"all runs. None of them loads {', '.join(HEAVY[:-1])} or {HEAVY[-1]}.",
            "",
            frame.markdown_table(header, rows),
            "",
        ]
    )
    figures = frame.figures(data, "case", "processor_s", "peak_mb")
    frame.finish("imports", arguments, text, {"runs": arguments.runs, "cases": data}, figures)


if __name__ == "__main__":
    main()
