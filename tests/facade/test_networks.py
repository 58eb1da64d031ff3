"""Training, bundles and reconstruction by the client's calls, on each backend that can work here."""

from __future__ import annotations

import logging
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ptycho.loader
import ptycho.model_manager
import ptycho.params
import ptycho.probe
import ptycho.tf_helper
from ptycho.config.config import InferenceConfig, ModelConfig, update_legacy_dict
from ptycho.raw_data import RawData
from ptycho.workflows.components import load_inference_bundle, save_outputs
from ptycho_config.errors import BundleError, ConfigError, OutputError

pytestmark = [
    pytest.mark.filterwarnings("ignore:POLICY-001:UserWarning"),
    pytest.mark.filterwarnings("ignore:DATA-001:UserWarning"),
]
SIDE = 32


def reconstruct(bundle: Path, scan: Any, counts: np.ndarray | None = None, scale: float | None = None) -> Any:
    """The client's reconstruction, call by call."""
    model = ModelConfig(N=SIDE, gridsize=1, probe_scale=4.0)
    update_legacy_dict(ptycho.params.cfg, InferenceConfig(model=model))
    network, _ = load_inference_bundle(bundle)
    raw = RawData.from_coords_without_pc(
        xcoords=scan.x,
        ycoords=scan.y,
        diff3d=scan.counts if counts is None else counts,
        probeGuess=scan.probe,
        scan_index=np.zeros(len(scan.x), int),
        objectGuess=scan.obj,
    )
    ptycho.probe.set_probe_guess(None, raw.probeGuess)
    grouped = raw.generate_grouped_data(SIDE, K=7, nsamples=1, gridsize=1)
    container = ptycho.loader.load(lambda: grouped, raw.probeGuess, which=None, create_split=False)
    if scale is not None:
        ptycho.params.set("intensity_scale", scale)
    factor = ptycho.params.get("intensity_scale")
    patches = network.predict([container.X * factor, container.local_offsets])
    assert patches.shape == (len(scan.x), SIDE, SIDE, 1)
    image = ptycho.tf_helper.reassemble_position(patches, container.global_offsets, M=20)
    return np.squeeze(image)


def test_training_leaves_a_true_zip_and_the_data_as_they_were(trained, client_scan, tmp_path) -> None:
    names = sorted(path.name for path in trained.output.iterdir())
    assert names == ["test_data.npz", "train_data.npz", "wts.h5.zip"]
    fresh = client_scan.export(tmp_path / "fresh.npz")
    with np.load(fresh) as one, np.load(trained.output / "train_data.npz") as other:
        assert all(np.array_equal(one[key], other[key]) for key in one.files)
    with zipfile.ZipFile(trained.output / "wts.h5.zip") as archive:
        assert archive.testzip() is None
        assert all(not name.startswith(("/", "..")) for name in archive.namelist())


def test_the_results_of_a_training_are_those_that_scripts_read(trained) -> None:
    assert trained.results["backend"] == trained.backend
    assert len(trained.results["history"]["train_loss"]) == 1
    assert np.isfinite(trained.results["history"]["train_loss"]).all()
    assert np.isfinite(trained.results["history"]["val_loss"]).all()
    assert set(trained.results["models"]) == {"autoencoder", "diffraction_to_obj"}


def layouts(bundle: Path, folder: Path) -> dict[str, Path]:
    """The places in which the client, and a careful user, may have put a bundle."""
    unpacked, outer = folder / "unpacked", folder / "outer"
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(unpacked)
    with zipfile.ZipFile(folder / "outer.zip", "w") as archive:
        archive.write(bundle, "wts.h5.zip")
        archive.writestr("train_data.npz", b"what else was in the directory")
    with zipfile.ZipFile(folder / "outer.zip") as archive:
        archive.extractall(outer)
    return {
        "output directory": bundle.parent,
        "the file": bundle,
        "unpacked": unpacked,
        "outer zip, unpacked": outer,
        "outer zip": folder / "outer.zip",
    }


