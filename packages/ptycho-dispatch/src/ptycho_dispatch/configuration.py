"""`ptycho config`: the configuration in force with the source of each value, or its JSON schema."""

from __future__ import annotations

import argparse
import json

from ptycho_dispatch.settings import PARTS, add_settings, read_settings
from ptycho_dispatch.table import print_table

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "ptycho config show --effort fast",
    "ptycho config show --config settings.yaml",
    "ptycho config schema",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to show, and every flag of `ptycho reconstruct`."""
    parser.add_argument("action", choices=("show", "schema"), help="the values in force, or the JSON schema")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print field, value and source; or the schema."""
    if arguments.action == "schema":
        print(
            json.dumps(
                {part.model_class.__name__: part.model_class.model_json_schema() for part in PARTS}, indent=2
            )
        )
        return 0
    settings = read_settings(arguments)
    rows = [
        (setting.name, str(setting.value), setting.origin)
        for loaded in (settings.run, settings.solver, settings.execution)
        for setting in loaded.settings.values()
    ]
    print_table("", ("field", "value", "source"), rows)
    return 0
