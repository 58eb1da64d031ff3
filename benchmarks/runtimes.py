"""An exported network in each runtime against its core: frames per second on the real scan, image and R.

    nox -s bench -- runtimes [--seconds 150] [--bundle FOLDER] [--write-docs]

A network is trained for so long, or taken from a bundle that was trained on `siemens-star`, and exported. Then
PyTorch, ONNX Runtime and OpenVINO image the scan in turn, each in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import frame
import numpy as np

from ptycho_config.errors import BackendUnavailableError, ConfigError
from ptycho_config.execution import PyTorchExecutionConfig, RuntimeExecutionConfig
from ptycho_config.models import SolverConfig, TrainingConfig
from ptycho_core import Scan, open_scan, solve
from ptycho_core.backend import get_backend
from ptycho_core.bundle import BUNDLE_FILE, ONNX_FILE, read_bundle
from ptycho_core.runtimes import load_exported

#: Method -> what computes, and in which precision.
METHODS = {
    "PyTorch, float32": ("pytorch", "32-true"),
    "PyTorch, bfloat16": ("pytorch", "bf16-mixed"),
    "ONNX Runtime, float32": ("onnx", "float32"),
    "OpenVINO, float32": ("openvino", "float32"),
    "OpenVINO, bfloat16": ("openvino", "bfloat16"),
}
CORE = "PyTorch, float32"
#: The first pass of a process loads and compiles.
_PASSES = 4


def trained_folder(seconds: float, bundle: Path | None, work: Path) -> None:
    """Put bundle, exported network and probe into a folder."""
    scan = open_scan("siemens-star")
    execution = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
    if bundle is None:
        scan = replace(scan, probe=solve(scan, SolverConfig()).probe)
        trained = get_backend("pytorch").train(scan, TrainingConfig(max_time=seconds, seed=0), execution)
        trained.save(work)
    else:
        shutil.copy(bundle / BUNDLE_FILE if bundle.is_dir() else bundle, work / BUNDLE_FILE)
    np.save(work / "probe.npy", read_bundle(work).probe_given)
    core: Any = get_backend("pytorch")
    difference = core.export(work, work / ONNX_FILE)
    print(f"exported; a patch differs by {difference:.1e} at most", flush=True)


def opened(method: str, folder: Path) -> Any:
    """Open the network as a method does."""
    computes, precision = METHODS[method]
    if computes == "pytorch":
        told = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none", precision=precision)  # pyright: ignore[reportArgumentType]
        return get_backend("pytorch").load(folder, told)
    return load_exported(folder, computes, RuntimeExecutionConfig(precision=precision))  # pyright: ignore[reportArgumentType]


def image_scan(method: str, folder: Path) -> dict[str, Any]:
    """Image the real scan; the best pass counts, as whatever else ran only slowed it down."""
    if METHODS[method] == METHODS["PyTorch, bfloat16"] and not has_bfloat16():
        return {"absent": "this processor does not compute in it, and PyTorch imitates it slowly"}
    scan = replace(open_scan("siemens-star"), probe=np.load(folder / "probe.npy"), probe_source="given")
    try:
        trained = opened(method, folder)
        results = [trained.reconstruct(scan) for _ in range(_PASSES)]
    except (BackendUnavailableError, ConfigError) as error:
        return {"absent": str(error)}
    np.save(folder / f"{method}.npy", results[-1].object)
    seconds = min(result.timings["network"] for result in results[1:])
    return {"frames/s": scan.n_frames / seconds, "R": results[-1].data_residual}


def has_bfloat16() -> bool:
    """Whether the processor says that it computes in bfloat16; yes where it cannot be asked."""
    about = Path("/proc/cpuinfo")
    return not about.exists() or re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", about.read_text()) is not None


def in_a_process(method: str, folder: Path) -> dict[str, Any]:
    """Do so where no other runtime's threads wait."""
    printed = frame.run_child([sys.executable, __file__, "--one", method, "--folder", folder], method)
    return json.loads(printed.splitlines()[-1])


def rows_of(found: dict[str, list[dict[str, Any]]], folder: Path) -> list[list[str]]:
    """One row a method: medians over the rounds, and the median ratio to the core, round by round."""
    rows = []
    for method, runs in found.items():
        if "absent" in runs[0]:
            rows.append([method, runs[0]["absent"], "-", "-", "-"])
            continue
        ratios = [run["frames/s"] / core["frames/s"] for run, core in zip(runs, found[CORE], strict=True)]
        speed = statistics.median(run["frames/s"] for run in runs)
        differs = np.abs(np.load(folder / f"{method}.npy") - np.load(folder / f"{CORE}.npy")).max()
        difference = "-" if method == CORE else f"{differs:.1e}"
        rows.append(
            [method, f"{speed:.0f}", f"{statistics.median(ratios):.2f}", f"{runs[0]['R']:.4f}", difference]
        )
    return rows


def measure(arguments: Any, folder: Path) -> None:
    """Train, export, take turns, and finish."""
    trained_folder(arguments.seconds, arguments.bundle, folder)
    methods: dict[str, Callable[[], dict[str, Any]]] = {
        method: partial(in_a_process, method, folder) for method in METHODS
    }
    found = frame.take_turns(arguments.rounds, methods, note=lambda name, run: print(name, run, flush=True))
    rows = rows_of(found, folder)
    header = ["what computes", "frames/s", "times PyTorch float32", "R", "largest difference of a pixel"]
    size_mb = (folder / ONNX_FILE).stat().st_size / 1e6
    flags = [f"--seconds {arguments.seconds:g}"] if arguments.bundle is None else ["--bundle FOLDER"]
    scan: Scan = open_scan("siemens-star")
    text = "\n".join(
        [
            frame.opening(
                "An exported network in each runtime", frame.command("runtimes", arguments, *flags)
            ),
            f"Siemens star, {scan.n_frames} frames of {scan.frame_px} px; `unet`, exported by `ptycho export` "
            f"({size_mb:.1f} MB). Frames a second from the scan in memory to the stitched image, on all "
            f"{len(os.sched_getaffinity(0))} cores: of a process the best of {_PASSES - 1} passes after the "
            f"first, of {arguments.rounds} rounds in turn the median. A transparent object is 1.",
            "",
            frame.markdown_table(header, rows),
            "",
        ]
    )
    figures = {
        f"{method}, {key}": statistics.median(run[key] for run in runs)
        for method, runs in found.items()
        if "absent" not in runs[0]
        for key in ("frames/s", "R")
    }
    frame.finish("runtimes", arguments, text, {"runs": found}, figures)


def main() -> None:
    parser = frame.parser(__doc__, rounds=3)
    parser.add_argument("--seconds", type=float, default=150.0, help="of training (150)")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="trained on siemens-star before")
    parser.add_argument("--one", choices=METHODS, help="what a process of its own runs")
    parser.add_argument("--folder", type=Path, help="where it finds the network")
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(image_scan(arguments.one, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


if __name__ == "__main__":
    main()
