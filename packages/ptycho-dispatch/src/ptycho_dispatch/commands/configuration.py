"""`ptycho config`: the configuration in force with the source of each value, or its JSON schema."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from pydantic import Field

from ptycho_config.execution import EXECUTION, SolverExecutionConfig
from ptycho_config.flags import add_flags, given_flags
from ptycho_config.models import (
    CANONICAL,
    Config,
    InferenceConfig,
    RunConfig,
    SolverConfig,
    TrainingConfig,
    WatchConfig,
)
from ptycho_config.naming import Part
from ptycho_config.sources import Loaded, load_parts
from ptycho_config.values import FilePath
from ptycho_dispatch.execution_parts import execution_parts
from ptycho_dispatch.log import held_warnings
from ptycho_dispatch.screen import tell
from ptycho_dispatch.table import print_table

__all__ = ["EXAMPLES", "MODELS", "PARTS", "add_arguments", "run"]

EXAMPLES = (
    "ptycho config show --effort fast",
    "ptycho config show --config settings.yaml",
    "ptycho config schema",
)


class _Inference(InferenceConfig):
    """Inference whose network and scan may still be missing."""

    model_path: FilePath | None = Field(default=None, description="as in InferenceConfig")  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    test_data_file: FilePath | None = Field(default=None, description="as in InferenceConfig")  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]


#: The models whose schema is printed.
MODELS: tuple[type[Config], ...] = (*CANONICAL, *EXECUTION)
#: Every setting that a file, the environment or a command line can set.
PARTS: tuple[Part[Any], ...] = (
    Part(RunConfig, title="Input and output"),
    Part(SolverConfig, rename={"epochs": "solver_epochs"}, title="Solver: what it computes"),
    Part(SolverExecutionConfig, title="Solver: where it runs"),
    Part(TrainingConfig, title="Network: model and training"),
    Part(WatchConfig, exclude=frozenset({"model_path"}), title="Watching"),
    Part(_Inference, exclude=frozenset({"model", "debug"}), title="Network: inference"),
    *execution_parts(runtimes=True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to show, and every flag that a command takes for its configuration."""
    parser.add_argument("action", choices=("show", "schema"), help="the values in force, or the JSON schema")
    parser.add_argument("--config", metavar="FILE", help="YAML file with settings; flags and environment win")
    add_flags(parser, *PARTS)


def run(arguments: argparse.Namespace) -> int:
    """Print field, value and source; or the schema.

    Raises:
        ConfigError: a source cannot be read, or a value is wrong.
    """
    if arguments.action == "schema":
        print(json.dumps({kind.__name__: kind.model_json_schema() for kind in MODELS}, indent=2))
        return 0
    with held_warnings() as warned:
        every = load_parts(PARTS, flags=given_flags(arguments), env=os.environ, yaml=arguments.config)
    for text in warned:
        tell(f"WARNING {text}")
    for part, loaded in zip(PARTS, every, strict=True):
        print_table(part.heading, ("field", "value", "source"), _rows(loaded))
    return 0


def _rows(loaded: Loaded[Any]) -> list[tuple[str, str, str]]:
    """Give name, value and source of each setting, in the order of the model."""
    required = {
        name
        for name, info in InferenceConfig.model_fields.items()
        if isinstance(loaded.config, InferenceConfig) and info.is_required()
    }
    return [
        (setting.name, "(required)", "not given")
        if setting.value is None and setting.field in required
        else (setting.name, str(setting.value), setting.origin)
        for setting in loaded.settings.values()
    ]
