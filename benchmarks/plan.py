"""What `ptycho inspect --plan` foretells, beside what the same run then needs.

    nox -s bench -- plan [--only star fast ...] [--write-docs]

Each scan is planned, and reconstructed by a process of its own. "Own memory" is the most that was not pages of a
file at any time.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import frame
from large import FLAGS, write_scan
from memory import measure

SIMULATE = (
    "import sys; from ptycho_core.io import save_scan; from ptycho_core.simulate import simulate_scan; "
    "made = simulate_scan(frames=int(sys.argv[2]), frame_px=int(sys.argv[3]), photons=float(sys.argv[4])); "
    "save_scan(made.scan, sys.argv[1])"
)


@dataclass(frozen=True)
class Case:
    """A scan and the settings of its run.

    Attributes:
        scan: a data set by name, or frames, side and photons of a simulated one.
        written: as `large` writes it, block by block.
    """

    name: str
    scan: str | tuple[int, int, float]
    flags: tuple[str, ...] = ()
    written: bool = False


CASES = (
    Case("star", "siemens-star"),
    Case("star, fast", "siemens-star", ("--effort", "fast")),
    Case("star, three modes", "siemens-star", ("--probe-modes", "3")),
    Case("star, positions", "siemens-star", ("--refine-positions", "true")),
    Case("100 frames of 64 px", (100, 64, 1e6)),
    Case("400 frames of 128 px", (400, 128, 1e6)),
    Case("200 frames of 64 px, 1e3 photons", (200, 64, 1e3)),
    Case("3,000 frames of 64 px", (3000, 64, 1e6)),
    Case("20,000 frames of 64 px, fast", (20000, 64, 1e5), ("--effort", "fast"), written=True),
    Case("20,000 frames of 128 px, fast", (20000, 128, 1e5), ("--effort", "fast"), written=True),
    Case("50,000 frames of 64 px", (50000, 64, 1e5), (), written=True),
)


def command_of(case: Case, folder: Path) -> list[str]:
    """Make the scan, and return it with the flags of its run."""
    if isinstance(case.scan, str):
        return [case.scan, *case.flags]
    n_frames, side, photons = case.scan
    if case.written:
        path = folder / "scan.h5"
        write_scan(path, n_frames, side)
        return [str(path), *(flag for flag in FLAGS if flag != "--quiet"), *case.flags]
    path = folder / "scan.npz"
    frame.run_child([sys.executable, "-c", SIMULATE, path, str(n_frames), str(side), str(photons)], case.name)
    return [str(path), *case.flags]


def compared(case: Case, folder: Path) -> dict[str, Any]:
    """Plan a run and do it."""
    words, out, told = command_of(case, folder), folder / "out", folder / "plan.json"
    ptycho = [sys.executable, "-m", "ptycho_dispatch"]
    frame.run_child([*ptycho, "inspect", *words, "--plan", "--json", str(told)], case.name)
    plan = json.loads(told.read_text("utf-8"))
    # What the plan cannot know is left out: whether the verdict asks for a second look.
    run = [*ptycho, "reconstruct", *words, "--diagnose", "off", "--quiet", "--output-dir", str(out)]
    found = measure(*run)
    record = json.loads((out / "run.json").read_text("utf-8"))
    frames_mb = [event["data"]["bytes"] / 2**20 for event in record["events"] if event["kind"] == "room"]
    return {
        "case": case.name,
        "told_s": plan["total_s"],
        "seconds": found["seconds"],
        "time_ratio": plan["total_s"] / found["seconds"],
        "told_mb": plan["memory_bytes"] / 2**20,
        "own_mb": found["own_mb"],
        "memory_ratio": plan["memory_bytes"] / 2**20 / found["own_mb"],
        "told_frames_mb": plan["frames_bytes"] / 2**20 if plan["frames_in_file"] else 0.0,
        "frames_mb": frames_mb[-1] if frames_mb else 0.0,
        "plan": plan,
        "timings_s": record["timings_s"],
    }


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--only", nargs="*", help="names of cases; all by default")
    arguments = parser.parse_args()
    cases = [case for case in CASES if not arguments.only or case.name in arguments.only]
    data: list[dict[str, Any]] = []
    for case in cases:
        with tempfile.TemporaryDirectory() as name:
            data.append(compared(case, Path(name)))
        kept = {key: value for key, value in data[-1].items() if key not in ("plan", "timings_s")}
        print(json.dumps(kept), flush=True)
    rows = [
        [
            row["case"],
            f"{row['told_s']:.1f}",
            f"{row['seconds']:.1f}",
            f"{row['time_ratio']:.2f}",
            f"{row['told_mb']:.0f}",
            f"{row['own_mb']:.0f}",
            f"{row['memory_ratio']:.2f}",
            f"{row['told_frames_mb']:.0f}",
            f"{row['frames_mb']:.0f}",
        ]
        for row in data
    ]
    header = ["scan", "time told, s", "taken, s", "told / taken", "memory told, MB", "own memory, MB"]
    header += ["told / own", "frames in a file told, MB", "were, MB"]
    off = [math.exp(abs(math.log(row["time_ratio"]))) for row in data]
    text = "\n".join(
        [
            frame.opening("What a plan foretells", frame.command("plan", arguments)),
            "`ptycho inspect --plan` and then `ptycho reconstruct --diagnose off` of the same scan with the same settings, "
            "the whole process with imports, figures and files. Own memory is what cannot be taken back.",
            "",
            frame.markdown_table(header, rows),
            "",
            f"Times are off by a factor of {statistics.median(off):.2f} in the median and {max(off):.2f} at most.",
            "",
        ]
    )
    figures = frame.figures(data, "case", "time_ratio", "memory_ratio")
    frame.finish("plan", arguments, text, {"cases": data}, figures)


if __name__ == "__main__":
    main()
