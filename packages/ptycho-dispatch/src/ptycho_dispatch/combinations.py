"""What a reconstruction needs before it begins: settings that leave each other a place, and a core."""

from __future__ import annotations

from collections.abc import Sequence

from ptycho_config.errors import ConfigError
from ptycho_config.models import RunConfig, SolverConfig

__all__ = ["require_compatible", "require_shareable"]


def require_compatible(run: RunConfig, solver: SolverConfig) -> None:
    """Refuse settings of which one would be without effect, and a method without its core, before any work.

    Raises:
        BackendUnavailableError: the method needs a network, and its core is not installed.
        ConfigError: names both settings, and what to leave out.
    """
    goes_on = run.start is not None or run.resume
    trains = run.method in ("network", "both")
    if trains:
        from ptycho_core.backend import require_backend

        require_backend(run.backend)
    if trains and goes_on:
        raise ConfigError(
            f"`--start` and `--resume` go on with the solver, and `--method {run.method}` trains "
            "a network anew. Leave them out, or use `--method solver`."
        )
    if trains and run.uncertainty:
        raise ConfigError(
            f"`--uncertainty` reconstructs halves of the scan with the solver, and `--method "
            f"{run.method}` has an image of a network. Leave one of them out."
        )
    if run.prior_bundle is None:
        return
    if trains:
        raise ConfigError(
            f"`--prior-bundle` offers the solver the image of a trained network, and `--method {run.method}` "
            "trains one. Leave one of them out; `ptycho infer` images with the bundle alone."
        )
    if goes_on:
        raise ConfigError(
            "`--prior-bundle` is judged by photons held out, and a result to go on from has seen all of "
            "them. Leave `--start` and `--resume` out, or the bundle."
        )
    if run.uncertainty:
        raise ConfigError(
            "`--uncertainty` reconstructs halves of the scan by the solver alone, and `--prior-bundle` lets "
            "a network take part. Leave one of them out."
        )
    if not solver.uses_prior:
        without = "--prior none" if solver.prior == "none" else "--effort fast"
        raise ConfigError(
            f"`--prior-bundle` is a part of the prior, which `{without}` leaves out. Leave one of them out."
        )


def require_shareable(run: RunConfig, scans: Sequence[str]) -> None:
    """Refuse what several tasks cannot do with the frames of one scan, before any work.

    Raises:
        ConfigError: names the setting, and what to do instead.
    """
    if len(scans) > 1:
        raise ConfigError(
            f"`--mpi frames` shares the frames of one scan, and {len(scans)} were given. Give one, or use "
            "`--mpi scans`."
        )
    found = {
        f"--method {run.method}": run.method in ("network", "both"),
        "--prior-bundle": run.prior_bundle is not None,
        "--uncertainty": run.uncertainty,
    }
    for flag, given in found.items():
        if given:
            raise ConfigError(
                f"`{flag}` needs the whole scan in one process, and its frames are shared by several tasks. "
                "Leave it out, start one task, or use `--mpi scans`."
            )
