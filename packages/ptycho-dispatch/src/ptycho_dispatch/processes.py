"""Whether this process is the first of a training, which alone speaks and writes."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ptycho_config.execution import PyTorchExecutionConfig

__all__ = ["follows"]

#: What launchers tell each process: its number, over all machines or on this one, and how many there are.
_NUMBERS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
_SIZES = ("WORLD_SIZE", "SLURM_NTASKS")


def follows(execution: PyTorchExecutionConfig, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether another process is the first one of this training.

    A number alone does not make a follower: clusters number jobs of one process too.
    """
    if execution.num_nodes > 1 and "RANK" not in environment and environment.get("NODE_RANK", "0") != "0":
        return True
    number = next((environment[name] for name in _NUMBERS if name in environment), "0")
    size = next((environment[name] for name in _SIZES if name in environment), "1")
    several = execution.devices != 1 or execution.num_nodes > 1
    return several and size != "1" and number != "0"
