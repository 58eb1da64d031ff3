"""Peak memory: of `ptycho reconstruct siemens-star`, and of the solver as a memory-mapped scan grows.

nox -s bench -- memory [--write-docs]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from reports import host, markdown_table, write_report

from ptycho_core.io import save_scan
from ptycho_core.simulate import simulate_scan

FRAMES = (1000, 5000, 20000)
PEAK = (
    "import json, resource, sys, time; began = time.perf_counter(); {work}; "
    "print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter() - began]))"
)
COMMAND = "from ptycho_dispatch.cli import main; main(['reconstruct', 'siemens-star', '--quiet', '--output-dir', sys.argv[1]])"
SOLVE = (
    "from ptycho_core import open_scan, solve; from ptycho_config.models import SolverConfig; "
    "solve(open_scan(sys.argv[1]), SolverConfig(epochs=4))"
)


def measure(work: str, argument: Path) -> tuple[float, float]:
    """Return MB at the peak and seconds of a process that does the work."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(work=work), str(argument)],
        capture_output=True,
        text=True,
        check=True,
    )
    megabytes, seconds = json.loads(done.stdout.splitlines()[-1])
    return megabytes, seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        measure(COMMAND, Path(folder) / "warm")
        megabytes, seconds = measure(COMMAND, Path(folder) / "out")
        rows.append(
            [
                "`ptycho reconstruct siemens-star`, the whole process",
                "34",
                f"{megabytes:.0f}",
                f"{seconds:.1f}",
            ]
        )
        for count in FRAMES:
            path = Path(folder) / f"{count}.npz"
            save_scan(simulate_scan(position_kind="raster", frames=count).scan, path)
            megabytes, seconds = measure(SOLVE, path)
            size = path.stat().st_size / 2**20
            rows.append(
                [
                    f"solver, 4 epochs, {count} mapped frames of 64 x 64",
                    f"{size:.0f}",
                    f"{megabytes:.0f}",
                    f"{seconds:.1f}",
                ]
            )
            path.unlink()
    text = "\n".join(
        [
            "# Memory",
            "",
            f"`nox -s bench -- memory --write-docs`, on {host()}. The peak counts the pages of a mapped file that were "
            "read and can be taken back at any time; the solver keeps one float32 copy of the amplitudes besides.",
            "",
            markdown_table(["work", "file, MB", "peak, MB", "s"], rows),
            "",
        ]
    )
    print(text)
    write_report("memory", text, {"host": host(), "rows": rows}, docs=arguments.write_docs)


if __name__ == "__main__":
    main()
