"""`ptycho data`: named real data sets."""

from __future__ import annotations

import argparse

from ptycho_dispatch.screen import say, tell
from ptycho_dispatch.table import print_table

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "ptycho data list",
    "ptycho data fetch siemens-star",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to do, and the name."""
    parser.add_argument("action", choices=("list", "fetch"), help="list the data sets, or fetch one")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the data set to fetch")


def run(arguments: argparse.Namespace) -> int:
    """List the data sets, or fetch one and show its licence notice."""
    from ptycho_config.errors import ConfigError
    from ptycho_core.datasets import DATASETS, dataset_names, fetch, licence_notice, locate

    if arguments.action == "list":
        rows = [
            (name, DATASETS[name].description, str(locate(name) or "not fetched yet"))
            for name in dataset_names()
        ]
        print_table("", ("name", "what it is", "where"), rows)
        return 0
    if arguments.name is None:
        raise ConfigError(f"`ptycho data fetch` needs a name: {', '.join(dataset_names())}.")
    path = fetch(arguments.name, progress=tell)
    for line in licence_notice(arguments.name).splitlines():
        say(line)
    say(f"{arguments.name}: {path}")
    return 0
