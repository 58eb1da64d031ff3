"""The way of a call through the dispatcher, as it is wired in this installation."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ptycho_config.errors import PolicyWarning
from ptycho_dispatch.checks.recording import Recorder, a_config, registry_kept

__all__ = ["dispatcher_flow"]

_HERE = "ptycho_dispatch.dispatcher"


def dispatcher_flow(symbols: Collection[str]) -> list[str]:
    """Dispatch without an execution and write down, in order, what is called, warned and logged.

    Args:
        symbols: import paths worth a line when called; the public functions of the dispatcher are.
    Returns:
        One line a step: `package:symbol`, a warning, a log line, the runner with its accelerator.
    """
    steps: list[str] = []
    wanted = set(symbols)

    def say(step: str) -> None:
        if not steps or steps[-1] != step:
            steps.append(step)

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        if event != "call":
            return
        name = frame.f_code.co_qualname.split(".")[0]
        path = f"{frame.f_globals.get('__name__', '')}.{name}"
        ours = path.startswith(f"{_HERE}.") and not name.startswith(("_", "<"))
        if ours or path in wanted:
            package, _, symbol = path.partition(".")
            say(f"call `{package}:{symbol}`")

    recorder = Recorder(on_call=lambda backend: say(f"the runner of `{backend}`"))
    handler = _Steps(say)
    logger = logging.getLogger("ptycho")
    level = logger.level
    with registry_kept(), _warnings_into(say):
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        sys.setprofile(trace)
        try:
            recorder.dispatch(a_config())
        finally:
            sys.setprofile(None)
            logger.removeHandler(handler)
            logger.setLevel(level)
    steps[-1] += f", with accelerator={recorder.execution.accelerator!r}"
    return steps


class _Steps(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(f"log {record.levelname}: {record.getMessage()}")


@contextmanager
def _warnings_into(say: Callable[[str], None]) -> Iterator[None]:
    def show(message: Warning | str, *rest: Any) -> None:
        if isinstance(message, PolicyWarning):
            say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        yield
