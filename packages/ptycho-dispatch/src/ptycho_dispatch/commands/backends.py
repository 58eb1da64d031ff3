"""`ptycho backends`: what is installed, and which devices it sees."""

from __future__ import annotations

import argparse

from ptycho_dispatch.screen import say
from ptycho_dispatch.table import print_table

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = ("ptycho backends",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def run(arguments: argparse.Namespace) -> int:
    """List the solver's arrays and the backends for networks."""
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
    return 0
