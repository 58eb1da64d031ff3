"""The compiled step on several cores: time by threads, beside other work, and what the threads share.

    nox -s bench -- threads [--rounds 5] [--write-docs]

The real scan is solved without a prior by one thread and by two, and by as many threads as there are cores while as many
other processes want the cores as there are; every run is a process of its own, and all take turns. What threads share is
counted, not measured: how often all wait for all, and the bytes that are written by one thread and read by another, for
as many threads as hosts have.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import frame

from ptycho_core.cores import usable_cores
from ptycho_core.solver.shifts import DEGREE

BAR = 2.3
BUSY = "while True: sum(range(10**6))"
COUNTED = (1, 2, 8, 32, 64)
#: A batch of the full level of the real scan: frames, side, probe modes, canvas pixels of the window.
BATCH, SIDE_PX, CANVAS_PX = 24, 128, 500 * 500


def once(threads: int) -> float:
    """Solve the real scan with so many threads; seconds of the levels."""
    from ptycho_config.execution import SolverExecutionConfig
    from ptycho_config.models import SolverConfig
    from ptycho_core import open_scan, solve

    scan = open_scan("siemens-star")
    execution = SolverExecutionConfig(arrays="numpy", kernel="required", threads=threads)
    solve(scan.select(slice(0, 40)), SolverConfig(prior="none", epochs=2), execution)
    result = solve(scan, SolverConfig(prior="none"), execution)
    return sum(seconds for name, seconds in result.timings.items() if name.startswith("level_"))


def in_a_process(threads: int, competitors: int) -> float:
    """The same in a process of its own, while others keep as many cores busy."""
    with ExitStack() as stack:
        for _ in range(competitors):
            other = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(other.kill)
        if competitors:
            time.sleep(0.5)
        told = frame.run_child([sys.executable, __file__, "--only", str(threads)], f"{threads} threads")
    return float(json.loads(told.splitlines()[-1]))


def shared(threads: int) -> dict[str, int]:
    """How often the threads of a step wait for all, and the bytes that one writes and others read.

    Counted from `kernel/fused.c`: all wait when the basis is made, when the frames are explained, and when the gradients
    of the probe are added up. The basis is made by all and read by all; each has a gradient by the basis of its own, which
    is read once; the object's gradients of the frames are read by whoever moves their rows.
    """
    used = max(1, min(threads, BATCH // 2))
    functions, plane = (DEGREE + 1) * (DEGREE + 2) // 2, 8 * SIDE_PX**2
    return {
        "used": used,
        "waits": 3 if used > 1 else 0,
        "basis": functions * plane,
        "gradients": used * functions * plane,
        "object": BATCH * plane + 8 * CANVAS_PX,
        "frames": BATCH * plane // 2,
    }


def main() -> None:
    parser = frame.parser(__doc__, rounds=5)
    parser.add_argument("--only", type=int, metavar="THREADS", help="one run, as JSON")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(once(arguments.only)))
        return
    cores = usable_cores()
    methods = {(threads, 0): partial(in_a_process, threads, 0) for threads in range(1, cores + 1)}
    methods[cores, cores] = partial(in_a_process, cores, cores)
    found = frame.take_turns(
        arguments.rounds, methods, back_and_forth=True, note=lambda key, value: print(key, value, flush=True)
    )
    one = statistics.median(found[1, 0])
    rows = [
        [
            str(threads),
            str(others),
            f"{statistics.median(times):.2f}",
            f"{one / statistics.median(times):.2f}",
        ]
        for (threads, others), times in found.items()
    ]
    ratios = [busy / quiet for busy, quiet in zip(found[cores, cores], found[cores, 0], strict=True)]
    text = report(arguments, rows, statistics.median(ratios))
    medians = [
        {"run": f"{threads} threads, {others} others", "seconds": statistics.median(times)}
        for (threads, others), times in found.items()
    ]
    runs = {f"{threads}, {others}": times for (threads, others), times in found.items()}
    frame.finish("threads", arguments, text, {"runs": runs}, frame.figures(medians, "run", "seconds"))


def report(arguments: Any, rows: list[list[str]], ratio: float) -> str:
    counted = [
        [
            str(threads),
            str(parts["used"]),
            str(parts["waits"]),
            *(f"{parts[name] / 2**20:.1f}" for name in ("basis", "gradients", "object", "frames")),
        ]
        for threads in COUNTED
        for parts in [shared(threads)]
    ]
    return "\n".join(
        [
            frame.opening("The compiled step on several cores", frame.command("threads", arguments)),
            f"The real scan without a prior, seconds of its levels, medians of {arguments.rounds} rounds.",
            "",
            frame.markdown_table(["threads", "other busy processes", "s", "times one thread"], rows),
            "",
            f"With as many busy processes as cores it takes {ratio:.2f} times as long as on the quiet host (median of the",
            f"rounds; a fair share of the cores is 2, the bar {BAR:g}).",
            "",
            f"What a batch of {BATCH} frames of {SIDE_PX} px and one mode shares, counted from the source:",
            "",
            frame.markdown_table(
                [
                    "threads",
                    "of use",
                    "waits for all",
                    "basis, MiB",
                    "gradients by it, MiB",
                    "object, MiB",
                    "frames read, MiB",
                ],
                counted,
            ),
            "",
            "A thread has two frames at least, so a batch of 24 keeps no more than 12 of them busy: on a host with many cores",
            "several scans at a time, or `frames_per_batch` as many more, use the rest.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
