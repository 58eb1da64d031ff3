"""The interface of the PyTorch side, driven as the client does, in this very process."""

from __future__ import annotations

import logging
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ptycho", reason="the distribution ptychopinn is not installed")

from ptycho_config.errors import BundleError, ConfigError, DataError
from ptycho_core import scan_from_arrays
from ptycho_core.backend import discover_backends
from ptycho_torch._canvas import about_the_middle
from ptycho_torch._files import inside_bounds, scans_in
from ptycho_torch.api.base_api import (
    ConfigManager,
    DataloaderFormats,
    InferenceEngine,
    PtychoDataLoader,
    PtychoModel,
    Trainer,
)
from ptycho_torch.config_params import DataConfig, ModelConfig, TrainingConfig
from ptycho_torch.lightning_utils import find_best_checkpoint
from ptycho_torch.model import PtychoPINN_Lightning

pytestmark = [
    pytest.mark.filterwarnings("ignore:POLICY-001:UserWarning"),
    pytest.mark.filterwarnings("ignore:DATA-001:UserWarning"),
]
SIDE = 32
LOG = logging.getLogger("ptychopinn-torch")


class Collector:
    """What the client appends to the callbacks, with the two methods that it uses."""

    def __init__(self, model: Any) -> None:
        self._names = (model.model.loss_name, model.model.val_loss_name)
        self.training: list[tuple[int, float]] = []
        self.validation: list[tuple[int, float]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        value = trainer.callback_metrics.get(self._names[0])
        self.training.append((trainer.current_epoch, float(value)))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            value = trainer.callback_metrics.get(self._names[1])
            self.validation.append((trainer.current_epoch, float(value)))


def configs(**training: Any) -> ConfigManager:
    """The client's defaults for small frames: `device='cuda'`, `strategy='ddp_spawn'`, one device."""
    data = DataConfig(N=SIDE, C=4, grid_size=(2, 2))
    return ConfigManager(data, ModelConfig(), TrainingConfig(**{"epochs": 1, **training}))


def train(folder: Path, output: Path, manager: ConfigManager) -> Collector:
    """The client's training, call by call."""
    loader = PtychoDataLoader(
        data_dir=folder,
        config_manager=manager,
        data_format=DataloaderFormats("lightning_only_module"),
        output_dir=output,
    )
    model = PtychoModel._new_model(model=PtychoPINN_Lightning, config_manager=manager)
    trainer = Trainer._from_lightning(
        model=model, dataloader=loader, orchestration="lightning", config_manager=manager
    )
    collector = Collector(model)
    trainer._trainer.callbacks.append(collector)
    trainer.train(orchestration="lightning", experiment_name="")
    assert find_best_checkpoint(Path(loader.output_dir)) is not None
    return collector


def reconstruct(checkpoint: Path, scan: Any, counts: np.ndarray | None = None) -> np.ndarray:
    """The client's reconstruction, call by call."""
    found = PtychoModel._extract_configs_from_checkpoint(str(checkpoint))
    assert all(config is not None for config in found)
    data, model, training, inference = found
    names = {
        "model_config": model,
        "data_config": data,
        "training_config": training,
        "inference_config": inference,
    }
    network = PtychoModel(**names)
    network.model = PtychoPINN_Lightning.load_from_checkpoint(checkpoint, **names)
    manager = ConfigManager.from_loaded_model(network)
    manager.validate_arch_compatibility(network)
    assert manager.model_config.mode == "Unsupervised"
    engine = InferenceEngine(config_manager=manager, ptycho_model=network)
    loader = PtychoDataLoader.from_np(
        diff_patterns=scan.counts if counts is None else counts,
        probe=scan.probe,
        positions=np.column_stack([scan.y, scan.x]),
        config_manager=manager,
    )
    return np.asarray(engine.predict_and_stitch(loader))


@dataclass(frozen=True)
class Run:
    """A training in one folder, and what its callback heard."""

    folder: Path
    checkpoint: Path
    collector: Collector


@pytest.fixture(scope="module")
def run(client_scan, tmp_path_factory) -> Run:
    core = discover_backends().get("pytorch")
    if core is None or not core.availability().installed:
        pytest.skip(f"pytorch: {core.availability().reason if core else 'not installed'}")
    folder = tmp_path_factory.mktemp("torch")
    client_scan.export(folder / "train_data.npz")
    shutil.copyfile(folder / "train_data.npz", folder / "test_data.npz")
    (folder / "settings.ini").write_text("[Processing]\n")
    collector = train(folder, folder, configs(epochs=2))
    return Run(folder, folder / "model.ckpt", collector)


def test_the_callback_hears_one_loss_for_each_epoch(run: Run) -> None:
    for heard in (run.collector.training, run.collector.validation):
        assert [epoch for epoch, _ in heard] == [0, 1]
        assert np.isfinite([value for _, value in heard]).all()


def test_the_folder_keeps_its_data_and_gets_one_file(run: Run) -> None:
    names = sorted(path.name for path in run.folder.iterdir())
    assert names == ["model.ckpt", "settings.ini", "test_data.npz", "train_data.npz"]


def test_a_copy_elsewhere_reconstructs_alike(run: Run, client_scan, tmp_path: Path) -> None:
    copy = shutil.copyfile(run.checkpoint, tmp_path / "saved by the client.ckpt")
    one, other = (reconstruct(path, client_scan) for path in (run.checkpoint, copy))
    assert one.ndim == 2
    assert one.dtype == np.complex64
    assert np.isfinite(one).all()
    assert np.array_equal(one, other)


def test_a_bundle_under_the_client_s_suffix_is_opened_too(run: Run, client_scan, tmp_path: Path) -> None:
    with zipfile.ZipFile(run.checkpoint) as archive:
        archive.extract("wts.h5.zip", tmp_path)
    renamed = (tmp_path / "wts.h5.zip").rename(tmp_path / "renamed.ckpt")
    assert np.array_equal(reconstruct(renamed, client_scan), reconstruct(run.checkpoint, client_scan))


def test_every_frame_is_used_also_outside_the_bounds_of_the_training(run: Run, client_scan) -> None:
    before = reconstruct(run.checkpoint, client_scan)
    rows, columns = (int(np.ceil(np.ptp(place))) + SIDE for place in (client_scan.y, client_scan.x))
    assert before.shape == (rows, columns)
    for frame in (int(client_scan.x.argmin()), int(client_scan.y.argmax())):
        counts = client_scan.counts.copy()
        counts[frame] = np.rot90(counts[frame])
        change = np.abs(reconstruct(run.checkpoint, client_scan, counts) - before)
        row, column = np.unravel_index(change.argmax(), change.shape)
        assert change.max() > 1e-3
        # Where the frame looks, (y, x): counted from the smallest position, half a window in.
        assert abs(row - (client_scan.y[frame] - client_scan.y.min() + SIDE / 2)) <= SIDE / 2 + 1
        assert abs(column - (client_scan.x[frame] - client_scan.x.min() + SIDE / 2)) <= SIDE / 2 + 1


def test_the_canvas_is_the_client_s_own() -> None:
    """Its middle is the middle between the outermost positions, wherever the object was reconstructed."""
    from types import SimpleNamespace

    y, x = np.mgrid[0:60, 0:70].astype(float)
    origin = np.array([-9.75, 3.5])
    place = (14.0, 40.25)  # scan coordinate of the top of a smooth bump
    bump = np.exp(-((y + origin[0] - place[0]) ** 2 + (x + origin[1] - place[1]) ** 2) / 18)
    positions = np.array([[10.5, 25.5], [20.25, 60.5], [12.0, 30.0]])
    result = SimpleNamespace(
        object=(1 + bump * 1j).astype(np.complex64),
        origin_px=origin,
        positions_px=positions,
        frame_px=16,
        frames_used=np.ones(3, bool),
    )
    image = about_the_middle(result)
    assert image.shape == (10 + 16, 35 + 16)
    weight = image.imag.astype(np.float64)
    top = [(weight.sum(1) @ np.arange(26)) / weight.sum(), (weight.sum(0) @ np.arange(51)) / weight.sum()]
    # The client puts position c at c - 1/2, and the middle of its canvas at (side - 1) / 2.
    middle = (positions.min(0) + positions.max(0) - 1) / 2
    expected = np.array(place) - middle + (np.array(image.shape) - 1) / 2
    assert top == pytest.approx(expected.tolist(), abs=0.05)


def test_files_are_read_once_and_only_those_of_the_folder_itself(client_scan, tmp_path, caplog) -> None:
    below = tmp_path / "below"
    below.mkdir()
    client_scan.export(below / "other.npz")
    manager = configs()
    with pytest.raises(DataError, match=r"holds no `\*.npz` to train on"):
        PtychoDataLoader(tmp_path, manager)
    client_scan.export(tmp_path / "test_data.npz")
    assert PtychoDataLoader(tmp_path, manager).test_scan is None
    client_scan.export(tmp_path / "train_data.npz")
    both = PtychoDataLoader(tmp_path, manager)
    assert both.test_scan is not None
    assert both.scan.n_frames == len(client_scan.x)
    client_scan.export(tmp_path / "more.npz")
    scan, _ = scans_in(tmp_path, LOG)
    assert "2 files are trained on together" in caplog.text
    assert scan.n_frames == 2 * len(client_scan.x)
    first, second = np.split(scan.positions_px[:, 1], 2)
    assert second.min() - first.max() >= 2 * SIDE  # no window of one touches the other
    for part in np.split(scan.amplitude(), 2):
        assert np.allclose(part**2, client_scan.counts, rtol=1e-5, atol=1e-3)


def test_frames_at_the_rim_are_left_out_of_training(caplog) -> None:
    positions = np.stack(np.meshgrid(np.arange(11.0), np.arange(11.0), indexing="ij"), -1).reshape(-1, 2)
    frames = np.ones((121, 16, 16), np.uint16)
    probe = np.ones((16, 16), np.complex64)
    scan = scan_from_arrays(frames, positions, probe, measurement="counts", dc="center")
    inside = inside_bounds(scan, (0.1, 0.9), (0.3, 0.7), LOG)
    y, x = inside.positions_px.T
    assert (y.min(), y.max(), x.min(), x.max()) == (3, 7, 1, 9)
    assert inside_bounds(scan, (0.0, 1.0), (0.0, 1.0), LOG) is scan
    assert inside_bounds(scan, (0.5, 0.5), (0.5, 0.5), LOG) is scan
    assert "would leave 1 of 121 frames; all are used" in caplog.text


def test_another_size_of_frames_names_the_setting(client_scan, tmp_path: Path) -> None:
    client_scan.export(tmp_path / "train_data.npz")
    with pytest.raises(ConfigError, match=r"`N` \(model size\) is 128 and the frames .* are 32 px"):
        PtychoDataLoader(tmp_path, ConfigManager())


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"\x80\x04K\x01.", "pickle of another program"), (b"nothing", "cannot be read as a model")],
)
def test_what_is_no_checkpoint_of_ours_is_refused(content: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"BUNDLE-001.*{text}"):
        PtychoModel._extract_configs_from_checkpoint(str(path))
    with pytest.raises(BundleError, match="no such file"):
        PtychoModel._extract_configs_from_checkpoint(str(tmp_path / "absent.ckpt"))


def test_a_lightning_checkpoint_is_refused_before_anything_of_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x04K\x01.")
    with pytest.raises(BundleError, match="pickle of another program"):
        PtychoModel._extract_configs_from_checkpoint(str(path))


def test_one_epoch_without_a_test_scan_leaves_a_checkpoint(run: Run, client_scan, tmp_path: Path) -> None:
    client_scan.export(tmp_path / "train_data.npz")
    collector = train(tmp_path, tmp_path / "new" / "output", configs())
    assert len(collector.training) == 1
    assert collector.validation == []
    assert (tmp_path / "new" / "output" / "model.ckpt").is_file()
