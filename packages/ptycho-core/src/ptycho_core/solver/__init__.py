"""From a scan to object and probe, with nothing to tune and no framework needed.

`solve` is the public interface; `LiveSolver` makes a preview from frames that are still coming. Beforehand,
`choose_arrays` says where it would run and `noise_floor` how far the photons carry; from
`HOPELESS_NOISE_FLOOR` on they carry no image.

The rooms behind them: `_run` is one run. `_first_look`, `_statistics` and `_start_probe` look at the scan,
`_earlier` at a result to go on from; `_schedule` and `_batches` plan. `_descent` runs a `_level`, made of
`_canvas` and `_comparison` (the data), `_probe_state` and `_object_state` (the solution), and `_frame_steps`
with `_freedoms`, `_places` and `_strain` (what each frame has of its own). `_resample` changes resolution,
`_gauge` finishes, `_monitor` tells of it all.
"""

from ptycho_core.solver._choose_arrays import choose_arrays
from ptycho_core.solver._live import LiveFrames, LiveSolver
from ptycho_core.solver._solve import solve
from ptycho_core.solver._statistics import HOPELESS_NOISE_FLOOR, noise_floor

__all__ = [
    "HOPELESS_NOISE_FLOOR",
    "LiveFrames",
    "LiveSolver",
    "choose_arrays",
    "noise_floor",
    "solve",
]
