"""One task of `mpiexec`: the rank that is named fails, while the others wait for it in MPI.

`one_task.py RANK HOW`: HOW is `error`, `interrupt` or `agreed`.
"""

from __future__ import annotations

import sys

from ptycho_config.errors import DataError
from ptycho_dispatch import cli, signals
from ptycho_dispatch.commands import reconstruct


def run(arguments, team) -> int:
    """Stand where `ptycho reconstruct` works."""
    team.ranks.barrier()

    def fail() -> None:
        if team.ranks.rank == int(RANK):
            raise KeyboardInterrupt if HOW == "interrupt" else DataError("the frames are gone.")

    if HOW == "agreed":
        team.ranks.one(fail)
    fail()
    team.ranks.barrier()
    return 0


if __name__ == "__main__":
    RANK, HOW = sys.argv[1:]
    reconstruct.run = run
    sys.argv[1:] = ["reconstruct", "scan.npz"]
    signals.HEARING.listen()
    sys.exit(cli.main())
