"""From a scan to object and probe, with nothing to tune and no framework needed.

`solve` is the public interface; `choose_arrays` says beforehand where it would run. The rooms behind them:
`_statistics` and `_start_probe` look at the scan, `_schedule` and `_batches` plan, `_level`, `_descent` and
`_shifts` compute, `_resample` changes resolution, `_gauge` and `_report` finish.
"""

from ptycho_core.solver._choose_arrays import choose_arrays
from ptycho_core.solver._solve import solve

__all__ = ["choose_arrays", "solve"]
