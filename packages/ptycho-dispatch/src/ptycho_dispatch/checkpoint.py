"""Keep the state of a long run on disk, so that a crash costs a minute and not the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_core.result.callbacks import Callback

if TYPE_CHECKING:
    from ptycho_core import Reconstruction
    from ptycho_core.ranks import Ranks

__all__ = ["Checkpoint", "TileCheckpoint"]

logger = logging.getLogger("ptycho")
#: A run that is shorter writes nothing before its end.
_SECONDS_BETWEEN = 60.0
#: Judging and writing a large state takes long; no more than this part of the run is spent on it.
_SHARE = 0.1


class Checkpoint(Callback):
    """Writes `reconstruction.npz` about once a minute, less often where that takes long.

    `--resume` goes on from it.
    """

    def __init__(
        self, directory: Path, *, seconds_between: float = _SECONDS_BETWEEN, share: float = _SHARE
    ) -> None:
        self._directory, self._seconds_between, self._share = directory, seconds_between, share
        self._last, self._wait_s = time.monotonic(), seconds_between

    @property
    def due(self) -> bool:
        """Whether the last state is old enough."""
        return time.monotonic() - self._last >= self._wait_s

    def on_state(self, make_result: Callable[[], Reconstruction]) -> None:
        """Write the state when the last one is old enough.

        Raises:
            OutputError: the disk is full or the directory is gone; better now than after another hour.
        """
        if not self.due:
            return
        began = time.monotonic()
        self.kept(make_result().save_arrays(self._directory), began)

    def kept(self, path: Path, began: float) -> None:
        """Note when a state was written, which began then, and say where it is."""
        self._last = time.monotonic()
        self._wait_s = max(self._seconds_between, (self._last - began) / self._share)
        logger.info("The state so far is in %s; `--resume` goes on from it.", path)


class TileCheckpoint(Checkpoint):
    """Writes the state of several ranks, each its own tile, when the first of them finds that it is time.

    `--resume` goes on from it on any number of ranks.
    """

    def __init__(
        self,
        directory: Path,
        ranks: Ranks,
        *,
        seconds_between: float = _SECONDS_BETWEEN,
        share: float = _SHARE,
    ) -> None:
        super().__init__(directory, seconds_between=seconds_between, share=share)
        self._ranks = ranks
        self._began = 0.0

    def on_state(self, make_result: Callable[[], Reconstruction]) -> None:
        """Do without the whole."""

    def wants_tile(self) -> bool:
        self._began = time.monotonic()
        return self.due

    def on_tile(self, tile: Reconstruction) -> None:
        """Write this rank's tile.

        Raises:
            OutputError: a disk is full or the directory is gone; better now than after another hour.
        """
        self.kept(tile.save_tile(self._directory, self._ranks), self._began)
