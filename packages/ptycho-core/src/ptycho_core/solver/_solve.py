"""`solve`: one run, from a scan to a reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core.callbacks import Callback
from ptycho_core.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver._choose_arrays import choose_arrays
from ptycho_core.solver._earlier import corrected_positions
from ptycho_core.solver._monitor import Monitor
from ptycho_core.solver._run import Run

__all__ = ["solve"]


def solve(
    scan: Scan,
    config: SolverConfig | None = None,
    execution: SolverExecutionConfig | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    start: Reconstruction | None = None,
) -> Reconstruction:
    """Reconstruct object and probe from a scan.

    The solver descends on the amplitude misfit in small batches of frames, with momentum, from coarse to
    fine resolution, and steps back when it diverges. Nothing needs tuning. The result is the same for the
    same seed, arrays and number of threads.

    Args:
        config: what to compute; the defaults serve every scan.
        execution: where to run; by default NumPy on the CPU, torch where an NVIDIA GPU is seen.
        callbacks: told of progress, asked after every batch whether to stop.
        start: an earlier result of this scan (same frame size) to go on from, at full resolution.
    Returns:
        The reconstruction; `interrupted` is set where a callback or the time budget ended it early.
    Raises:
        ConfigError: a setting does not fit the scan, such as `final_size` above the frame size.
        BackendUnavailableError: the arrays asked for are not installed.
        PolicyError: an explicit GPU that this host lacks (POLICY-001).

    Example:
        >>> from ptycho_core import open_scan, solve
        >>> result = solve(open_scan("siemens-star"))
        >>> print(f"R = {result.data_residual:.3f}")  # doctest: +SKIP
    """
    config = config or SolverConfig()
    execution = execution or SolverExecutionConfig()
    arrays, choice = choose_arrays(execution)
    monitor = Monitor(callbacks, n_frames=scan.n_frames, max_time_s=config.max_time)
    monitor.event("arrays", choice.message, **choice.record())
    given_px = scan.positions_px
    if start is not None:
        scan = corrected_positions(scan, start, monitor)
    with arrays.limits():
        run = Run(scan, config, execution, arrays, choice.record(), monitor, given_px)
        obj, probe, origin = run.from_start_probe() if start is None else run.from_result(start)
    monitor.timings["solve"] = monitor.elapsed_s
    monitor.lap("other")
    result = run.result(obj, probe, origin)
    monitor.lap("report")
    monitor.timings["total"] = monitor.elapsed_s
    return replace(result, timings=dict(monitor.timings), interrupted=monitor.interrupted)
