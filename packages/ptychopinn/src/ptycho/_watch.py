"""A client that waits for its child is told when the child dies.

Ptychodus runs every call in a child process and waits on a queue without end. A child that is killed, by the
system when memory runs out or by hand, sends nothing more, and the client would wait for ever. So a small
process looks on: when the child ends in any other way than by itself, it puts the error on the queue that the
child could not.

The queue is that of the handler through which the client forwards log records; without such a handler nothing
is watched. The watcher imports the standard library alone and ends with the child.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import subprocess
import sys
from multiprocessing.queues import Queue

__all__ = ["watch_over_this_process"]

_watched = False
_CLIENT = "ptychodus"
#: What the watcher sends: the error, and the end.
_MESSAGES = 2

#: Waits for the end of a pipe; its arguments are the pipe's descriptor, the queue's, and the child's number.
_WATCHER = """
import os, pickle, sys
from multiprocessing.connection import Connection
alive, queue, pid = map(int, sys.argv[1:])
os.setsid()
if os.read(alive, 1) == b"":
    text = (
        f"The process {pid} that did the work was killed before it was done: the system does so when memory "
        "runs out. Look into the system's log; use fewer or smaller frames, or a machine with more memory."
    )
    pipe = Connection(queue, readable=False)
    try:
        for message in (("error", text, "ProcessKilled", pickle.dumps(RuntimeError(text))), None):
            pipe.send(message)
    except OSError:
        pass  # the client has gone as well
"""


def watch_over_this_process() -> None:
    """Start the watcher, once, where a client waits on a queue for this process."""
    global _watched
    queue = _queue_of_the_client()
    if _watched or queue is None or os.name != "posix":
        return
    _watched = True
    ours, theirs = os.pipe()
    # Not inherited by any process but the watcher: the pipe must end when this process does.
    writer: int = queue._writer.fileno()  # type: ignore[attr-defined] # no public way leads to it
    command = [sys.executable, "-I", "-c", _WATCHER, str(ours), str(writer), str(os.getpid())]
    for _ in range(_MESSAGES):
        # The client gives one back for each message that it gets; those of the watcher are taken beforehand.
        queue._sem.acquire(block=False)  # type: ignore[attr-defined]
    with contextlib.suppress(OSError):  # a host without another process or descriptor works on, unwatched
        subprocess.Popen(command, pass_fds=(ours, writer), stdin=subprocess.DEVNULL)
    os.close(ours)
    atexit.register(_say_goodbye, theirs)


def _say_goodbye(pipe: int) -> None:
    """Tell the watcher that this process ends by itself."""
    with contextlib.suppress(OSError):
        os.write(pipe, b".")


def _queue_of_the_client() -> Queue | None:
    """Find the queue through which a parent process receives our log records."""
    if multiprocessing.parent_process() is None:
        return None
    for handler in logging.getLogger().handlers:
        # Other programs send log records through queues too, and expect nothing else on them.
        if type(handler).__module__.split(".")[0] == _CLIENT:
            queues = [value for value in vars(handler).values() if isinstance(value, Queue)]
            return queues[0] if queues else None
    return None
