"""One contract over every registered backend: it answers honestly, and refuses with a remedy."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import BackendUnavailableError, PolicyError, exit_code
from ptycho_config.models import TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import Backend, TrainedModel, discover_backends, get_backend
from ptycho_core.bundle import read_bundle

BACKENDS = discover_backends()
#: Which cores the environment was made with, comma-separated; the sessions of noxfile.py say it.
EXPECTED = os.environ.get("PTYCHO_TEST_BACKENDS")

each_backend = pytest.mark.parametrize("name", sorted(BACKENDS))


def works(name: str) -> bool:
    return BACKENDS[name].availability().installed


@pytest.mark.skipif(EXPECTED is None, reason="only a nox session knows which cores it installed")
def test_exactly_the_installed_cores_are_registered() -> None:
    assert ",".join(sorted(BACKENDS)) == EXPECTED


@pytest.mark.parametrize("name", sorted(point.name for point in entry_points(group="ptycho.backends")))
def test_every_registered_backend_keeps_the_protocol(name: str) -> None:
    backend = BACKENDS[name]
    assert isinstance(backend, Backend)
    assert backend.name == name


@each_backend
def test_a_backend_says_whether_it_can_work_and_if_not_why(name: str) -> None:
    found = BACKENDS[name].availability()
    assert found.devices if found.installed else found.reason
    assert BACKENDS[name].availability() == found


@each_backend
def test_a_backend_that_cannot_work_refuses_with_a_remedy(name: str, scan: Scan) -> None:
    if works(name):
        pytest.skip("this backend works here")
    config = TrainingConfig(train_data_file=Path("scan.npz"))
    for work in (
        lambda: BACKENDS[name].train(scan, config, None, callbacks=()),
        lambda: BACKENDS[name].load(Path("no-bundle"), None),
    ):
        with pytest.raises(BackendUnavailableError, match=r"ptycho reconstruct|pip install") as refused:
            work()
        assert f"`{name}`" in str(refused.value)
        assert exit_code(refused.value) == 4


def test_a_backend_that_is_not_installed_gives_the_command_and_no_other_backend() -> None:
    with pytest.raises(BackendUnavailableError, match="`jax` is not installed"):
        get_backend("jax")


@pytest.mark.finding("POLICY-001")
@pytest.mark.parametrize("asked", ["cuda", "gpu"])
def test_an_explicit_gpu_that_is_absent_is_refused_before_anything_is_read(core, scan: Scan, asked) -> None:
    if any(device.startswith("cuda") for device in core.backend.availability().devices):
        pytest.skip("there is a GPU here")
    execution = core.execution(accelerator=asked)
    for work in (
        lambda: core.backend.train(scan, TrainingConfig(nepochs=1), execution),
        lambda: core.backend.load(Path("there-is-no-such-bundle"), execution),
    ):
        with pytest.raises(PolicyError, match=rf"^POLICY-001: .*'{asked}'.*`{core.flags}accelerator auto`"):
            work()


def test_a_trained_network_reconstructs_and_survives_its_bundle(core, scan: Scan, tmp_path: Path) -> None:
    trained = core.train(scan, model={}, nepochs=2)
    assert isinstance(trained, TrainedModel)
    first = trained.reconstruct(scan, None)
    assert first.method == "network"
    assert np.isfinite(first.object).all()
    bundle = trained.save(tmp_path)
    assert bundle == tmp_path / "wts.h5.zip"
    loaded = core.load(bundle)
    assert loaded.scaling == trained.scaling == read_bundle(bundle).scaling
    again = loaded.reconstruct(scan, None)
    scale = np.abs(first.object).max()
    assert np.abs(again.object - first.object).max() <= 1e-5 * scale
    assert again.data_residual == pytest.approx(first.data_residual, rel=1e-5)
    assert trained.save(tmp_path / "elsewhere" / "own-name.zip").name == "own-name.zip"
