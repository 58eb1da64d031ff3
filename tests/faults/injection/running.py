"""One act in a process with limits: forked from a process that has all libraries, or started by itself."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from injection.case import GIB, Act

__all__ = ["Ran", "run_act"]

#: Far above what a case may use, so that what is too much is seen and not only refused by the system.
MOST_ADDRESSES, MOST_FILE_BYTES, MOST_CPU_S = 8 * GIB, 2 * GIB, 90
#: How a process of its own begins: it says when all that Python itself does is done.
BEGIN = (
    "import os, sys\n"
    "import ptycho_dispatch.__main__ as program\n"
    "if 'FAULTS_BEGUN' in os.environ: os.write(int(os.environ.pop('FAULTS_BEGUN')), b'.')\n"
    "sys.exit(program.main())\n"
)


@dataclass(frozen=True)
class Ran:
    """What came of an act.

    Attributes:
        code: exit code; below zero it is the signal that ended it, None where it hung.
        seconds: wall clock.
        peak_bytes: resident memory at most.
        out, err: what it wrote.
        at_signal: what it had written to stderr when the first signal was sent.
        waits: it hung and did nothing: more time would not help.
    """

    code: int | None
    seconds: float
    peak_bytes: int
    out: bytes
    err: bytes
    at_signal: bytes = b""
    waits: bool = False


def run_act(act: Act, place: Path, screens: Path, *, patience: float = 1.0) -> Ran:
    """Run an act in its folder; what it says is kept under `screens`.

    Args:
        patience: factor on the time that it may take.
    """
    out, err = screens / "out", screens / "err"
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    reader = _reader_that_leaves(act)
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _become(act, place, out, err, reader, write)
    os.close(write)
    for end in reader:
        os.close(end)
    deadline = started + act.patience_s * patience
    at_signal, hung, waits = b"", True, False
    try:
        if act.stop is not None:
            at_signal, deadline = _stop(act, pid, read, err, deadline)
        hung = not _ended(pid, deadline)
        waits = hung and _only_waits(pid)
        seconds = time.monotonic() - started
    finally:
        # Itself where it hangs, and what it started and left behind; also where we are interrupted.
        if hung:
            _kill(pid)
        _, status, usage = os.wait4(pid, 0)
        _kill(pid)
        os.close(read)
    return Ran(
        None if hung else os.waitstatus_to_exitcode(status),
        seconds,
        usage.ru_maxrss * 1024,
        out.read_bytes() if out.exists() else b"",
        err.read_bytes() if err.exists() else b"",
        at_signal,
        waits,
    )


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _stop(act: Act, pid: int, begun: int, err: Path, deadline: float) -> tuple[bytes, float]:
    """Send the signals at their moments; what the act had said by then, and how long it may take now."""
    assert act.stop is not None
    if act.process:  # counted from the first line of `main`
        select.select([begun], [], [], max(0.0, deadline - time.monotonic()))
    _ended(pid, time.monotonic() + act.stop.after_s)
    said = err.read_bytes() if err.exists() else b""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, act.stop.number)
    if act.stop.again_after_s is not None and not _ended(pid, time.monotonic() + act.stop.again_after_s):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, act.stop.number)
    return said, max(deadline, time.monotonic() + act.patience_s)


def _ended(pid: int, deadline: float) -> bool:
    """Wait until a child has ended, or the time is over."""
    watched = os.pidfd_open(pid)
    try:
        wait_s = max(0.0, deadline - time.monotonic())
        return bool(select.select([watched], [], [], wait_s)[0])
    finally:
        os.close(watched)


def _only_waits(pid: int) -> bool:
    """Tell whether all threads of a process sleep and none does anything for a second."""

    def state() -> list[tuple[str, str, str]] | None:
        try:
            if (Path(f"/proc/{pid}/task/{pid}/children")).read_text().strip():
                return None
            texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        except OSError:
            return None
        fields = [text.rpartition(")")[2].split() for text in texts]
        return [(words[0], words[11], words[12]) for words in fields]

    before = state()
    time.sleep(1.0)
    return before is not None and before == state() and all(found[0] in "SD" for found in before)


def _reader_that_leaves(act: Act) -> tuple[int, ...]:
    """Give the writing end of a pipe whose reader takes one byte and leaves; nothing where none is asked."""
    if "head" not in (act.stdout, act.stderr):
        return ()
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    return (write,)


def _become(act: Act, place: Path, out: Path, err: Path, reader: tuple[int, ...], begun: int) -> None:
    """Turn this child into the act; does not return."""
    code = 70
    try:
        os.setsid()
        os.chdir(place)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        _set_limits(act)
        for name, value in act.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environb[os.fsencode(name)] = os.fsencode(value)
        _redirect(0, "null", out, reader)
        _redirect(1, act.stdout, out, reader)
        _redirect(2, act.stderr, err, reader)
        if act.process:
            if act.stop is not None:
                os.set_inheritable(begun, True)
                os.environ["FAULTS_BEGUN"] = str(begun)
            start = [sys.executable, "-P", "-c", act.program or BEGIN, *act.words]
            os.execve(sys.executable, [os.fsencode(word) for word in start], os.environb)
        os.close(begun)
        code = _call(act)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def _set_limits(act: Act) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
    for kind, most in (
        (resource.RLIMIT_AS, act.address_space_bytes or MOST_ADDRESSES),
        (resource.RLIMIT_FSIZE, act.file_bytes or MOST_FILE_BYTES),
    ):
        resource.setrlimit(kind, (most, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself does when it starts


def _redirect(number: int, kind: str, file: Path, reader: tuple[int, ...]) -> None:
    if kind == "closed":
        os.close(number)
        return
    if kind == "head":
        os.dup2(reader[0], number)
        return
    name = {"null": os.devnull, "full": "/dev/full"}.get(kind, str(file))
    flags = os.O_RDWR | (os.O_CREAT | os.O_APPEND if kind == "file" else 0)
    opened = os.open(name, flags, 0o600)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)


def _call(act: Act) -> int:
    """Call the command line, or the lines of Python, in this process."""
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    if act.program:
        try:
            exec(compile(act.program, "<case>", "exec"), {"__name__": "__main__"})
        except SystemExit as leaving:
            return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        return 0
    from ptycho_dispatch.cli import main

    sys.argv = ["ptycho", *act.words]
    return main(list(act.words))
