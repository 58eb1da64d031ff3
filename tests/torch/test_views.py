"""Where a lower dose is learned, most batches show other views of the sample, and say so."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho_config.errors import ConfigError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.learning.frames import Frames
from ptycho_core.learning.views import Views
from ptycho_core.result.callbacks import Callback
from ptycho_core.simulate import simulate_scan

CPU = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")


class Said(Callback):
    def __init__(self) -> None:
        self.kinds: list[str] = []

    def on_event(self, event) -> None:
        self.kinds.append(event.kind)


@pytest.fixture(scope="module")
def bright() -> Scan:
    return simulate_scan(frames=40, frame_px=32, start_kind="true", photons=1e5, seed=1).scan


@pytest.mark.parametrize(
    ("given", "share"),
    [
        ({"thin_to": 100.0}, 0.75),
        ({"thin_to": 100.0, "view_share": 0.25}, 0.25),
        ({"thin_to": 100.0, "model": ModelConfig(architecture="cnn")}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_share_of_views_is_settled_and_stored(bright: Scan, given: dict, share: float) -> None:
    said = Said()
    trained = get_backend("pytorch").train(bright, TrainingConfig(nepochs=1, **given), CPU, callbacks=[said])
    assert trained.training.view_share == share
    assert ("views" in said.kinds) == (share > 0)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"thin_to": 100.0, "realspace_weight": 1.0, "realspace_mae_weight": 1.0},
        {"thin_to": 100.0, "model": ModelConfig(model_type="supervised")},
    ],
)
def test_views_without_thinning_or_beside_labels_are_refused(bright: Scan, given: dict) -> None:
    with pytest.raises(ConfigError, match=r"`--view-share` is 0\.5"):
        get_backend("pytorch").train(bright, TrainingConfig(nepochs=1, view_share=0.5, **given), CPU)


def frames_that_are_known(bright: Scan, share: float) -> Frames:
    frames = Frames(bright, thin_to=2000.0, views=Views.of_scan(bright), view_share=share, seed=3)
    for _ in range(15):
        frames.batch(np.arange(bright.n_frames))
    return frames


def test_frames_that_are_new_come_first(bright: Scan) -> None:
    frames = Frames(bright, thin_to=2000.0, views=Views.of_scan(bright), view_share=1.0, seed=3)
    everything = np.arange(bright.n_frames)
    measured = Frames(bright).batch(everything).counts
    same = [np.allclose(frames.batch(everything).counts, measured) for _ in range(20)]
    assert all(same[:6])
    assert 0 < sum(same[6:15]) < 9
    assert not any(same[15:])


def test_batches_of_views_are_thinned_draws_of_what_must_be_explained(bright: Scan) -> None:
    frames = frames_that_are_known(bright, 1.0)
    members = np.arange(12)
    one, other = frames.batch(members), frames.batch(members)
    measured = Frames(bright, thin_to=2000.0).batch(members)
    assert not np.allclose(one.counts, measured.counts)
    assert not np.allclose(one.counts, other.counts)
    seen = np.square(one.amplitude).sum((1, 2)) / one.counts.sum((1, 2))
    unit = 1 / frames.intensity_scale**2
    # 2000 photons a frame: the energy that is seen varies by some two per cent from frame to frame.
    assert np.allclose(seen, unit, rtol=0.15)


def test_a_share_takes_both(bright: Scan) -> None:
    frames = frames_that_are_known(bright, 0.5)
    measured = Frames(bright, thin_to=2000.0).batch(np.arange(4)).counts
    same = [np.allclose(frames.batch(np.arange(4)).counts, measured) for _ in range(24)]
    assert 4 <= sum(same) <= 20
