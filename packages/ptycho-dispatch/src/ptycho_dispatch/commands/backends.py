"""`ptycho backends`: what is installed, and which devices it sees."""

from __future__ import annotations

import argparse
import importlib.util

from ptycho_dispatch.screen import say
from ptycho_dispatch.table import print_table

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = ("ptycho backends",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def run(arguments: argparse.Namespace) -> int:
    """List the solver's arrays, the backends for networks, and the runtimes for exported networks."""
    from ptycho_core.arrays import array_libraries
    from ptycho_core.backend import discover_backends

    arrays = []
    for name, load in array_libraries().items():
        library = load()
        ready = library.available()
        devices = ("cpu, cuda" if library.sees_gpu() else "cpu") if ready else "-"
        arrays.append((name, "ready" if ready else "its package is not installed", devices))
    print_table("arrays of the solver", ("name", "state", "devices"), arrays)
    rows = []
    for name, backend in discover_backends().items():
        found = backend.availability()
        rows.append((name, "ready" if found.installed else found.reason, ", ".join(found.devices) or "-"))
    say()
    if rows:
        print_table("backends for networks", ("name", "state", "devices"), rows)
    else:
        say("backends for networks: none installed")
    say()
    print_table("runtimes for exported networks", ("name", "state", "devices"), _runtimes())
    return 0


def _runtimes() -> list[tuple[str, str, str]]:
    from ptycho_core.runtimes import RUNTIMES

    here = {name: importlib.util.find_spec(package) is not None for name, (package, _) in RUNTIMES.items()}
    return [
        (name, "ready" if here[name] else f"{package} not installed", "cpu" if here[name] else "-")
        for name, (package, _) in RUNTIMES.items()
    ]
