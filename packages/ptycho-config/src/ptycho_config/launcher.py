"""What started this process: a launcher of several tasks (srun, mpiexec, mpirun), or nobody.

Decided by the variables that a launcher gives to each task of a step, never by those of an allocation: a
plain call inside `sbatch --ntasks 4` is one run. Only the environment is read; no MPI is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Launch", "launched"]

#: SLURM numbers the steps that srun starts from 0; a batch script, an interactive shell and the like are
#: steps of their own with the highest numbers.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0
#: Launcher -> the variables with the number of a task, of all tasks, and of the task on its host.
_VARIABLES = (
    ("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("MVAPICH", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"),
    ("PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)


@dataclass(frozen=True)
class Launch:
    """This process as one of several tasks.

    Attributes:
        rank: its number, from 0.
        count: how many tasks there are.
        by: the kind of launcher, as "Open MPI", "PMI" (MPICH, Intel MPI) or "SLURM".
        local_rank: its number among those on this host; 0 where the launcher does not tell.
    """

    rank: int
    count: int
    by: str
    local_rank: int = 0


def launched(environment: Mapping[str, str] | None = None) -> Launch | None:
    """Tell which task of a launcher's step this process is; None where it is no task of a step.

    Args:
        environment: the variables to read; those of this process when None.

    Example:
        >>> launched({"PMI_RANK": "1", "PMI_SIZE": "4"})
        Launch(rank=1, count=4, by='PMI', local_rank=0)
        >>> launched({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # an allocation is no step
        True
    """
    environment = os.environ if environment is None else environment
    for by, rank, count, local_rank in _VARIABLES:
        launch = _launch(environment, by, rank, count, local_rank)
        if launch is not None:
            return launch
    step = _number(environment, "SLURM_STEP_ID")
    if step is None or step >= _FIRST_SPECIAL_STEP:
        return None
    # Under PMIx, SLURM tells the number of tasks as well, and the task's number twice.
    rank = "PMIX_RANK" if _number(environment, "PMIX_RANK") is not None else "SLURM_PROCID"
    return _launch(environment, "SLURM", rank, "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")


def _launch(environment: Mapping[str, str], by: str, rank: str, count: str, local_rank: str) -> Launch | None:
    number, of = _number(environment, rank), _number(environment, count)
    if number is None or of is None or number >= of:
        return None
    return Launch(number, of, by, _number(environment, local_rank) or 0)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() else None
