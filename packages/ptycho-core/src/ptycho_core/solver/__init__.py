"""From a scan to object and probe, with nothing to tune and no framework needed.

`solve` is the public interface. Beforehand, `choose_arrays` says where it would run and `noise_floor` how
far the photons carry; from `HOPELESS_NOISE_FLOOR` on they carry no image.

The way through this room: `solve` takes what `start` makes of the scan or of an earlier result, with
`probe_search` where the scan's probe is only a guess; `schedule` and `batches` plan. `descent` runs a
`level`, made of `windows` and `misfit` (the data), `state` (the solution), and `frame_updates` with
`frame_parameters` (what is found for each frame). `spectra` and `background` help, `monitor` tells of it
all.
"""

from typing import Any

from ptycho_config.moved import moved_name
from ptycho_core.scan.dose import HOPELESS_NOISE_FLOOR, noise_floor
from ptycho_core.solver.device import choose_arrays
from ptycho_core.solver.solve import solve

__all__ = [
    "HOPELESS_NOISE_FLOOR",
    "choose_arrays",
    "noise_floor",
    "solve",
]

_MOVED = {"LiveFrames": "ptycho_core.live.solver", "LiveSolver": "ptycho_core.live.solver"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
