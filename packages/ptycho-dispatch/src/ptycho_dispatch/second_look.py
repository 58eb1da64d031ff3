"""What `reconstruct` does where its verdict is not good: try how the scan may be read otherwise.

What the file left open (the place of the zero frequency where nothing states it, probe modes, the
background) is then taken by evidence, if a new reconstruction bears it out; what the file or the user stated
is never changed, but the command that explains the frames better is named. Whether the values are counts or
amplitudes, they tell themselves, and no reconstruction is asked (docs/decisions/0017).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ptycho_dispatch.settings import READING_FIELDS, Settings, command_line, read_options

if TYPE_CHECKING:
    from ptycho_config.models import SolverConfig
    from ptycho_core import Reconstruction, Scan
    from ptycho_core.io.options import ReadOptions

__all__ = ["SecondLook", "look_again"]

logger = logging.getLogger("ptycho")
LEAST_BUDGET_S = 20.0
#: Settings that no file states, each with what overrules it.
_OF_THE_MODEL = ("probe_modes", "refine_background", "frame_intensity")
#: And what else of the model may be proposed.
_PROPOSED = (*_OF_THE_MODEL, "refine_positions")
#: And of the reading, where the file leaves them open.
_OF_THE_READING = ("measurement", "dc", "probe_start")
#: So the notes of a scan say that the values alone decided what they are.
_BY_VALUES = ("values are whole numbers", "values have fractions", "values do not exceed 1", "the type is")
#: A new reconstruction has to leave so much less unexplained.
_GAIN = 0.03
#: What is left by noise alone; nothing can leave less.
_NOTHING_LEFT = 0.02


@dataclass(frozen=True)
class SecondLook:
    """What came of it.

    Attributes:
        scan, result, solver: the new ones where evidence changed what was open, else those that were given.
        advice: lines that name a command that explains the frames better; empty where there is none.
    """

    scan: Scan
    result: Reconstruction
    solver: SolverConfig
    advice: tuple[str, ...] = ()


def look_again(
    source: str,
    scan: Scan,
    result: Reconstruction,
    settings: Settings,
    solver: SolverConfig,
    *,
    seconds: float,
    should_stop: Callable[[], bool],
    read: Callable[[ReadOptions], Scan],
    solve_and_judge: Callable[[Scan, SolverConfig], Reconstruction],
) -> SecondLook:
    """Diagnose the scan within the time of the run or 20 s, whichever is longer, and act on what was open.

    Args:
        seconds: that the run took.
        read: opens the scan again, read otherwise, with all that was done to it since.
        solve_and_judge: reconstructs a scan with other settings, and gives the result its verdict.
    """
    from ptycho_core.doctor import TIME_OVER, diagnose

    budget = max(LEAST_BUDGET_S, seconds)
    logger.info(
        "The verdict is not good: trying for up to %.0f s how the scan may be read otherwise "
        "(`--diagnose off` leaves that out).",
        budget,
    )
    stated = _stated(settings)
    execution = settings.execution.config
    found = diagnose(scan, budget_s=budget, flags=stated, execution=execution, should_stop=should_stop)
    in_use = stated | {name: _as_text(getattr(solver, name)) for name in _PROPOSED}
    news = {name: value for name, value in found.flags.items() if in_use.get(name) != value}
    opened = {name: value for name, value in news.items() if _is_open(name, scan, settings)}
    rest = {name: value for name, value in news.items() if name not in opened}
    taken: dict[str, str] = {}
    if "measurement" in opened and not should_stop():
        measurement, was = opened.pop("measurement"), scan.measurement
        taken["measurement"] = measurement
        scan = read(_read_as(settings, **taken))
        result = solve_and_judge(scan, solver)
        logger.warning(
            "Taken by evidence: `--measurement %s`; %s `--measurement %s` overrules it.",
            measurement,
            _why(measurement),
            was,
        )
    if opened.get("probe_modes") == str(len(result.probe)):
        del opened["probe_modes"]  # as many as the file's probe has were taken
    if opened and not should_stop():
        words = _words(opened)
        other = scan
        reading = {name: opened[name] for name in _OF_THE_READING if name in opened}
        if reading:
            other = read(_read_as(settings, **taken, **reading))
        changed = solver.model_copy(update=_values(opened, solver))
        tried = solve_and_judge(other, changed)
        before, after = _unexplained(result), _unexplained(tried)
        if before > _NOTHING_LEFT and after <= (1 - _GAIN) * before:
            logger.warning(
                "Taken by evidence: %s; %.0f %% stays unexplained where it was %.0f %%. %s overrules it.",
                words,
                100 * after,
                100 * before,
                _words(_before(opened, scan, solver)),
            )
            scan, result, solver = other, tried, changed
        else:
            logger.info("Tried: %s, which does not explain all frames better.", words)
    advice: list[str] = []
    remarks = [remark for remark in found.remarks if remark != TIME_OVER]
    if rest and found.best.unexplained < found.as_read.unexplained:
        advice = [
            f"Read otherwise than the file or you say, the {found.n_frames} frames that were tried are "
            f"explained better ({100 * found.as_read.unexplained:.0f} % unexplained -> "
            f"{100 * found.best.unexplained:.0f} %):",
            command_line(source, found.flags),
        ]
    elif not found.complete and not should_stop() and not result.image_reliable:
        reading_asked = {name: value for name, value in stated.items() if name in READING_FIELDS}
        longer = f"{max(60, 60 * math.ceil(3 * budget / 60))}s"
        advice = [
            f"In {budget:.0f} s {len(found.trials)} readings could be tried; this tries the others:",
            command_line(source, reading_asked | {"budget": longer}, command="diagnose"),
        ]
    elif not news:
        advice = [f"No other reading explains the frames better: {len(found.trials)} were tried."]
    return SecondLook(scan, result, solver, (*remarks, *advice))


def _read_as(settings: Settings, **flags: str) -> ReadOptions:
    """Return how the scan was asked to be read, but for some flags."""
    checked = type(settings.run.config).model_validate(flags)
    return replace(read_options(settings.run.config), **{name: getattr(checked, name) for name in flags})


def _why(measurement: str) -> str:
    """Say what in the values speaks for counts, or for amplitudes."""
    what = "values" if measurement == "counts" else "squares of the values"
    kind = "photon counts are, and their roots are not" if measurement == "counts" else "those of roots are"
    return f"the {what} are whole multiples of the smallest, as {kind}."


def _stated(settings: Settings) -> dict[str, str]:
    """Return how the scan was asked to be read, and what was said of the model, as flags."""
    stated: dict[str, str] = {}
    for part, names in ((settings.run, READING_FIELDS), (settings.solver, _PROPOSED)):
        for name in names:
            value = getattr(part.config, name)
            if part.source_of(name) != "default" and value is not None:
                stated[name] = _as_text(value)
    return stated


def _as_text(value: object) -> str:
    """Return a setting as it is typed."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_open(name: str, scan: Scan, settings: Settings) -> bool:
    """Whether neither the user nor the file states this setting."""
    if name in _OF_THE_READING and settings.run.source_of(name) != "default":
        return False
    if name == "dc":
        said = [note for note in scan.notes if "the zero frequency" in note]
        return not any("metadata" in note or "were cut" in note for note in said)
    if name == "measurement":
        # The notes say what decided; these are the rules that go by the values alone.
        return any("taken for" in note and any(rule in note for rule in _BY_VALUES) for note in scan.notes)
    if name == "probe_start":
        return scan.probe_source == "estimated"
    return name in _OF_THE_MODEL and settings.solver.source_of(name) == "default"


def _values(flags: dict[str, str], solver: SolverConfig) -> dict[str, Any]:
    """Return the solver's fields among some flags, as values."""
    fields = {name: value for name, value in flags.items() if name in type(solver).model_fields}
    checked = type(solver).model_validate(fields)
    return {name: getattr(checked, name) for name in fields}


def _before(flags: dict[str, str], scan: Scan, solver: SolverConfig) -> dict[str, str]:
    as_read = {"dc": scan.dc, "measurement": scan.measurement, "probe_start": "given"}
    model = {name: str(getattr(solver, name)).lower() for name in flags if name not in as_read}
    return {name: value for name, value in as_read.items() if name in flags} | model


def _words(flags: dict[str, str]) -> str:
    return " ".join(f"`--{name.replace('_', '-')} {value}`" for name, value in flags.items())


def _unexplained(result: Reconstruction) -> float:
    return 1.0 if result.verdict is None else float(result.verdict.measures.get("unexplained", 1.0))
