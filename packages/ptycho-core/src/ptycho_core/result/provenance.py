"""What `run.json` says about how a result came to be: versions, hardware, inputs, configuration."""

from __future__ import annotations

import datetime
import os
import platform
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.citations import cited
from ptycho_core.cores import usable_cores
from ptycho_core.scan import Scan

__all__ = ["run_provenance", "solver_provenance", "versions"]

_PACKAGES = (
    "ptycho-config",
    "ptycho-core",
    "ptycho-core-torch",
    "ptycho-core-tf",
    "ptycho-dispatch",
    "numpy",
    "scipy",
    "torch",
    "lightning",
    "tensorflow",
    "keras",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result; absent ones are left out."""
    return {"python": platform.python_version(), **dict(_installed())}


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    """Package and version, read once in a process.

    Of the metadata the one line is looked for: to parse the whole, with everybody's README, takes a hundredth
    of a second.
    """
    found = []
    for package in _PACKAGES:
        try:
            installed = distribution(package)
        except PackageNotFoundError:
            continue
        line = re.search(r"^Version: *(\S+)", installed.read_text("METADATA") or "", re.MULTILINE)
        found.append((package, line[1] if line else installed.version))
    return tuple(found)


def hardware() -> dict[str, Any]:
    """Machine, operating system and the cores this process may use."""
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": usable_cores(),
        "cores_of_machine": os.cpu_count(),
    }


def run_provenance(scan: Scan) -> dict[str, Any]:
    """Return the entries of `run.json` that every run has: when, from what, by which versions, where.

    Warns, once, where the file of the scan has changed since it was opened.
    """
    sha256 = scan.source_sha256
    changed = "" if scan.origin is None else scan.origin.warn_if_changed()
    return {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "input": {
            "scan": scan.name,
            "file": None if scan.source is None else scan.source.name,
            "sha256": sha256,
            "changed_since": changed or None,
            "measurement": scan.measurement,
            "dc": scan.dc,
            "probe_source": scan.probe_source,
            "ground_truth": scan.ground_truth is not None or scan.patch_truth is not None,
            "notes": list(scan.notes),
        },
        "versions": versions(),
        "hardware": hardware(),
    }


def solver_provenance(
    scan: Scan, config: SolverConfig, execution: SolverExecutionConfig, choice: dict[str, Any]
) -> dict[str, Any]:
    """Return the entries of `run.json` that the solver knows."""
    return {
        **run_provenance(scan),
        "configuration": {"solver": config.model_dump(mode="json")},
        "execution": {"requested": execution.model_dump(mode="json"), "resolved": choice},
        "papers": cited(solver=config),
    }
