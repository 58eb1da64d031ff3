"""Scans are dealt out the largest first, and what a run before this one did is known."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_dispatch.several import Outcome, Place, closing_table, finished_before
from ptycho_dispatch.together.scan_queue import ScanQueue
from ptycho_dispatch.together.shares import divide_gpus, threads_each

DONE, BROKEN, STOPPED = Outcome("done in 1.0 s"), Outcome("failed", "why", 3), Outcome("interrupted", "", 143)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 5), st.randoms())
def test_every_scan_is_dealt_once_and_the_largest_first(sizes: list[int], ranks: int, random) -> None:
    scans = ScanQueue(dict(enumerate(sizes)))
    at_work = dict[int, int]()
    dealt: list[int] = []
    free = list(range(ranks))
    while free or at_work:
        if free:
            rank = free.pop(random.randrange(len(free)))
            task = scans.next(rank)
            if task is not None:
                assert task[1] is None
                at_work[rank] = int(task[0] or 0)
                dealt.append(at_work[rank])
        else:
            rank = random.choice(list(at_work))
            assert scans.finish(rank, DONE) == at_work.pop(rank)
            free.append(rank)
    assert sorted(dealt) == list(range(len(sizes)))
    assert [sizes[number] for number in dealt] == sorted(sizes, reverse=True)
    assert scans.outcomes.keys() == set(dealt)


def test_a_scan_starts_from_the_nearest_that_has_an_image() -> None:
    scans = ScanQueue({0: 9, 1: 8, 2: 7, 3: 6, 4: 5}, sharing=True)
    assert scans.next(0) == [0, None]
    assert scans.next(1) == [1, None]
    scans.finish(0, DONE)
    scans.finish(1, BROKEN)
    assert scans.next(0) == [2, 0]  # the nearer one has no image
    scans.finish(0, DONE)
    assert scans.next(0) == [3, 2]


def test_who_was_asked_to_stop_stops_all() -> None:
    scans = ScanQueue({0: 1, 1: 1, 2: 1})
    scans.next(0)
    scans.next(1)
    scans.finish(0, STOPPED)
    assert scans.next(0) is None
    assert scans.progress() == "1 of 3, 1 at work"
    scans.finish(1, DONE)
    assert scans.next(1) is None


def test_the_table_has_every_scan_and_the_worst_code(capsys: pytest.CaptureFixture[str]) -> None:
    places = [Place(f"{name}.npz", Path("out", name)) for name in "abc"]
    assert closing_table(places, {0: DONE, 1: BROKEN}) == 3
    table = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[:2] for line in table] == [["a.npz", "done"], ["b.npz", "failed"], ["c.npz", "not"]]


def test_a_scan_is_finished_when_its_record_is_younger_than_its_image(tmp_path: Path) -> None:
    place = Place("scan.npz", tmp_path)
    assert not finished_before(place)
    np.savez(tmp_path / "reconstruction.npz", object=np.ones(2))
    record = tmp_path / "run.json"
    for text, finished in (("no JSON", False), ("[1]", False), ("{}", False)):
        record.write_text(text)
        assert finished_before(place) is finished
    record.write_text(json.dumps({"interrupted": True}))
    assert not finished_before(place)
    record.write_text(json.dumps({"interrupted": False}))
    assert finished_before(place)
    younger = record.stat().st_mtime + 5  # a checkpoint of a run behind it
    os.utime(tmp_path / "reconstruction.npz", (younger, younger))
    assert not finished_before(place)


@pytest.mark.parametrize(
    ("cores", "threads"),
    [
        ([[0, 1, 2, 3]] * 2, 2),  # mpiexec without binding
        ([[0, 1, 2, 3]] * 3, 1),
        ([[0, 1]] * 4, 1),
        ([[0, 1], [2, 3]], None),  # srun with --cpus-per-task
        ([[0, 1, 2, 3]], None),
        ([[], []], None),  # a system that does not tell
    ],
)
def test_cores_are_divided_where_the_launcher_has_not(cores: list[list[int]], threads: int | None) -> None:
    assert threads_each([{"cores": one} for one in cores]) == threads


@pytest.mark.parametrize(
    ("gpus", "divided", "seen", "warned"),
    [
        ([["0", "1"]] * 2, False, ["0", "1"], False),
        ([["0", "1"]] * 3, False, ["0", "1", "0"], True),
        ([["0"]] * 2, False, [None, None], True),
        ([["0"]] * 2, True, [None, None], False),  # each task its own, under the same number
        ([["2"], ["3"]], False, [None, None], False),
        ([[], []], False, [None, None], False),
    ],
)
def test_gpus_are_taken_in_turn(
    gpus: list[list[str]], divided: bool, seen: list[str | None], warned: bool
) -> None:
    hosts = [{"gpus": one, "gpus_divided": divided} for one in gpus]
    for place, expected in enumerate(seen):
        environment: dict[str, str] = {}
        text = divide_gpus(hosts, place, environment)
        assert environment.get("CUDA_VISIBLE_DEVICES") == expected
        assert bool(text) is warned
