"""Other settings than the defaults, by the client's calls: groups, modes, large batches, labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ptycho", reason="the distribution ptychopinn is not installed")

import ptycho.loader
import ptycho.params
import ptycho.probe
import ptycho.tf_helper
from ptycho.config.config import InferenceConfig, ModelConfig, update_legacy_dict
from ptycho.workflows.components import load_inference_bundle
from ptycho_config.errors import ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore:POLICY-001:UserWarning"),
    pytest.mark.filterwarnings("ignore:DATA-001:UserWarning"),
    pytest.mark.filterwarnings("ignore:OVERSAMPLING-001:UserWarning"),
]
SIDE = 32


def image_of(folder: Path, scan: Any, model: ModelConfig, samples: int = 1) -> np.ndarray:
    """The client's reconstruction with these settings."""
    update_legacy_dict(ptycho.params.cfg, InferenceConfig(model=model))
    network, _ = load_inference_bundle(folder)
    raw = scan.raw()
    ptycho.probe.set_probe_guess(None, raw.probeGuess)
    grouped = raw.generate_grouped_data(SIDE, K=7, nsamples=samples, gridsize=model.gridsize)
    container = ptycho.loader.load(lambda: grouped, raw.probeGuess, which=None, create_split=False)
    scaled = container.X * ptycho.params.get("intensity_scale")
    patches = network.predict([scaled, container.local_offsets])
    assert patches.shape == (len(container.X), SIDE, SIDE, 1)
    return np.squeeze(ptycho.tf_helper.reassemble_position(patches, container.global_offsets, M=20))


@pytest.mark.parametrize("architecture", ["unet", "cnn"])
@pytest.mark.parametrize("samples", [1, 2])
def test_groups_of_four(architecture: str, samples: int, train_on, client_scan) -> None:
    model = ModelConfig(N=0, gridsize=2, architecture=architecture)
    done = train_on("pytorch", model=model, batch_size=4)
    image = image_of(done.output, client_scan, ModelConfig(N=SIDE, gridsize=2), samples)
    assert image.shape == client_scan.obj.shape
    assert np.isfinite(image).all()
    with pytest.raises(ConfigError, match="`gridsize` is 1 here and 2 in the model"):
        image_of(done.output, client_scan, ModelConfig(N=SIDE, gridsize=1))


@pytest.mark.parametrize(
    "settings",
    [{"batch_size": 2**30}, {"mae_weight": 1.0, "nll_weight": 0.0}, {"probe_trainable": True}],
    ids=["more frames in a step than there are", "amplitudes", "trained probe"],
)
def test_settings_of_the_client_s_window(settings: dict[str, Any], train_on, client_scan) -> None:
    done = train_on("pytorch", **settings)
    assert np.isfinite(done.results["history"]["train_loss"]).all()
    assert np.isfinite(image_of(done.output, client_scan, ModelConfig(N=SIDE, gridsize=1))).all()


def test_three_modes(train_on, client_scan, monkeypatch) -> None:
    modes = np.concatenate([client_scan.probe, *(0.2 * np.roll(client_scan.probe, 3 * i, 1) for i in (1, 2))])
    scan = replace(client_scan, probe=modes)
    original = type(client_scan).export
    monkeypatch.setattr(type(client_scan), "export", lambda _, path: original(scan, path))
    done = train_on("pytorch")
    assert np.isfinite(image_of(done.output, scan, ModelConfig(N=SIDE, gridsize=1))).all()


def test_labels_are_learned_where_the_product_has_an_object(client_scan, train_on, monkeypatch) -> None:
    y, x = np.mgrid[0 : client_scan.obj.shape[0], 0 : client_scan.obj.shape[1]]
    obj = np.exp(0.5j * np.sin(x / 5) * np.cos(y / 7))
    original = type(client_scan).export
    scan = replace(client_scan, obj=obj)
    monkeypatch.setattr(type(client_scan), "export", lambda _, path: original(scan, path))
    done = train_on("pytorch", model=ModelConfig(N=0, model_type="supervised"))
    image = image_of(done.output, scan, ModelConfig(N=SIDE, gridsize=1, model_type="supervised"))
    assert np.isfinite(image).all()
