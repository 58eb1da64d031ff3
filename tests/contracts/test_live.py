"""Watching with a network, on every core: frames in any pieces give the image that all give at once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import ConfigError
from ptycho_core import Scan
from ptycho_core.io import RawScan
from ptycho_core.learning.trained import Trained
from ptycho_core.live import Arrival, ByNetwork, Intake
from ptycho_core.simulate import simulate_scan


class Silent:
    """A source from which nothing comes by itself."""

    name, expected, ended = "silent", None, True

    def head(self) -> RawScan:
        return RawScan(name="silent", frames=np.empty((0, 0, 0)), positions_px=None)

    def poll(self, *, last: bool = False) -> list[Arrival]:
        return []

    def positions_known(self) -> None:
        return None

    def missing(self) -> dict[int, str]:
        return {}


def arrivals(scan: Scan, indices: list[int]) -> list[Arrival]:
    counts = np.rint(scan.counts())
    return [Arrival(i, counts[i], scan.positions_px[i], time.perf_counter()) for i in indices]


@pytest.fixture(scope="module", params=[1, 2], ids=["frame by frame", "in groups of four"])
def trained(core: Any, scan: Scan, quick: dict[str, Any], request: pytest.FixtureRequest) -> Trained:
    return core.train(scan, nepochs=1, model={**quick, "gridsize": request.param})


def test_the_image_does_not_depend_on_the_pieces(trained: Trained, scan: Scan) -> None:
    whole = trained.reconstruct(scan)
    intake, live = Intake(Silent()), ByNetwork(trained, keep_live=True)
    # The middle first, so that the canvas has to grow to all sides.
    distance = np.linalg.norm(scan.positions_px - scan.positions_px.mean(axis=0), axis=1)
    order = np.argsort(distance).tolist()
    # Where the network sees frames in groups, the groups are of those that had come by then.
    several = (order[:17], order[17:20], order[20:])
    for pieces in several if trained.group_size == 1 else (list(range(scan.n_frames)),):
        intake.take(arrivals(scan, pieces))
        while not (len(live.traced) == len(intake) and live.idle):
            live.work(intake, known_px=None, seconds=60.0, frames_per_second=1.0)
    obj, coverage = live.image()
    assert obj.shape == coverage.shape
    kept = live.finished(intake.scan(), ())
    at = np.round(whole.origin_px - kept.origin_px).astype(int)
    rows, columns = (slice(a, a + n) for a, n in zip(at, whole.object.shape, strict=True))
    lit = whole.coverage > 0.2
    difference = np.abs(np.abs(kept.object[rows, columns]) - np.abs(whole.object))[lit]
    # The scale is that of the frames so far.
    assert difference.mean() < 0.02 * np.abs(whole.object)[lit].mean()


def test_the_end_is_one_pass_over_all_frames(trained: Trained, scan: Scan) -> None:
    intake, live = Intake(Silent()), ByNetwork(trained)
    intake.take(arrivals(scan, list(range(scan.n_frames))))
    live.work(intake, known_px=scan.positions_px, seconds=0.0, frames_per_second=1.0)
    assert not live.idle  # no time for all
    result = live.finished(intake.scan(), ())
    np.testing.assert_allclose(result.object, trained.reconstruct(intake.scan()).object, atol=1e-5)


def test_frames_of_another_size_are_refused(trained: Trained) -> None:
    other = simulate_scan(frames=20, frame_px=48, seed=1).scan
    intake, live = Intake(Silent()), ByNetwork(trained)
    intake.take(arrivals(other, list(range(20))))
    with pytest.raises(ConfigError, match=r"trained on frames of 32 px.*--method solver"):
        live.ready(intake, waited_s=1.0, moment_s=0.5, last=False)
