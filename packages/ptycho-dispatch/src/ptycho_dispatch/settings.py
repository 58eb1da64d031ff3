"""The settings of the commands that reconstruct: which models, under which names, from which sources."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, fields
from typing import Any

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.flags import add_flags, given_flags
from ptycho_config.models import RunConfig, SolverConfig
from ptycho_config.naming import Part
from ptycho_config.plaintext import typed
from ptycho_config.sources import Loaded, load_parts
from ptycho_core.io.options import ReadOptions

__all__ = [
    "PARTS",
    "READING",
    "READING_FIELDS",
    "SOLVING",
    "Settings",
    "add_settings",
    "as_words",
    "command_line",
    "read_options",
    "read_settings",
]

PARTS: tuple[Part[Any], ...] = (
    Part(RunConfig, exclude=frozenset({"do_stitching"}), title="Input and output"),
    Part(SolverConfig, rename={"epochs": "solver_epochs"}, title="Solver: what it computes"),
    Part(SolverExecutionConfig, title="Execution: where it runs"),
)
#: The fields of `RunConfig` that say how a scan is read.
READING_FIELDS = tuple(field.name for field in fields(ReadOptions))
#: What a command that only opens a scan needs.
READING = Part(
    RunConfig,
    exclude=frozenset(RunConfig.model_fields) - frozenset(READING_FIELDS),
    title="How to read the scan",
)

#: What says how a scan would be reconstructed, once it is open.
SOLVING = PARTS[1:]


def read_options(config: RunConfig) -> ReadOptions:
    """Return how a scan is to be read."""
    return ReadOptions(**{key: getattr(config, key) for key in READING_FIELDS})


@dataclass(frozen=True)
class Settings:
    """The three configurations of a run, each with the source of every value."""

    run: Loaded[RunConfig]
    solver: Loaded[SolverConfig]
    execution: Loaded[SolverExecutionConfig]

    def provenance(self) -> dict[str, Any]:
        """Return every value with its source, for `run.json`."""
        return {
            "run": self.run.provenance(),
            "solver": self.solver.provenance(),
            "execution": self.execution.provenance(),
        }


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the flags of all three models, and `--config`."""
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings; flags and environment win")
    add_flags(parser, *PARTS)


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Join flags, environment and YAML file."""
    run, solver, execution = load_parts(
        PARTS, flags=given_flags(arguments), env=os.environ, yaml=arguments.config
    )
    return Settings(run, solver, execution)


def command_line(source: str, flags: dict[str, str], *, command: str = "reconstruct") -> str:
    """Return the command that reconstructs a scan with these settings, or does something else with it."""
    return typed(["ptycho", command, source, *as_words(flags)])


def as_words(flags: dict[str, str]) -> list[str]:
    """Return settings (name -> value) as they are typed."""
    return [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)]
