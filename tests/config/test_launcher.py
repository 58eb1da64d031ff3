"""A task of a launcher's step is told from a plain call, also inside an allocation."""

from __future__ import annotations

import pytest

from ptycho_config.launcher import Launch, launched

SLURM_STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"PMI_RANK": "2", "PMI_SIZE": "4"}, Launch(2, 4, "PMI")),
        ({"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1"}, Launch(2, 4, "PMI", 1)),
        (
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
            Launch(1, 2, "Open MPI", 1),
        ),
        ({"MV2_COMM_WORLD_RANK": "0", "MV2_COMM_WORLD_SIZE": "8"}, Launch(0, 8, "MVAPICH")),
        (SLURM_STEP, Launch(3, 4, "SLURM", 1)),
        (SLURM_STEP | {"PMIX_RANK": "2"}, Launch(2, 4, "SLURM", 1)),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, Launch(0, 1, "PMI")),
        # mpiexec inside a job starts its own helper by srun, one task a host, and below it the tasks
        (
            SLURM_STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "PMI_RANK": "5", "PMI_SIZE": "8"},
            Launch(5, 8, "PMI"),
        ),
        (ALLOCATION, None),
        (ALLOCATION | {"SLURM_STEP_NUM_TASKS": "4"}, None),
        (ALLOCATION | {"SLURM_STEP_ID": str(0xFFFFFFFB), "SLURM_STEP_NUM_TASKS": "4"}, None),  # the script
        (ALLOCATION | {"SLURM_STEP_ID": str(0xFFFFFFFA), "SLURM_STEP_NUM_TASKS": "4"}, None),  # a shell
        ({"PMI_RANK": "x", "PMI_SIZE": "4"}, None),
        ({"PMI_RANK": "4", "PMI_SIZE": "4"}, None),
        ({"PMI_RANK": "-1", "PMI_SIZE": "4"}, None),
        ({"PMI_RANK": "0"}, None),
        ({"PMIX_RANK": "0"}, None),
    ],
)
def test_what_started_this_process(environment: dict[str, str], expected: Launch | None) -> None:
    assert launched(environment) == expected
