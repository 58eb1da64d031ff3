"""Bundles cross over: a network that one core trained gives the same object in every other core."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import BundleError, ConfigError, exit_code
from ptycho_core import Scan
from ptycho_core.backend import discover_backends
from ptycho_core.bundle import read_bundle, write_bundle

#: Small enough to train in moments.
SMALL = {"n_filters_scale": 1, "fno_width": 4, "fno_blocks": 2, "fno_cnn_blocks": 1, "fno_modes": 4}
#: Every architecture that both cores offer, and in which it can be had.
MODELS = [
    {"architecture": "unet"},
    pytest.param({"architecture": "unet", "unet_passes": 3}, marks=pytest.mark.slow),
    pytest.param({"architecture": "unet", "input_channels": "amplitude"}, marks=pytest.mark.slow),
    # Each once alone or in groups; the slow tests have it both ways.
    *(
        pytest.param(
            {"architecture": architecture, "gridsize": gridsize},
            marks=[] if gridsize == quick else [pytest.mark.slow],
        )
        for architecture, quick in (("cnn", 2), ("fno", 1), ("fno_vanilla", 2), ("ffno", 1))
        for gridsize in (1, 2)
    ),
]
#: max|a - b| / max|a| of the objects.
TOLERANCE = 1e-5


def named(model: dict[str, Any]) -> str:
    return "-".join(str(value) for value in model.values())


@dataclass(frozen=True)
class Trained:
    """A network, the core that trained it, and its bundle."""

    trainer: str
    network: Any
    bundle: Path


@pytest.fixture(scope="module", params=sorted(discover_backends()))
def trainer(request: pytest.FixtureRequest, at_work) -> Any:
    return at_work(request.param)


@pytest.fixture(scope="module", params=MODELS, ids=named)
def trained(
    request: pytest.FixtureRequest, trainer, scan: Scan, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """An epoch of every architecture in each core."""
    model = {**SMALL, **request.param}
    network = trainer.train(scan, model=model, nepochs=1, batch_size=6, neighbor_count=6)
    return Trained(trainer.name, network, network.save(tmp_path_factory.mktemp(trainer.name)))


def test_it_learned_and_images_its_scan(trained: Trained, scan: Scan) -> None:
    (row,) = trained.network.history
    assert np.isfinite(row["train_loss"])
    result = trained.network.reconstruct(scan)
    assert np.isfinite(result.object).all()
    assert result.coverage.max() > 0


def test_every_core_gives_the_same_object(trained: Trained, scan: Scan, cores) -> None:
    kept = trained.network.reconstruct(scan)
    largest = np.abs(kept.object).max()
    assert np.abs(kept.object - 1).max() > 0.01  # a network that says nothing would agree with anything
    for core in cores.values():
        loaded = core.load(trained.bundle)
        result = loaded.reconstruct(scan)
        assert np.abs(result.object - kept.object).max() <= TOLERANCE * largest, core.name
        assert result.data_residual == pytest.approx(kept.data_residual, rel=TOLERANCE)
        assert np.allclose(result.probe, kept.probe, rtol=0, atol=1e-6 * np.abs(kept.probe).max())
        assert np.array_equal(result.coverage, kept.coverage)
        assert loaded.history == trained.network.history


def test_a_network_that_was_sent_on_comes_back_as_it_was(trained: Trained, cores, tmp_path: Path) -> None:
    """Saved again by another core, a bundle holds the same numbers."""
    first = read_bundle(trained.bundle)
    for core in cores.values():
        again = read_bundle(core.load(trained.bundle).save(tmp_path / core.name))
        assert (again.architecture, again.model, again.training) == (
            first.architecture,
            first.model,
            first.training,
        )
        assert again.scaling == first.scaling
        assert again.history == first.history
        assert again.weights.keys() == first.weights.keys()
        assert all(np.array_equal(again.weights[name], first.weights[name]) for name in first.weights)
        assert np.array_equal(again.probe, first.probe)
        assert np.array_equal(again.probe_given, first.probe_given)
        # Who trained it is remembered, whoever wrote it last.
        assert again.backend == trained.trainer


@pytest.fixture(scope="module")
def bundle(trainer, scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs of a quick network, trained by each core."""
    network = trainer.train(scan, nepochs=3, batch_size=8)
    return network.save(tmp_path_factory.mktemp(trainer.name))


def test_a_training_goes_on_in_every_core(bundle: Path, scan: Scan, cores, listening) -> None:
    first = []
    for core in cores.values():
        heard, before = listening(), core.load(bundle)
        gone_on = core.train(scan, start=before, callbacks=[heard], nepochs=5)
        assert [row["epoch"] for row in gone_on.history] == [1, 2, 3, 4, 5]
        assert gone_on.history[:3] == before.history
        with pytest.raises(ConfigError, match=r"`batch_size` was 8 and is 4"):
            core.train(scan, start=before, nepochs=5, batch_size=4)
        first.append(heard.steps[0].residual)
    # The same weights, the same frames: the first step finds the same, wherever it is taken.
    assert first == pytest.approx([first[0]] * len(first), rel=1e-4)


def test_an_architecture_of_one_core_alone_is_refused_with_its_name(
    bundle: Path, cores, tmp_path: Path
) -> None:
    """Such a network needs frames of 128 px; its manifest is enough to refuse it."""
    plain = read_bundle(bundle)
    model = {**plain.model, "architecture": "neuralop_uno"}
    uno = write_bundle(tmp_path, replace(plain, architecture="neuralop_uno", model=model))
    with pytest.raises(
        BundleError, match=r"`neuralop_uno`, which the TensorFlow core does not have"
    ) as refused:
        cores["tensorflow"].load(uno)
    assert "the PyTorch core has it: use `--backend pytorch`" in str(refused.value)
    assert exit_code(refused.value) == 3
