"""What checks are written with: demands, refusals, and a look at what an action says while it runs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ptycho_config import hardware
from ptycho_config.errors import BackendUnavailableError, CheckError, PolicyWarning

__all__ = ["Evidence", "Observed", "demand", "observe", "refused"]

Evidence = dict[str, Any]
"""What was asked -> what was found: text, numbers, booleans."""


def demand(condition: bool, finding: str, found: str, expected: str) -> None:
    """Fail the check unless the condition holds.

    Raises:
        CheckError: with what was found and what the rule expects.
    """
    if not condition:
        raise CheckError(
            f"{found}. Expected: {expected}. `findings/{finding}.md` names the code that should see to it.",
            finding=finding,
        )


def refused(finding: str, error_class: type[Exception], what: str, action: Callable[[], object]) -> str:
    """Run what the rule forbids and return the message of its refusal.

    Args:
        error_class: what must be raised, with `.finding` set to this finding.
        what: names the attempt in the message of a failure.

    Raises:
        CheckError: it was accepted, or refused by another error or under another finding.
        BackendUnavailableError: what the attempt needs is not installed.
    """
    try:
        action()
    except error_class as error:
        other = getattr(error, "finding", None)
        demand(
            other == finding, finding, f"{what} was refused under {other}: {error}", "this finding's own id"
        )
        return " ".join(str(error).split())
    except BackendUnavailableError:
        raise
    except Exception as error:
        raise CheckError(
            f"{what} was met with {type(error).__name__}: {error}. Expected: {error_class.__name__}.",
            finding=finding,
        ) from error
    raise CheckError(
        f"{what} was accepted. Expected: {error_class.__name__}. `findings/{finding}.md` names the code "
        "that should refuse it.",
        finding=finding,
    )


@dataclass
class Observed:
    """What an action said and asked.

    Attributes:
        result: what it returned.
        warned: the warnings of the house, each with its finding.
        logged: lines of the logger `ptycho`, from INFO up.
        questions: how often it asked for a CUDA device.
    """

    result: Any = None
    warned: list[PolicyWarning] = field(default_factory=list[PolicyWarning])
    logged: list[str] = field(default_factory=list[str])
    questions: int = 0

    def warnings_of(self, finding: str) -> list[str]:
        """Give the texts of the warnings under one finding."""
        return [str(warning) for warning in self.warned if warning.finding == finding]


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


def observe(action: Callable[[], Any]) -> Observed:
    """Run an action; collect its warnings, its log lines and its questions to the hardware.

    Every warning counts, also one that Python would show once only.
    """
    observed = Observed()

    def counted() -> bool:
        observed.questions += 1
        return answer()

    logger, handler = logging.getLogger("ptycho"), _Lines(observed.logged)
    level, propagates = logger.level, logger.propagate
    try:
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(handler)
        with hardware.asking(counted) as answer, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            observed.result = action()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates
    observed.warned = [one.message for one in caught if isinstance(one.message, PolicyWarning)]
    return observed
