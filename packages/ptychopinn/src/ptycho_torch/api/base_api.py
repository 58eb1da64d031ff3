"""The interface that the client drives, under its legacy path: configs, data, network, training, inference.

Training runs on one device in this very process, whatever the strategy asks for: the client's callback is
    made inside a function and can go nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ptycho import _client, _watch, _work
from ptycho_config.errors import ConfigError
from ptycho_core import scan_from_arrays
from ptycho_torch import _checkpoint, _files, config_bridge
from ptycho_torch._canvas import about_the_middle
from ptycho_torch.config_params import DataConfig, DatagenConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptycho_torch.model import PtychoPINN_Lightning

__all__ = [
    "ConfigManager",
    "DataloaderFormats",
    "InferenceEngine",
    "PtychoDataLoader",
    "PtychoModel",
    "Trainer",
]

_LOG = logging.getLogger("ptychopinn-torch")


class DataloaderFormats(Enum):
    """How data are handed to the trainer; all mean the same here."""

    LIGHTNING_MODULE = "lightning_only_module"
    LIGHTNING = "lightning"
    TENSORDICT = "tensordict"
    DATALOADER = "pytorch"


class ConfigManager:
    """The configs of one model."""

    def __init__(
        self,
        data_config: DataConfig | None = None,
        model_config: ModelConfig | None = None,
        training_config: TrainingConfig | None = None,
        inference_config: InferenceConfig | None = None,
        datagen_config: DatagenConfig | None = None,
    ) -> None:
        """Take the configs; defaults hold for those that are not given."""
        _watch.watch_over_this_process()
        self.data_config = data_config or DataConfig()
        self.model_config = model_config or ModelConfig()
        self.training_config = training_config or TrainingConfig()
        self.inference_config = inference_config or InferenceConfig()
        self.datagen_config = datagen_config or DatagenConfig()

    @classmethod
    def from_loaded_model(cls, model: PtychoModel) -> ConfigManager:
        """Return the configs that a model was opened with."""
        return cls(model.data_config, model.model_config, model.training_config, model.inference_config)

    def validate_arch_compatibility(self, model: PtychoModel) -> None:
        """Compare the configs with the network.

        Raises:
            ConfigError: the frames have another size than those of the training.
        """
        network = model.model.network if model.model is not None else None
        if network is not None and network.frame_px != self.data_config.N:
            raise ConfigError(
                f"`N` is {self.data_config.N} in the settings and {network.frame_px} in the model. Train "
                "again."
            )

    @property
    def by_name(self) -> dict[str, Any]:
        """The four configs that a checkpoint keeps."""
        return {
            "data": self.data_config,
            "model": self.model_config,
            "training": self.training_config,
            "inference": self.inference_config,
        }


class PtychoDataLoader:
    """Frames to train on, or to reconstruct."""

    def __init__(
        self,
        data_dir: str | Path,
        config_manager: ConfigManager,
        data_format: DataloaderFormats = DataloaderFormats.LIGHTNING_MODULE,
        output_dir: str | Path | None = None,
    ) -> None:
        """Open the scans of a directory and check the settings against them.

        Raises:
            ConfigError: `N` is not the size of the frames, or `C` not that of the grid.
            DataError: there is no scan, or one is damaged.
        """
        self.output_dir = Path(data_dir if output_dir is None else output_dir)
        self.scan, self.test_scan = _files.scans_in(Path(data_dir), _LOG)
        data = config_manager.data_config
        config_bridge.gridsize_of(data)
        if self.scan.frame_px != data.N:
            raise ConfigError(
                f"`N` (model size) is {data.N} and the frames of {self.scan.name} are {self.scan.frame_px} "
                f"px wide. Set `N` to {self.scan.frame_px}, or crop the frames to {data.N} px."
            )
        self.scan = _files.inside_bounds(self.scan, data.x_bounds, data.y_bounds, _LOG)

    @classmethod
    def from_np(
        cls,
        diff_patterns: np.ndarray,
        probe: np.ndarray,
        positions: np.ndarray,
        config_manager: ConfigManager,
    ) -> PtychoDataLoader:
        """Take what the client has in memory: counts, DC in the centre, and positions (y, x) of pixel
        centres.

        Raises:
            DataError: the arrays make no scan.
        """
        loader = cls.__new__(cls)
        loader.output_dir, loader.test_scan = Path(), None
        loader.scan = scan_from_arrays(
            np.asarray(diff_patterns),
            np.asarray(positions, np.float64),
            np.asarray(probe),
            measurement="counts",
            dc="center",
            position_convention="center",
            bad_frames="off",  # the client counts on as many as it gave
        )
        return loader


class PtychoModel:
    """A network with its configs."""

    def __init__(
        self,
        model_config: ModelConfig,
        data_config: DataConfig,
        training_config: TrainingConfig,
        inference_config: InferenceConfig,
    ) -> None:
        """Take the configs; the network comes later, as `model`."""
        self.model_config, self.data_config = model_config, data_config
        self.training_config, self.inference_config = training_config, inference_config
        self.model: PtychoPINN_Lightning | None = None

    @classmethod
    def _new_model(cls, model: type[PtychoPINN_Lightning], config_manager: ConfigManager) -> PtychoModel:
        """Make a network to train."""
        manager = config_manager
        new = cls(
            manager.model_config, manager.data_config, manager.training_config, manager.inference_config
        )
        new.model = model(model_config=manager.model_config, data_config=manager.data_config)
        return new

    @staticmethod
    def _extract_configs_from_checkpoint(
        checkpoint_path: str | Path,
    ) -> tuple[DataConfig, ModelConfig, TrainingConfig, InferenceConfig]:
        """Read the configs of a checkpoint.

        Raises:
            BundleError: it is missing, damaged, or of another program.
        """
        _watch.watch_over_this_process()
        found = _checkpoint.read_settings(checkpoint_path)
        return found["data"], found["model"], found["training"], found["inference"]


class Trainer:
    """Trains a network and writes its checkpoint.

    Attributes:
        _trainer: has the list `callbacks`; after the training each of them hears of every epoch, in order.
    """

    def __init__(
        self, model: PtychoModel, dataloader: PtychoDataLoader, config_manager: ConfigManager
    ) -> None:
        self._model, self._loader, self._configs = model, dataloader, config_manager
        self._trainer = SimpleNamespace(callbacks=[])

    @classmethod
    def _from_lightning(
        cls,
        model: PtychoModel,
        dataloader: PtychoDataLoader,
        orchestration: str = "lightning",
        config_manager: ConfigManager | None = None,
    ) -> Trainer:
        """Make a trainer; `orchestration` is ignored."""
        return cls(model, dataloader, config_manager or ConfigManager.from_loaded_model(model))

    def train(self, orchestration: str = "lightning", experiment_name: str = "") -> Path:
        """Train, and write `model.ckpt` into the loader's `output_dir`; both arguments are ignored.

        Raises:
            BackendUnavailableError: PyTorch cannot work here; with how to install it.
            ConfigError, DataError, OutputError, TrainingError: see their docstrings.
        """
        configs, loader = self._configs, self._loader
        _work.available("pytorch")
        self._say_what_is_ignored()
        config = config_bridge.network_settings(
            configs.data_config,
            configs.model_config,
            configs.training_config,
            _LOG,
            counts=loader.scan.measurement == "counts",
        )
        with _client.spoken_warnings(_LOG):
            execution = config_bridge.execution_config(configs.training_config, _LOG)
        done = _work.train(
            loader.scan, loader.test_scan, config, backend="pytorch", execution=execution, log=_LOG
        )
        if self._model.model is not None:
            self._model.model.network = done.model
        _tell(self._trainer.callbacks, done.trained.history, self._model.model)
        path = _checkpoint.write_checkpoint(loader.output_dir, done.trained, configs.by_name)
        _LOG.info("The model is %s.", path)
        return path

    def _say_what_is_ignored(self) -> None:
        configs = self._configs
        ignored = config_bridge.without_counterpart(
            configs.data_config, configs.model_config, configs.training_config, configs.inference_config
        )
        if ignored:
            _LOG.warning("Without effect here: %s.", ", ".join(f"`{name}`" for name in ignored))


class InferenceEngine:
    """Reconstructs with a network."""

    def __init__(self, config_manager: ConfigManager, ptycho_model: PtychoModel) -> None:
        """Take a model that was trained or opened.

        Raises:
            ConfigError: it is neither.
        """
        network = None if ptycho_model.model is None else ptycho_model.model.network
        if network is None:
            raise ConfigError("the model was neither trained nor opened; use `load_from_checkpoint` first.")
        self._network = network

    def predict_and_stitch(self, data_loader: PtychoDataLoader) -> np.ndarray:
        """Reconstruct: every frame, averaged by the light of the probe.

        Returns:
            (rows, columns) complex64: as many pixels as the positions span, and a window more, about their
            middle.
        Raises:
            ConfigError: the frames have another size than those of the training.
        """
        return about_the_middle(self._network.reconstruct(data_loader.scan))


def _tell(callbacks: Sequence[Any], history: Sequence[Any], module: Any) -> None:
    """Let Lightning's callbacks hear of every epoch: what was measured, and which epoch it was."""
    for number, row in enumerate(history):
        metrics = {name: row[name] for name in ("train_loss", "val_loss") if row.get(name) is not None}
        trainer = SimpleNamespace(callback_metrics=metrics, current_epoch=number, sanity_checking=False)
        for callback in callbacks:
            if "val_loss" in metrics:
                callback.on_validation_epoch_end(trainer, module)
            callback.on_train_epoch_end(trainer, module)
