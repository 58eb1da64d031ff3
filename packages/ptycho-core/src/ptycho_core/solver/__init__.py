"""From a scan to object and probe, with nothing to tune and no framework needed.

`solve` is the public interface; `LiveSolver` makes a preview from frames that are still coming. Beforehand,
`choose_arrays` says where it would run and `noise_floor` how far the photons carry; from
`HOPELESS_NOISE_FLOOR` on they carry no image.

The rooms behind them: `_statistics` and `_start_probe` look at the scan, `_schedule` and `_batches` plan,
`_level`, `_descent` and `_shifts` compute, `_resample` changes resolution, `_gauge` and `_report` finish.
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
