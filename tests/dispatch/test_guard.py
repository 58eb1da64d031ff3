"""Signals, and a watch's timeout, where a library keeps Python's lock and no thread of ours can run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc, as on Linux")

#: A command that calls into C and waits there for ever with Python's lock, as HDF5 does for a dead disk: the
#: second time, a mutex never opens.
STUCK = """
import ctypes, sys
from ptycho_dispatch import __main__, cli
from ptycho_dispatch.signals import HEARING
from ptycho_dispatch.commands import inspection

def run(arguments):
    {before}
    print("stuck", flush=True)
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(mutex)
    {work}
    return 0

inspection.run = run
sys.argv[1:] = ["inspect", "scan.npz"]
sys.exit(__main__.main())
"""
FOR_EVER = "library.pthread_mutex_lock(mutex)"
HEARD = "ptycho: stopping as soon as the present step is done"


def test_closed_streams_cost_no_answer() -> None:
    code = STUCK.format(before="pass", work=FOR_EVER).replace(
        'print("stuck", flush=True)', "sys.stderr.write('stuck\\n')"
    )
    words = ["sh", "-c", 'exec "$0" -c "$1" <&- >&-', sys.executable, code]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "stuck\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith(HEARD)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


def stuck(before: str = "pass", work: str = FOR_EVER) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", STUCK.format(before=before, work=work)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    time.sleep(0.3)  # until it waits
    return process


def guards_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_where_no_thread_can_run_ctrl_c_is_answered_and_the_second_one_ends_it() -> None:
    process = stuck()
    assert process.stderr is not None
    guards = guards_of(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith(HEARD)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (-signal.SIGKILL, "ptycho: interrupted\n")
    assert_gone(guards)


def assert_gone(processes: list[int]) -> None:
    assert len(processes) == 1
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{process}").exists() for process in processes):
        assert time.monotonic() < deadline, "the guard outlived its process"
        time.sleep(0.02)


def test_a_process_that_neither_works_nor_answers_is_ended_when_life_was_expected() -> None:
    process = stuck(before="HEARING.expect_life(2.0)")
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert err.startswith("ptycho: nothing has answered for")


def test_a_process_that_works_is_waited_for() -> None:
    # Python's own arithmetic with numbers of a hundred million digits looks for signals seldom or never.
    process = stuck(before="HEARING.expect_life(0.5)", work="sum(range(60_000_000)); (1 << 60_000_000) ** 2")
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")


def test_without_its_guard_a_process_hears_signals_as_before() -> None:
    process = stuck(work="import time; time.sleep(60)")
    (guard,) = guards_of(process.pid)
    os.kill(guard, signal.SIGKILL)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "ptycho: interrupted\n")


def test_a_guard_ends_with_its_process_and_holds_nobody_up() -> None:
    process = stuck(work="pass")
    process.communicate(timeout=60)  # waits until nobody has the outputs any more
    assert process.returncode == 0
