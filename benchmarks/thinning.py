"""Dose thinning: train on a bright scan, image dim scans of objects never trained on.

    nox -s bench -- thinning [--seconds 240] [--write-docs]

N = 64. The bright scan has 1e6 photons a frame; the network sees it thinned. The solver gets the dim scans with
the true probe to start from, and a network trained on each dim scan itself is shown beside.
"""

from __future__ import annotations

import argparse

import numpy as np
from fidelity import scores
from reports import host, markdown_table, write_report

from ptycho_config.execution import PyTorchExecutionConfig, SolverExecutionConfig
from ptycho_config.models import SolverConfig, TrainingConfig
from ptycho_core import solve
from ptycho_core.backend import get_backend
from ptycho_core.simulate import simulate_scan

DOSES = (1e2, 1e3, 1e4)
OBJECTS = ("discs", "star")
COMMON = {
    "probe_kind": "focus",
    "position_kind": "spiral",
    "start_kind": "true",
    "overlap": 0.7,
    "frame_px": 64,
}
EXECUTION = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args()
    backend = get_backend("pytorch")
    bright = simulate_scan(object_kind="polygons", photons=1e6, frames=400, seed=11, **COMMON)
    rows, data = [], []
    for dose in DOSES:
        config = TrainingConfig(max_time=arguments.seconds, thin_to=dose)
        thinned = backend.train(bright.scan, config, EXECUTION)
        for kind in OBJECTS:
            dim = simulate_scan(object_kind=kind, photons=dose, frames=200, seed=3, **COMMON)
            network = thinned.reconstruct(dim.scan)
            own = backend.train(dim.scan, TrainingConfig(max_time=arguments.seconds / 4), EXECUTION)
            itself = own.reconstruct(dim.scan)
            solver = solve(dim.scan, SolverConfig(), SolverExecutionConfig(arrays="numpy"))
            errors = [
                scores(result.object, np.asarray(result.origin_px), dim)["error"]
                for result in (network, itself, solver)
            ]
            rows.append([f"{dose:.0e}", kind, *(f"{error:.3f}" for error in errors)])
            data.append({"dose": dose, "object": kind, "errors": errors})
            print(rows[-1], flush=True)
    flags = f"--seconds {arguments.seconds:g}" + (" --write-docs" if arguments.write_docs else "")
    text = "\n".join(
        [
            "# Dose thinning: imaging a dose that was never trained on, objects that were never seen",
            "",
            f"`nox -s bench -- thinning {flags}`, on {host()}.",
            "",
            f"Object error (1 = a transparent object), N = 64. The network is trained for {arguments.seconds:g} "
            "s a dose on one bright scan of polygons, thinned; the dim scans show other objects through the "
            f"same probe. Beside it: a network trained for {arguments.seconds / 4:g} s on the dim scan itself, "
            "and the solver from the true probe.",
            "",
            markdown_table(
                ["photons a frame", "object", "thinned bright scan", "dim scan itself", "solver"], rows
            ),
            "",
        ]
    )
    print(text)
    write_report("thinning", text, {"host": host(), "rows": data}, docs=arguments.write_docs)


if __name__ == "__main__":
    main()
