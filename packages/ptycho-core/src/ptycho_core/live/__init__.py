"""Reconstruct a scan while it is being measured.

`open_source` finds out where frames come from, `watch` does the work. The rooms behind them: `stacks`,
`frame_files` and `replay` are sources, `feed` asks one all the time, `intake` checks what came, `by_solver` and
`by_network` make an image of it, `picture` draws it.
"""

from ptycho_core.live.opening import open_source
from ptycho_core.live.watching import LiveOptions, LiveReport, watch

__all__ = ["LiveOptions", "LiveReport", "open_source", "watch"]
