"""The threads of the compiled step stay for the next one, and are no one's but the step's."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ptycho_core.kernel import load_kernel, proximal_step

needs_kernel = pytest.mark.skipif(load_kernel().library is None, reason=load_kernel().message)
pytestmark = needs_kernel
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
needs_tasks = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no list of threads in /proc")
#: Large enough for every one of these threads to be worth it.
SHAPE = (512, 512)


def smoothed(seed: int, threads: int) -> np.ndarray:
    """An image after twelve rounds with two barriers each."""
    random = np.random.default_rng(seed)
    target = (random.normal(size=SHAPE) + 1j * random.normal(size=SHAPE)).astype(np.complex64)
    image, dual = target.copy(), np.zeros((2, *SHAPE), np.complex64)
    ones = np.ones(SHAPE, np.float32)
    given = {"target": target, "weight": ones, "strength": ones, "smooth": 0.1, "image": image, "dual": dual}
    proximal_step(load_kernel().library, **given, iterations=12, threads=threads)
    return image


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_as_many_as_are_asked_for_make_the_same_image(threads: int) -> None:
    np.testing.assert_array_equal(smoothed(1, threads), smoothed(1, 1))


def test_crews_grow_and_the_smaller_ones_leave_nobody_waiting() -> None:
    alone = smoothed(2, 1)
    for threads in (2, 7, 2, 1, 5, 3, 8, 2):
        np.testing.assert_array_equal(smoothed(2, threads), alone)


def test_many_steps_at_the_same_time_do_not_meet() -> None:
    expected = [smoothed(seed, 1) for seed in range(4)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: smoothed(number % 4, 2 + number % 3), range(40)))
    for number, image in enumerate(found):
        np.testing.assert_array_equal(image, expected[number % 4])


@needs_tasks
def test_threads_stay_and_are_not_started_anew_for_each_step() -> None:
    smoothed(3, 4)
    before = set(Path("/proc/self/task").iterdir())
    for _ in range(5):
        smoothed(3, 4)
    assert set(Path("/proc/self/task").iterdir()) == before


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    expected = smoothed(4, 4)
    child = os.fork()
    if not child:  # no threads of the parent's live on here
        signal.alarm(60)
        os._exit(0 if np.array_equal(smoothed(4, 4), expected) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    np.testing.assert_array_equal(smoothed(4, 4), expected)


@needs_fork
def test_signals_go_to_the_threads_of_python() -> None:
    smoothed(5, 4)
    heard = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.set())
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard.wait(10)
    finally:
        signal.signal(signal.SIGUSR1, before)
    if sys.platform == "linux":
        blocked = [
            int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1
            for task in Path("/proc/self/task").iterdir()
            for line in (task / "status").read_text().splitlines()
            if line.startswith("SigBlk")
        ]
        assert sum(blocked) >= 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system tells no cores")
def test_one_core_is_enough_for_several_threads() -> None:
    expected, cores = smoothed(6, 1), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        np.testing.assert_array_equal(smoothed(6, 3), expected)
    finally:
        os.sched_setaffinity(0, cores)
