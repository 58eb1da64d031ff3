"""What each rank of a host may use of its cores and GPUs, where the launcher has not divided them."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["described_host", "divide_gpus", "threads_each"]

#: By these SLURM says that it gave each task devices of its own.
_DIVIDED = ("SLURM_GPUS_PER_TASK", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")


def described_host(environment: MutableMapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the cores that this process may use, and the GPUs that it sees, as plain values."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        gpus = _device_files()
    else:
        gpus = [one.strip() for one in visible.split(",") if one.strip() not in ("", "-1")]
    divided = any(name in environment for name in _DIVIDED)
    return {"cores": cores, "gpus": gpus, "gpus_divided": divided}


def _device_files() -> list[str]:
    found = [re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*")]
    return sorted((one[1] for one in found if one), key=int)


def threads_each(hosts: Sequence[dict[str, Any]]) -> int | None:
    """Return the threads for each rank of a host; None where each has cores of its own.

    Args:
        hosts: what `described_host` told each rank of this host.
    """
    sets = [frozenset(one["cores"]) for one in hosts]
    together = frozenset[int]().union(*sets)
    if not together or sum(map(len, sets)) <= len(together):
        return None
    return max(1, len(together) // len(sets))


def divide_gpus(
    hosts: Sequence[dict[str, Any]], place: int, environment: MutableMapping[str, str] = os.environ
) -> str:
    """Let this process see one GPU of those of its host, in turn; before anything asks for them.

    Args:
        hosts: what `described_host` told each rank of this host. place: which of them this one is.
    Returns:
        What is to be warned of: fewer GPUs than ranks.
    """
    gpus, count = hosts[place]["gpus"], len(hosts)
    if not gpus or any(one["gpus"] != gpus for one in hosts):
        return ""
    if len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    elif hosts[place]["gpus_divided"]:
        return ""  # each sees its own, under the same number
    if len(gpus) >= count:
        return ""
    return f"{count} ranks share {len(gpus)} GPU{'s' * (len(gpus) != 1)}; start one task for each."
