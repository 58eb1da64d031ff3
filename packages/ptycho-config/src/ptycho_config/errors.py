"""Errors and warnings that every layer raises, with the exit code of each.

A message has up to four parts: what was found, what was expected, the next thing to type and, where a rule
of the house is at stake, the identifier of its finding at the front. The finding's page is
`findings/<ID>.md`. Nothing here imports anything beyond the standard library but the way to old names.
"""

from __future__ import annotations

import errno
from pathlib import Path

from ptycho_config.moved import moved_name

__all__ = [
    "EXIT_BACKEND",
    "EXIT_CONFIG",
    "EXIT_DATA",
    "EXIT_DONE",
    "EXIT_FAILED",
    "EXIT_HANGUP",
    "EXIT_INTERRUPTED",
    "EXIT_POLICY",
    "EXIT_TERMINATED",
    "BackendUnavailableError",
    "BundleError",
    "BundleNotFoundError",
    "CheckError",
    "ConfigError",
    "DataError",
    "NotRegularError",
    "OutputError",
    "PolicyError",
    "PolicyWarning",
    "RankError",
    "TrainingError",
    "exit_code",
]

EXIT_DONE = 0
"""The command did what was asked."""
EXIT_FAILED = 1
"""The run failed: a bug, a full disk, a directory that cannot be written."""
EXIT_CONFIG = 2
"""The command or the configuration was wrong."""
EXIT_DATA = 3
"""The scan or the bundle was refused."""
EXIT_BACKEND = 4
"""A backend is not available here."""
EXIT_POLICY = 5
"""A rule of the house was violated."""
EXIT_INTERRUPTED = 130
"""Stopped by Ctrl-C; what had been reached is kept."""
EXIT_TERMINATED = 143
"""Stopped by SIGTERM, as from `kill` or a scheduler; what had been reached is kept."""
EXIT_HANGUP = 129
"""Stopped by SIGHUP, as from a terminal that closed; what had been reached is kept."""


class _Finding(Exception):
    """Gives an error its `finding` and puts the identifier at the front of the message.

    Args:
        message: one sentence or two: found, expected, the next thing to type.
        finding: identifier of the rule at stake, such as `DATA-001`; None where no rule is.
    """

    finding: str | None

    def __init__(self, message: str = "", *, finding: str | None = None) -> None:
        if finding is not None and not message.startswith(finding):
            message = f"{finding}: {message}"
        super().__init__(message)
        self.finding = finding


class PolicyError(_Finding, RuntimeError):
    """A rule of the house was broken: POLICY-001, CONFIG-*, EXEC-ACCUM-*. Exit code 5."""


class CheckError(PolicyError):
    """An installation does not keep a rule, as a check of it found out (`ptycho audit`). Exit code 5."""


class ConfigError(_Finding, ValueError):
    """A setting is wrong, missing, unknown or contradicts another. Exit code 2."""


class DataError(_Finding, ValueError):
    """A scan is refused: DATA-001, FORMAT-001, NORMALIZATION-001, or unreadable. Exit code 3."""


class BundleError(_Finding, ValueError):
    """A bundle is unknown, damaged or holds executable content: BUNDLE-001. Exit code 3."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """There is no bundle where one was expected. Exit code 3."""


class BackendUnavailableError(_Finding, RuntimeError):
    """A backend or its framework is not installed here; the message has the command. Exit code 4."""


class OutputError(_Finding, OSError):
    """A result could not be written: disk full, directory not writable. Exit code 1."""


class NotRegularError(OSError):
    """What stands under a name is no regular file; whoever opens it says what was expected. Exit code 1."""

    def __init__(self, path: Path, kind: str) -> None:
        """Say what it is instead, such as "a FIFO"."""
        super().__init__(errno.EINVAL, f"it is {kind}, not a regular file", str(path))


class RankError(_Finding, RuntimeError):
    """One of several processes that work together failed; the message names it. Exit code 1."""


class TrainingError(_Finding, RuntimeError):
    """Training cannot go on: a loss that is not finite, a collapsed network, memory. Exit code 1."""


class PolicyWarning(_Finding, UserWarning):
    """A rule of the house changed what runs, and says so once; `finding` is its identifier."""


_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (KeyboardInterrupt, EXIT_INTERRUPTED),
    (PolicyError, EXIT_POLICY),
    (PolicyWarning, EXIT_POLICY),
    (BackendUnavailableError, EXIT_BACKEND),
    (DataError, EXIT_DATA),
    (BundleError, EXIT_DATA),
    (ConfigError, EXIT_CONFIG),
)


def exit_code(exception: BaseException | None) -> int:
    """Give the exit code of a command that ended with this exception.

    Args:
        exception: what ended the command; None when nothing did.

    Returns:
        0 done, 1 the run failed, 2 wrong command or configuration, 3 data refused, 4 backend not available,
        5 policy violated, 130 interrupted. A `SystemExit` keeps its own code. A command that SIGTERM or
        SIGHUP ended gives `EXIT_TERMINATED` or `EXIT_HANGUP`, which no exception tells.

    Source:
        docs/reference/files.md, "Exit codes".
    """
    if exception is None:
        return EXIT_DONE
    if isinstance(exception, SystemExit):
        if exception.code is None:
            return EXIT_DONE
        return exception.code if isinstance(exception.code, int) else EXIT_FAILED
    for kind, code in _EXIT_CODES:
        if isinstance(exception, kind):
            return code
    return EXIT_CONFIG if _is_validation_error(exception) else EXIT_FAILED


def _is_validation_error(exception: BaseException) -> bool:
    """Recognise a model built in Python with a wrong value, without importing pydantic for it."""
    kind = type(exception)
    return kind.__name__ == "ValidationError" and kind.__module__.startswith("pydantic")


_MOVED = {"ProbeError": f"{__name__}:CheckError"}


def __getattr__(name: str) -> object:
    return moved_name(__name__, name, _MOVED)
