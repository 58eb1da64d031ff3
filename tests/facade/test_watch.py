"""A client whose child is killed hears of it, and one whose child ends by itself hears nothing more."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import queue
import signal
from logging.handlers import QueueHandler
from typing import Any

import pytest

pytest.importorskip("ptycho", reason="the distribution ptychopinn is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are watched where there are signals")


class Handler(logging.Handler):
    """Forwards records as the client's own handler does."""

    __module__ = "ptychodus.model.processing"

    def __init__(self, messages: Any) -> None:
        super().__init__()
        self._result_queue = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._result_queue.put(("log", record.levelno, record.name, self.format(record)))


def child(messages: Any, end: str) -> None:
    """What runs in the client's child: the entry of the facade, and then an end."""
    handler = Handler(messages) if end != "another program" else QueueHandler(messages)
    logging.getLogger().addHandler(handler)
    from ptycho_torch.api.base_api import ConfigManager

    ConfigManager()
    logging.getLogger("ptychopinn").warning("at work")
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "crash":
        os._exit(3)
    messages.put(None)


def heard(end: str) -> list[Any]:
    """Wait without end, as the client does; pytest's own limit is that of the run."""
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    process = context.Process(target=child, args=(messages, end))
    process.start()
    found = []
    while (message := messages.get()) is not None:
        found.append(message)
    process.join()
    with pytest.raises(queue.Empty):
        messages.get(timeout=0.5)
    return found


@pytest.mark.parametrize("end", ["killed", "crash"])
def test_a_child_that_dies_is_reported(end: str) -> None:
    *_, (tag, text, kind, error) = heard(end)
    assert (tag, kind) == ("error", "ProcessKilled")
    assert "was killed before it was done" in text
    assert str(pickle.loads(error)) == text  # noqa: S301 - our own process wrote it


def test_a_child_that_ends_by_itself_says_nothing_more() -> None:
    assert [message[0] for message in heard("normal")] == ["log"]


def test_queues_of_other_programs_are_left_alone() -> None:
    assert [type(message) for message in heard("another program")] == [logging.LogRecord]


def test_errors_of_ours_survive_the_way_to_the_parent() -> None:
    from ptycho_config import errors

    for name in ("ConfigError", "DataError", "BundleError", "OutputError", "TrainingError", "PolicyError"):
        error = getattr(errors, name)("found. Expected. Do this.", finding="DATA-001")
        back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (str(back), back.finding) == (str(error), "DATA-001"), name
