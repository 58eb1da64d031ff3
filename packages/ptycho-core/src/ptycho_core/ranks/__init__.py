"""Several processes that work as one: what each may ask of the others, whether there are others or not.

`ALONE` is one process by itself. `MpiRanks` are the tasks of a launcher, over `mpi4py` (extra `mpi`), which
is loaded only when `open_ranks` is called; `in_threads` makes ranks of threads. `launched` tells whether a
launcher started this process.

Nothing is ever pickled: arrays travel as they lie in memory, plain values as JSON.
"""

from ptycho_config.launcher import Launch, launched
from ptycho_core.ranks.mpi import MpiRanks, open_ranks
from ptycho_core.ranks.ranks import ALONE, RankError, Ranks
from ptycho_core.ranks.threads import in_threads

__all__ = ["ALONE", "Launch", "MpiRanks", "RankError", "Ranks", "in_threads", "launched", "open_ranks"]