def test_every_layout_of_the_bundle_gives_the_same_object(
    trained, client_scan, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("PTYCHO_BACKEND", trained.backend)
    images = {}
    for name, place in layouts(trained.output / "wts.h5.zip", tmp_path).items():
        ptycho.params.cfg.pop("intensity_scale", None)
        images[name] = reconstruct(place, client_scan)
        scale = ptycho.params.get("intensity_scale")
        assert np.isfinite(scale)
        assert scale > 0
    first = images.pop("output directory")
    assert first.shape == client_scan.obj.shape
    assert np.isfinite(first).all()
    assert np.iscomplexobj(first)
    for name, image in images.items():
        assert np.array_equal(image, first), name


def test_a_model_of_one_core_gives_the_same_object_in_the_other(trained, client_scan, monkeypatch) -> None:
    from ptycho_core.backend import discover_backends

    other = {"pytorch": "tensorflow", "tensorflow": "pytorch"}[trained.backend]
    core = discover_backends().get(other)
    if core is None or not core.availability().installed:
        pytest.skip(f"{other}: {core.availability().reason if core else 'not installed'}")
    images = []
    for backend in (trained.backend, other):
        monkeypatch.setenv("PTYCHO_BACKEND", backend)
        images.append(reconstruct(trained.output, client_scan))
    assert np.abs(images[0] - images[1]).max() < 1e-4 * np.abs(images[0]).max()


def test_the_intensity_scale_is_applied_once_whatever_it_is(trained, client_scan, monkeypatch) -> None:
    monkeypatch.setenv("PTYCHO_BACKEND", trained.backend)
    images = [reconstruct(trained.output, client_scan, scale=scale) for scale in (None, 1.0, 31.25)]
    for image in images[1:]:
        assert np.abs(image - images[0]).max() < 1e-4


def test_every_frame_counts(trained, client_scan, monkeypatch) -> None:
    monkeypatch.setenv("PTYCHO_BACKEND", trained.backend)
    before = reconstruct(trained.output, client_scan)
    for frame in (0, 11, len(client_scan.x) - 1):
        counts = client_scan.counts.copy()
        counts[frame] = np.rot90(counts[frame])
        change = np.abs(reconstruct(trained.output, client_scan, counts) - before)
        top, left = int(client_scan.y[frame]) - SIDE // 2, int(client_scan.x[frame]) - SIDE // 2
        inside = change[max(0, top) : top + SIDE, max(0, left) : left + SIDE]
        assert inside.max() > 1e-3
        assert inside.max() == change.max()


def test_what_step_one_wrote_stays_and_scripts_get_the_settings_back(trained, monkeypatch) -> None:
    monkeypatch.setenv("PTYCHO_BACKEND", trained.backend)
    update_legacy_dict(ptycho.params.cfg, InferenceConfig(model=ModelConfig(N=128, gridsize=3)))
    load_inference_bundle(trained.output)
    assert (ptycho.params.get("N"), ptycho.params.get("gridsize")) == (128, 3)
    for key in [key for key in ptycho.params.cfg if key == "architecture"]:
        del ptycho.params.cfg[key]
    _, settings = load_inference_bundle(trained.output)
    assert ptycho.params.get("N") == settings["N"] == SIDE


def test_other_sizes_and_grids_than_in_training_are_refused_with_both(trained, monkeypatch) -> None:
    monkeypatch.setenv("PTYCHO_BACKEND", trained.backend)
    network, _ = load_inference_bundle(trained.output)
    with pytest.raises(ConfigError, match=r"`N` is 64 here and 32 in the model"):
        network.predict([np.ones((3, 64, 64, 1), np.float32), np.zeros((3, 1, 2, 1))])
    with pytest.raises(ConfigError, match=r"`gridsize` is 2 here and 1 in the model"):
        network.predict([np.ones((3, SIDE, SIDE, 4), np.float32), np.zeros((3, 1, 2, 4))])


def test_plain_arrays_are_predicted_frame_by_frame(trained, client_scan, monkeypatch) -> None:
    monkeypatch.setenv("PTYCHO_BACKEND", trained.backend)
    network, _ = load_inference_bundle(trained.output)
    x = client_scan.raw().generate_grouped_data(SIDE, gridsize=1)["X_full"]
    scaled = np.asarray(x * ptycho.params.get("intensity_scale"))
    patches = network.predict([scaled, np.zeros((len(x), 1, 2, 1))])
    assert patches.shape == x.shape
    assert np.isfinite(patches).all()
    assert np.abs(patches[0] - patches[5]).max() > 1e-3


def test_a_flat_object_teaches_nothing(train_on) -> None:
    with pytest.raises(ConfigError, match=r"DATA-SUP-001.*`objectGuess` is the same everywhere"):
        train_on("pytorch", model=ModelConfig(N=0, model_type="supervised"))


def test_saving_before_training_and_on_a_path_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no trained network"):
        ptycho._last_trained.save(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        save_outputs(np.ones((4, 4)), np.ones((4, 4)), {}, str(tmp_path / "file" / "below"))


def test_pictures_of_scripts_are_written_and_no_npz(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((20, 30))
    save_outputs(image, image, {}, str(tmp_path / "new"))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "reconstructed_amplitude.png",
        "reconstructed_phase.png",
    ]


def test_progress_is_logged_where_the_client_listens(train_on, caplog) -> None:
    with caplog.at_level(logging.INFO, "ptychopinn"):
        train_on("pytorch")
    heard = [record.getMessage() for record in caplog.records if record.name == "ptychopinn"]
    assert any(line.startswith("Epoch 1 of 1: residual") and "frames/s" in line for line in heard)
    assert any("probe was refined" in line and "kept with the model" in line for line in heard)
    assert any("as PTYCHO_BACKEND says" in line for line in heard)
    assert not any("`nphotons`" in line for line in heard)  # the client's own default is nobody's choice


def test_older_clients_reach_modules_as_attributes() -> None:
    code = (
        "import ptycho.loader, sys; "
        "print(ptycho.probe.set_probe_guess.__name__, ptycho.tf_helper.reassemble_position.__name__, "
        "'N' in ptycho.model.params(), {'torch', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set_probe_guess reassemble_position True set()"


def test_frames_to_test_on_have_the_size_of_those_to_train_on(client_scan) -> None:
    from dataclasses import replace

    from ptycho import _work
    from ptycho_config.models import TrainingConfig

    scan = client_scan.raw().scan
    other = replace(scan, name="other", frames=np.ones((len(client_scan.x), 16, 16)))
    with pytest.raises(
        ConfigError, match="the frames of other, to test on, are 16 px wide and those of scan"
    ):
        log = logging.getLogger("ptychopinn")
        _work.train(scan, other, TrainingConfig(), backend="pytorch", execution=None, log=log)
