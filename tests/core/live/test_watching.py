"""The whole loop: what comes out is what a finished scan gives, whatever happened on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from ptycho_config.errors import DataError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import Callback, Reconstruction, Scan, save_scan, solve
from ptycho_core.io import RawScan
from ptycho_core.live import Arrival, BySolver, LiveOptions, LiveReport, feed, open_source, opening, watch
from ptycho_core.live.feed import Feed
from ptycho_core.result.history import RunEvent

CONFIG = SolverConfig()
EXECUTION = SolverExecutionConfig(arrays="numpy", accelerator="cpu", threads=1)
QUICK = LiveOptions(refresh_s=0.05, timeout_s=0.2)


class Script:
    """A source that hands over what a test prepared, one list at each look."""

    name = "script"

    def __init__(self, scan: Scan, looks: list[list[Arrival]], *, failing: Exception | None = None) -> None:
        self._scan, self._looks, self._failing = scan, list(looks), failing

    def head(self) -> RawScan:
        return RawScan(name="script", frames=np.empty((0, 0, 0)), positions_px=None, probe=self._scan.probe)

    def poll(self, *, last: bool = False) -> list[Arrival]:
        if not self._looks and self._failing is not None:
            raise self._failing
        return self._looks.pop(0) if self._looks else []

    def positions_known(self) -> np.ndarray | None:
        return None

    @property
    def expected(self) -> int | None:
        return None

    @property
    def ended(self) -> bool:
        return not self._looks and self._failing is None

    def missing(self) -> dict[int, str]:
        return {}


class Events(Callback):
    def __init__(self, stop_when: Callable[[], bool] = lambda: False) -> None:
        self.events: list[RunEvent] = []
        self.should_stop = stop_when

    def on_event(self, event: RunEvent) -> None:
        self.events.append(event)


def arrival(scan: Scan, index: int, frame: np.ndarray | None = None) -> Arrival:
    frame = scan.counts(slice(index, index + 1))[0] if frame is None else frame
    return Arrival(index, frame, scan.positions_px[index], time.perf_counter())


def worker(finish: str = "solve") -> BySolver:
    return BySolver(CONFIG, EXECUTION, finish=finish)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def offline(scan: Scan) -> Reconstruction:
    return solve(scan, CONFIG, EXECUTION)


def test_a_replay_ends_where_the_finished_scan_does(
    scan: Scan, offline: Reconstruction, tmp_path: Path
) -> None:
    save_scan(scan, tmp_path / "scan.npz")
    reports: list[LiveReport] = []
    source = open_source(tmp_path / "scan.npz", replay=400.0)
    result, record = watch(
        source, worker(), options=QUICK, picture=tmp_path / "live.png", on_report=reports.append
    )
    assert abs(result.data_residual - offline.data_residual) < 0.001
    assert record.frames == scan.n_frames
    assert len(record.latencies_s) == scan.n_frames
    assert min(record.latencies_s) > 0
    assert reports[-1].frames == reports[-1].expected == scan.n_frames
    assert reports[-1].waiting == 0
    assert record.pictures == len(reports)
    assert result.provenance["live"]["frames"] == scan.n_frames
    assert result.history[0]["level"] == 0
    picture = matplotlib.image.imread(tmp_path / "live.png")
    assert picture.ndim == 2
    assert picture.std() > 0.1
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_frames_that_are_late_repeated_or_broken_stop_nothing(scan: Scan) -> None:
    broken = arrival(scan, 7, np.full((32, 32), np.inf))
    small = arrival(scan, 11, np.ones((8, 8)))
    first = [arrival(scan, index) for index in range(30) if index not in (4, 7, 11)]
    rest = [arrival(scan, index) for index in range(30, scan.n_frames)]
    looks = [[*first[:20], broken], [small, *first[15:]], rest, [arrival(scan, 4), arrival(scan, 7)]]
    listener = Events()
    result, record = watch(Script(scan, looks), worker(), options=QUICK, callbacks=[listener])
    assert record.frames == scan.n_frames - 1
    assert list(record.left_out) == [11]
    assert record.repeated == 5
    assert {"left_out", "repeated"} <= {event.kind for event in listener.events}
    without = solve(scan.select(np.delete(np.arange(scan.n_frames), 11)), CONFIG, EXECUTION)
    assert abs(result.data_residual - without.data_residual) < 0.001
    np.testing.assert_allclose(result.positions_px, np.delete(scan.positions_px, 11, axis=0))


@pytest.mark.parametrize("finish", ["polish", "none"])
def test_other_ways_to_finish(finish: str, scan: Scan, offline: Reconstruction) -> None:
    looks = [[arrival(scan, index) for index in range(first, first + 20)] for first in (0, 20, 40)]
    result, _ = watch(Script(scan, looks), worker(finish), options=QUICK)
    assert np.isfinite(result.object).all()
    assert (finish == "none") == (result.data_residual > offline.data_residual + 0.01)


def test_a_stop_keeps_the_image_so_far(scan: Scan) -> None:
    looks = [[arrival(scan, index) for index in range(40)], *([[]] * 100_000)]
    reports: list[LiveReport] = []
    stopped = Events(lambda: len(reports) >= 1)
    patient = LiveOptions(refresh_s=0.05, timeout_s=60.0)
    result, record = watch(
        Script(scan, looks), worker(), options=patient, on_report=reports.append, callbacks=[stopped]
    )
    assert result.interrupted
    assert result.n_frames == 40
    assert record.ended == "stopped on request"
    assert result.data_residual < 0.5


def test_a_stop_before_anything_came_is_an_interruption(scan: Scan) -> None:
    with pytest.raises(KeyboardInterrupt):
        watch(Script(scan, [[]] * 2000), worker(), options=QUICK, callbacks=[Events(lambda: True)])


@pytest.mark.parametrize("count", [1, 3])
def test_a_scan_of_very_few_frames_ends_all_the_same(count: int, scan: Scan) -> None:
    result, record = watch(
        Script(scan, [[arrival(scan, index) for index in range(count)]]), worker(), options=QUICK
    )
    assert record.frames == result.n_frames == count


def test_a_picture_that_cannot_be_written_stops_nothing(scan: Scan, tmp_path: Path) -> None:
    looks = [[arrival(scan, index) for index in range(30)], [arrival(scan, index) for index in range(30, 60)]]
    listener, gone = Events(), tmp_path / "gone" / "live.png"
    _, record = watch(Script(scan, looks), worker("none"), options=QUICK, picture=gone, callbacks=[listener])
    assert record.frames == scan.n_frames
    assert [event.kind for event in listener.events].count("live_picture") == 1


def test_a_source_that_fails_or_gives_nothing_is_an_error(scan: Scan) -> None:
    with pytest.raises(DataError, match="torn"):
        watch(Script(scan, [], failing=DataError("torn")), worker(), options=QUICK)
    with pytest.raises(DataError, match="no frame came"):
        watch(Script(scan, []), worker(), options=QUICK)


def test_what_came_before_a_source_failed_is_used(scan: Scan) -> None:
    looks, listener = [[arrival(scan, index) for index in range(30)]], Events()
    failing = Script(scan, looks, failing=OSError("the disk went away"))
    result, record = watch(failing, worker("none"), options=QUICK, callbacks=[listener])
    assert result.n_frames == 30
    assert record.ended == "its source failed"
    assert "the disk went away" in next(e.message for e in listener.events if e.kind == "stopped")


def test_a_feed_ends_when_it_should(scan: Scan) -> None:
    frames = [arrival(scan, index) for index in range(4)]
    for options, why in (
        ({"expected": 3}, "all 3 frames came"),
        ({"timeout_s": 0.1}, "no frame came for 0.1 s"),
    ):
        source = Script(scan, [frames, *([[]] * 2000)])
        with Feed(source, **options) as feed:  # type: ignore[arg-type]
            until = time.perf_counter() + 20
            while not feed.ended and time.perf_counter() < until:
                time.sleep(0.01)
            assert feed.ended == why
            assert len(feed.take()) == 4


class Silent(Script):
    """A source that gives its frames and then never comes back, as one on a disk that is gone."""

    def __init__(self, scan: Scan, looks: list[list[Arrival]]) -> None:
        super().__init__(scan, looks)
        self.let_go = threading.Event()

    def poll(self, *, last: bool = False) -> list[Arrival]:
        if not self._looks:
            self.let_go.wait()
        return super().poll(last=last)

    @property
    def ended(self) -> bool:
        return False


def test_a_source_that_does_not_answer_ends_the_watch(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "NO_ANSWER_S", 0.1)
    source = Silent(scan, [[arrival(scan, index) for index in range(40)]])
    result, record = watch(source, worker("none"), options=QUICK)
    source.let_go.set()
    assert result.n_frames == 40
    assert "has not answered" in record.ended


def test_a_disk_that_does_not_answer_the_first_look_ends_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    is_dir = Path.is_dir

    def silent(path: Path) -> bool:
        if path.name == "scan.h5":
            let_go.wait()
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", silent)
    monkeypatch.setattr(opening, "NO_ANSWER_S", 0.1)
    try:
        with pytest.raises(DataError, match=r"scan.h5: it has not answered .* Is the disk there"):
            open_source(tmp_path / "scan.h5", timeout_s=0.1)
    finally:
        let_go.set()


def test_a_scan_that_takes_long_to_read_is_not_taken_for_silent(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_scan(scan, tmp_path / "scan.npz")
    read_scan = opening.read_scan

    def working(*given: object) -> Scan:
        until = time.thread_time() + 0.5
        while time.thread_time() < until:
            pass
        return read_scan(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "read_scan", working)
    monkeypatch.setattr(opening, "NO_ANSWER_S", 0.2)
    assert open_source(tmp_path / "scan.npz", replay=500.0, timeout_s=0.1).expected == scan.n_frames


def test_what_the_first_look_finds_wrong_is_said_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither the file nor its folder is there"):
        open_source(tmp_path / "none" / "scan.h5", timeout_s=10.0)


class Refusing(BySolver):
    """A worker that cannot finish."""

    def finished(self, scan: Scan, callbacks: Sequence[Callback]) -> Reconstruction:
        raise MemoryError("no room")


def test_a_scan_that_cannot_be_finished_keeps_its_live_image(scan: Scan) -> None:
    source = Script(scan, [[arrival(scan, index) for index in range(60)]])
    result, _ = watch(source, Refusing(CONFIG, EXECUTION), options=QUICK)
    assert result.n_frames == 60
    assert [event.message for event in result.events if event.kind == "not_finished"]


def test_a_file_that_is_gone_in_the_end_costs_its_checksum_alone(scan: Scan, tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.rint(scan.counts()).astype(np.uint16))
    np.savetxt(tmp_path / "positions.csv", scan.positions_px, delimiter=",", header="y,x", comments="")
    source = open_source(tmp_path / "s.npy")
    gone = Events(lambda: False)
    result, record = watch(
        source,
        worker("none"),
        options=QUICK,
        on_report=lambda report: (tmp_path / "s.npy").unlink(missing_ok=report.frames == 60),
        callbacks=(gone,),
    )
    assert record.frames == 60
    assert result.provenance["input"]["sha256"] is None
    assert any("is gone" in event.message for event in gone.events)
