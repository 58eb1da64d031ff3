"""Reconstruct a scan while it is being measured.

`open_source` finds out where frames come from, `watch` does the work. The rooms behind them: `stacks`,
`frame_files` and `replay` are sources, `feed` asks one all the time, `intake` checks what came, `solver`
and `network` make an image of it, `picture` draws it.
"""

from ptycho_core.live.arrival import Arrival, Source
from ptycho_core.live.intake import Intake
from ptycho_core.live.network import ByNetwork
from ptycho_core.live.opening import open_source
from ptycho_core.live.record import LiveOptions, LiveRecord, LiveReport, Worker
from ptycho_core.live.solver import BySolver
from ptycho_core.live.watching import watch

__all__ = [
    "Arrival",
    "ByNetwork",
    "BySolver",
    "Intake",
    "LiveOptions",
    "LiveRecord",
    "LiveReport",
    "Source",
    "Worker",
    "open_source",
    "watch",
]
