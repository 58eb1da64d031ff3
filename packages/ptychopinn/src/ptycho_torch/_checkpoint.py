"""The client's one file for a trained model, `model.ckpt`: a zip with our bundle and the client's settings
beside it.

Nothing in it can run: the settings are JSON, the bundle is one. A plain bundle under that ending is taken as
    well; a checkpoint of another program, which is a pickle, is refused (BUNDLE-001).
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ptycho_config.errors import BundleError, BundleNotFoundError
from ptycho_config.models import Config
from ptycho_core.backend import TrainedModel
from ptycho_core.bundle import BUNDLE_FILE, read_bundle
from ptycho_core.files import atomic_path, make_directory
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig

__all__ = ["CHECKPOINT", "SETTINGS", "read_settings", "write_checkpoint"]

CHECKPOINT = "model.ckpt"
SETTINGS = "ptycho_torch.json"
_CLASSES: Mapping[str, type[Config]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
    "inference": InferenceConfig,
}
_MOST_BYTES = 1 << 20
_MODES = {"pinn": "Unsupervised", "supervised": "Supervised"}


def write_checkpoint(directory: Path, trained: TrainedModel, settings: Mapping[str, Config]) -> Path:
    """Write `model.ckpt` into a directory, whole or not at all.

    Args:
        settings: the configs by `data`, `model`, `training`, `inference`.
    Raises:
        OutputError: it could not be written.
    """
    final = make_directory(directory) / CHECKPOINT
    text = json.dumps({name: settings[name].model_dump(mode="json") for name in _CLASSES}, indent=1)
    with tempfile.TemporaryDirectory() as temporary, atomic_path(final) as unfinished:
        bundle = trained.save(temporary)
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(SETTINGS, text)
            archive.write(bundle, BUNDLE_FILE)
    return final


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read the configs of a checkpoint by `data`, `model`, `training`, `inference`.

    Raises:
        BundleError: there is no such file, or it is none of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleNotFoundError(f"{path}: no such file. Train a model, or choose another file.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith(".pkl") for name in names):
                raise _older(path)
            if SETTINGS not in names:
                return _settings_of_bundle(path)
            if archive.getinfo(SETTINGS).file_size > _MOST_BYTES:
                raise BundleError(f"{path}: the settings in it are too large.", finding="BUNDLE-001")
            stored = json.loads(archive.read(SETTINGS))
        return {name: kind.model_validate(stored[name]) for name, kind in _CLASSES.items()}
    except zipfile.BadZipFile as error:
        raise (
            _older(path)
            if _is_pickle(path)
            else BundleError(
                f"{path}: cannot be read as a model ({error}). Copy the file again, or train again.",
                finding="BUNDLE-001",
            )
        ) from error
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, ValidationError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            f"{path}: the settings in it cannot be read ({' '.join(str(error).split())[:200]}). Train again.",
            finding="BUNDLE-001",
        ) from error


def _settings_of_bundle(path: Path) -> dict[str, Any]:
    """Describe a plain bundle in the words of the client's configs."""
    bundle = read_bundle(path)
    side = int(bundle.model["gridsize"])
    channels = side**2
    mode = _MODES[bundle.model["model_type"]]
    data = DataConfig(N=int(bundle.model["N"]), C=channels, grid_size=(side, side))
    model = ModelConfig(mode=mode, decoder_last_amp_channels=channels, C_model=channels, C_forward=channels)
    training = TrainingConfig(epochs=int(bundle.training.get("nepochs") or 50))
    return {"data": data, "model": model, "training": training, "inference": InferenceConfig()}


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def _older(path: Path) -> BundleError:
    return BundleError(
        f"{path}: this checkpoint is a pickle of another program, which could run anything when it is "
        "opened. Train again: the checkpoint is then one that can be read safely.",
        finding="BUNDLE-001",
    )
