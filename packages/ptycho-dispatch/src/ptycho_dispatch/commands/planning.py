"""`ptycho inspect SCAN --plan`: what a reconstruction will need here; and one that cannot fit is refused."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.flags import given_flags
from ptycho_config.naming import places
from ptycho_config.sources import load_parts
from ptycho_dispatch.log import logging_to
from ptycho_dispatch.screen import say
from ptycho_dispatch.settings import READING, SOLVING, command_line, read_options
from ptycho_dispatch.table import print_rows

if TYPE_CHECKING:
    from ptycho_config.execution import SolverExecutionConfig
    from ptycho_config.models import SolverConfig
    from ptycho_core import Scan
    from ptycho_core.costs import Plan

__all__ = ["add_plan_arguments", "require_plan", "require_room", "tell_plan"]

_MOST_RANKS = 1 << 16
#: What takes less is not told.
_WORTH_A_LINE_S = 0.05


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a plan; those that say how the scan would be reconstructed are `SOLVING`."""
    parser.add_argument(
        "--plan",
        action="store_true",
        help="tell memory, scratch space and time that `ptycho reconstruct` with these settings will need "
        "here; measures once how fast this host is",
    )
    parser.add_argument(
        "--ranks", type=int, default=1, metavar="N", help="of a plan: how many ranks share the scan"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the plan as JSON")


def require_plan(arguments: argparse.Namespace) -> None:
    """Refuse settings of a plan where none is asked for.

    Raises:
        ConfigError: names them.
    """
    if not 1 <= arguments.ranks <= _MOST_RANKS:
        raise ConfigError(f"`--ranks` is {arguments.ranks}. Expected a number from 1 to {_MOST_RANKS}.")
    if arguments.plan:
        if arguments.orientations or arguments.picture:
            raise ConfigError("`--plan` draws and tries nothing. Leave `--picture` and `--orientations` out.")
        return
    of_a_plan = {place.name for part in SOLVING for place in places(part)}
    given = [name for name in given_flags(arguments) if name in of_a_plan]
    given += ["ranks"] if arguments.ranks != 1 else []
    given += ["json"] if arguments.json else []
    if given:
        named = ", ".join(f"`--{name.replace('_', '-')}`" for name in given)
        raise ConfigError(f"{named}: only a plan asks for that. Add `--plan`, or leave it out.")


def tell_plan(arguments: argparse.Namespace) -> None:
    """Open a scan and print its plan.

    Raises:
        DataError: it cannot fit; says what would.
    """
    from ptycho_core.costs import plan_of
    from ptycho_core.io import read_scan

    flags = given_flags(arguments)
    reading, solver, execution = load_parts((READING, *SOLVING), flags=flags, env=os.environ)
    with logging_to(None, "WARNING"):
        began = time.perf_counter()
        scan = read_scan(arguments.file, read_options(reading.config))
        open_s = time.perf_counter() - began
        plan = plan_of(scan, solver.config, execution.config, n_ranks=arguments.ranks, open_s=open_s)
        print_rows(scan.name, _rows(plan))
        if arguments.json:
            from ptycho_core.files import write_json

            say(f"plan: {write_json(arguments.json, plan.record())}")
        if plan.refusal:
            raise DataError(f"{scan.name}: {plan.refusal}")
        say(f"reconstruct it: {command_line(arguments.file, flags)}")


def _rows(plan: Plan) -> list[tuple[str, str]]:
    needs, each = plan.needs, " for each rank" if plan.n_ranks > 1 else ""
    rows = [("frames", f"{plan.n_frames} of {plan.frame_px} x {plan.frame_px} px")]
    if plan.n_ranks > 1:
        text = f"{plan.n_ranks}, about {plan.frames_per_rank} frames each, those of the rim among them"
        rows.append(("ranks", text))
    tile = "tile of the object" if plan.n_ranks > 1 else "object"
    rows.append((tile, f"{needs.canvas[0]} x {needs.canvas[1]} px"))
    allowed = "" if plan.memory_bytes is None else f" of {_size(plan.memory_bytes)}"
    rows.append(("memory", f"{_size(needs.memory_bytes)}{allowed}{each}"))
    where = f", {_size(needs.frames_bytes)} of it frames" if needs.frames_in_file else ""
    rows.append(("scratch", f"{_size(needs.scratch_bytes)}{where}{each}" if needs.scratch_bytes else "none"))
    levels = ", ".join(f"{count} at {side} px" for side, count in plan.epochs.items())
    rows.append(("epochs", f"about {levels}" if levels else "none: too few photons"))
    rows += [
        (name, f"{seconds:.1f} s") for name, seconds in plan.seconds.items() if seconds >= _WORTH_A_LINE_S
    ]
    rows.append(("time", f"about {_duration(plan.total_s)}"))
    if (more_s := plan.rounds_s_more) >= _WORTH_A_LINE_S:
        text = f"up to {_duration(more_s)} more, if the probe that is found overlaps by less than 55 %"
        rows.append(("rounds", text))
    return rows


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def require_room(
    scan: Scan, solver: SolverConfig, execution: SolverExecutionConfig, *, n_ranks: int = 1
) -> None:
    """Refuse a run whose frames and object this host cannot hold, before anything is made.

    Args:
        n_ranks: so many processes share the scan, this is one of them.

    Raises:
        DataError: what is needed, what there is, and what would fit.
    """
    from ptycho_core.costs import needs_of, refused
    from ptycho_core.solver import choose_arrays

    gpu = choose_arrays(execution)[0].device != "cpu"
    needs = needs_of(scan, solver, n_ranks=n_ranks, gpu=gpu)
    why = refused(needs, n_frames=scan.n_frames, frame_px=scan.frame_px)
    if why:
        raise DataError(f"{scan.name}: {why}")
