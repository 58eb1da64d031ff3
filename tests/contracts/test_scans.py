"""What a core makes of scans of every kind: groups, masks, modes, labels, low doses, other sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import ConfigError
from ptycho_config.models import InferenceConfig
from ptycho_core import Scan
from ptycho_core.simulate import simulate_scan


@pytest.fixture(scope="module")
def trained(core, scan: Scan):
    """A network that has seen the scan twice."""
    return core.train(scan, nepochs=2, batch_size=8)


def losses(trained) -> list[float]:
    return [row["train_loss"] for row in trained.history]


# What is learned from


def test_what_bad_pixels_say_is_not_listened_to(core) -> None:
    masked = simulate_scan(frames=24, frame_px=32, start_kind="true", bad_pixel_fraction=0.1, seed=1).scan
    assert masked.bad_pixels is not None
    bad = np.broadcast_to(masked.bad_pixels, masked.frames.shape)
    louder = replace(masked, frames=np.where(bad, masked.frames.max(), masked.frames))
    one, other = (core.train(scan, nepochs=2) for scan in (masked, louder))
    # The scale of the whole scan is measured where pixels work, so that nothing at all has changed.
    assert losses(one) == losses(other)
    assert np.array_equal(one.reconstruct(masked).object, other.reconstruct(louder).object)


@pytest.mark.parametrize("modes", [2, 3])
def test_several_modes_of_the_probe_come_along(core, tmp_path: Path, modes: int) -> None:
    made = simulate_scan(frames=24, frame_px=32, start_kind="true", modes=modes, seed=1)
    scan = replace(made.scan, probe=made.probe.astype(np.complex64))
    trained = core.train(scan, nepochs=2)
    assert losses(trained)[1] < losses(trained)[0]
    result = core.load(trained.save(tmp_path)).reconstruct(scan)
    assert result.probe.shape == (modes, 32, 32)
    shares = [np.sum(np.abs(probe) ** 2, axis=(1, 2)) for probe in (result.probe, scan.probe)]
    assert np.allclose(shares[0] / shares[0].sum(), shares[1] / shares[1].sum(), atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        {"gridsize": 2},
        {"gridsize": 2, "object_big": False},
        {"gridsize": 2, "overlap_constraint": "batch"},
        {"overlap_constraint": "none"},
        {"probe_mask": True},
    ],
    ids=str,
)
def test_groups_and_their_agreement(core, scan: Scan, quick: dict, model: dict) -> None:
    trained = core.train(scan, model={**quick, **model}, nepochs=2, batch_size=6, neighbor_count=6)
    assert losses(trained)[1] < losses(trained)[0]
    result = trained.reconstruct(scan)
    assert np.isfinite(result.object).all()
    assert (result.coverage > 0).sum() > 32 * 32


def test_thinned_frames_and_views_of_the_sample(core, quick: dict, listener) -> None:
    bright = simulate_scan(frames=24, frame_px=32, start_kind="true", photons=1e5, seed=1).scan
    settings = {"thin_to": 2000.0, "view_share": 0.5, "nepochs": 12, "batch_size": 8}
    trained = core.train(bright, callbacks=[listener], **settings)
    (said,) = listener.messages("views")
    assert said.startswith("50% of the batches show other views of the sample")
    assert losses(trained)[-1] < losses(trained)[0]
    assert np.isfinite(trained.reconstruct(bright).data_residual)


def test_labels_are_learned(core, scan: Scan, quick: dict) -> None:
    trained = core.train(scan, model={**quick, "model_type": "supervised"}, nepochs=4, test_scan=scan)
    assert losses(trained)[-1] < losses(trained)[0]
    assert np.isfinite(trained.reconstruct(scan).data_residual)


# What is refused


@pytest.mark.finding("DATA-SUP-001")
@pytest.mark.parametrize("what", ["scan", "test_scan"])
def test_labels_are_asked_for_before_training(core, scan: Scan, quick: dict, listener, what: str) -> None:
    bare = replace(scan, ground_truth=None, patch_truth=None)
    scans = {"scan": scan, "test_scan": scan} | {what: bare}
    with pytest.raises(ConfigError, match=rf"^DATA-SUP-001: .*{scan.name} comes without .*--model-type pinn"):
        core.train(model={**quick, "model_type": "supervised"}, nepochs=1, callbacks=[listener], **scans)
    assert not listener.starts


def test_frames_of_another_size_are_refused(core, scan: Scan, quick: dict, trained) -> None:
    with pytest.raises(ConfigError, match=r"`N` is 64 and the frames of .* are 32 px wide"):
        core.train(scan, model={**quick, "N": 64}, nepochs=1)
    larger = simulate_scan(frames=8, frame_px=48, start_kind="true").scan
    with pytest.raises(ConfigError, match=r"trained on frames of 32 px and .* frames of 48 px"):
        trained.reconstruct(larger)


def test_a_metric_that_there_is_none_of_is_refused(core, scan: Scan, tmp_path: Path) -> None:
    wrong = {"checkpoint_monitor_metric": "accuracy"}
    with pytest.raises(ConfigError, match=rf"`{core.flags}checkpoint-monitor-metric accuracy` is not one of"):
        core.train(scan, execution=wrong, directory=tmp_path, nepochs=1)


# What is imaged


def test_imaging_tells_its_progress(scan: Scan, trained, core, listener) -> None:
    by_five = replace(trained, execution=core.execution(inference_batch_size=5))
    result = by_five.reconstruct(scan, callbacks=[listener])
    (start,) = listener.starts
    assert (start.method, start.n_frames, start.n_steps) == ("network", 24, 5)
    assert [step.step for step in listener.steps] == [1, 2, 3, 4, 5]
    assert listener.steps[-1].frames_done == 24
    (epoch,) = listener.epochs
    assert epoch.residual == result.data_residual
    whole = trained.reconstruct(scan)
    assert np.abs(result.object - whole.object).max() <= 1e-5 * np.abs(whole.object).max()


def test_fewer_groups_image_fewer_frames(scan: Scan, trained) -> None:
    few = InferenceConfig(model_path=Path("x"), test_data_file=Path("y"), n_groups=7)
    assert trained.reconstruct(scan, few).n_frames == 7


def test_the_scan_s_own_probe_is_refined_where_it_is_another(scan: Scan, trained, listening) -> None:
    same, other = listening(), listening()
    trained.reconstruct(scan, callbacks=[same])
    assert not same.messages("probe")
    known = simulate_scan(frames=24, frame_px=32, start_kind="defocus", seed=2)
    result = trained.reconstruct(known.scan, callbacks=[other])
    assert "is not the one that the network was trained with" in other.messages("probe")[0]
    assert np.isfinite(result.object).all()
    # By the modulus: a ramp of the phase may lie in the probe or in the object.
    found, start = (_alike(probe[0], known.probe[0]) for probe in (result.probe, known.scan.probe))
    assert found > max(0.99, start)


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    one, other = np.abs(one), np.abs(other)
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))
