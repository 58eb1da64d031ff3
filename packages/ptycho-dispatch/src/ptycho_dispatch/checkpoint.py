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

__all__ = ["Checkpoint"]

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

    def on_state(self, make_result: Callable[[], Reconstruction]) -> None:
        """Write the state when the last one is old enough.

        Raises:
            OutputError: the disk is full or the directory is gone; better now than after another hour.
        """
        began = time.monotonic()
        if began - self._last < self._wait_s:
            return
        path = make_result().save_arrays(self._directory)
        self._last = time.monotonic()
        self._wait_s = max(self._seconds_between, (self._last - began) / self._share)
        logger.info("The state so far is in %s; `--resume` goes on from it.", path)
