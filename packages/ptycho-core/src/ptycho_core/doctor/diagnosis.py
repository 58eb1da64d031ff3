"""Ask the frames, one question after the other, how they should have been read.

Each question builds on the best answer so far: first where the zero frequency is, then how the positions are
turned and scaled, then what the model lacks. What costs nothing is looked at first and says
what to try; only a trial decides.
"""

from __future__ import annotations

from collections.abc import Callable

from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.doctor import model, positions, reading
from ptycho_core.doctor.findings import Diagnosis, Doctor
from ptycho_core.doctor.trials import Trial, Trials
from ptycho_core.scan import Scan

__all__ = ["diagnose"]

_QUESTIONS: tuple[Callable[[Doctor], None], ...] = (
    reading.measurement,
    reading.reading,
    reading.start_probe,
    reading.flicker,
    positions.turn,
    positions.scale,
    positions.turn_again,
    model.model,
    model.thickness,
)


def diagnose(
    scan: Scan,
    *,
    budget_s: float = 20.0,
    flags: dict[str, str] | None = None,
    execution: SolverExecutionConfig | None = None,
    say: Callable[[Trial], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Diagnosis:
    """Find out how a scan should have been read, by short reconstructions of some of its frames.

    Args:
        budget_s: seconds that all trials together may take; the likeliest are tried first.
        flags: the settings (name -> value) with which the scan was read, for the flags of the answer.
        execution: where the trials run; as for `solve`.
        say: told of each trial as it ends.
        should_stop: asked before each trial; what was found so far is the answer then.
    Raises:
        ConfigError: the budget leaves no time for a single trial.

    Example:
        >>> from ptycho_core import diagnose, open_scan
        >>> found = diagnose(open_scan("siemens-star"))  # doctest: +SKIP
    """
    doctor = Doctor(scan, Trials(scan, budget_s, execution, say, should_stop), flags or {})
    for question in _QUESTIONS:
        question(doctor)
    return doctor.conclusion()
