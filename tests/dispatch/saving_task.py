"""`ptycho` with a checkpoint every fifth of a second, for tests that end it at any moment."""

from __future__ import annotations

import sys

from ptycho_dispatch import checkpoint, cli, signals

if __name__ == "__main__":
    for kind in (checkpoint.Checkpoint, checkpoint.TileCheckpoint):
        kind.__init__.__kwdefaults__ |= {"seconds_between": 0.2, "share": 1.0}
    signals.HEARING.listen()
    sys.exit(cli.main())
