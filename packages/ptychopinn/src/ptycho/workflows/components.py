"""The workflow of older scripts under its legacy path: load, train, reconstruct, save."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import ptycho.params
from ptycho import _example, _last_trained, _watch, _work
from ptycho.config.config import TrainingConfig, load_yaml_config
from ptycho.loader import PtychoDataContainer
from ptycho.loader import load as _load
from ptycho.raw_data import RawData
from ptycho.tf_helper import on_canvas
from ptycho.workflows import backend_selector
from ptycho_config.errors import ConfigError
from ptycho_core.files import atomic_path
from ptycho_core.io import make_directory, open_scan
from ptycho_core.physics.canvas import on_whole_pixels
from ptycho_dispatch.dispatcher import LegacyFlips

__all__ = [
    "create_ptycho_data_container",
    "load_data",
    "load_inference_bundle",
    "load_yaml_config",
    "reassemble_cdi_image",
    "run_cdi_example",
    "run_cdi_example_tensorflow",
    "save_outputs",
    "setup_configuration",
    "train_cdi_model",
]

_LOG = logging.getLogger("ptychopinn")


def run_cdi_example(
    train_data: Any,
    test_data: Any,
    config: TrainingConfig,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    do_stitching: bool = False,
) -> tuple[Any, Any, dict[str, Any]]:
    """Train a network with the backend of the config; with `do_stitching` reconstruct the test scan with it.

    Returns:
        Amplitude and phase (None without stitching), and a dict with `history`, `model`, `backend` and more.
    Raises:
        See `ptycho.workflows.backend_selector.run_cdi_example_with_backend`.
    """
    _watch.watch_over_this_process()
    return backend_selector.run_cdi_example_with_backend(
        train_data, test_data, config, flip_x, flip_y, transpose, M, do_stitching
    )


def run_cdi_example_tensorflow(
    train_data: Any,
    test_data: Any,
    config: TrainingConfig,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    do_stitching: bool = False,
    *,
    execution_config: Any = None,
) -> tuple[Any, Any, dict[str, Any]]:
    """Do what `run_cdi_example` says on TensorFlow, without asking which backend is meant.

    Raises:
        BackendUnavailableError: TensorFlow cannot work here; with the ways out.
    """
    orientation = LegacyFlips(flip_x, flip_y, transpose)
    return _example.run_example(
        train_data,
        test_data,
        config,
        backend="tensorflow",
        orientation=orientation,
        do_stitching=do_stitching,
        execution=execution_config,
        log=_LOG,
    )


def train_cdi_model(train_data: Any, test_data: Any, config: TrainingConfig) -> dict[str, Any]:
    """Train a network; the results of `run_cdi_example` without an object.

    Raises:
        See `run_cdi_example`.
    """
    return run_cdi_example(train_data, test_data, config)[2]


def load_inference_bundle(
    bundle_dir: str | Path, model_name: str = "diffraction_to_obj"
) -> tuple[Any, dict[str, Any]]:
    """Open a stored network: its `wts.h5.zip`, the directory that holds it, or where it was unpacked.

    The factor for `X` is in the registry afterwards. What a typed config wrote there stays; where none did,
    the settings that the network was trained with are restored.

    Args:
        model_name: `autoencoder` or `diffraction_to_obj`; both are the same network.
    Returns:
        The network, with `predict`, and the settings it was trained with.
    Raises:
        BundleError: nothing is there, or it is damaged, or of an older program.
        BackendUnavailableError: the backend that it names cannot work here; with the ways out.
    """
    _watch.watch_over_this_process()
    backend_selector.check_model_name(model_name)
    stored = _work.open_network(bundle_dir, log=_LOG)
    trained_with = {**stored.bundle.training, "model": stored.bundle.model, "output_dir": Path()}
    # `architecture` is in the registry since a typed config was written, and not before.
    if "architecture" not in ptycho.params.cfg:
        backend_selector.update_legacy_dict(ptycho.params.cfg, TrainingConfig.model_validate(trained_with))
    settings = {**stored.bundle.model, **stored.bundle.training}
    return stored.model, settings | {"intensity_scale": stored.model.intensity_scale}


def save_outputs(amplitude: Any, phase: Any, results: dict[str, Any], output_prefix: str | Path) -> None:
    """Draw amplitude and phase where there are any: `reconstructed_amplitude.png`, `reconstructed_phase.png`.

    Raises:
        OutputError: they could not be written.
    """
    directory = make_directory(output_prefix)
    if amplitude is None or phase is None:
        return
    from matplotlib.image import imsave

    for name, values in (("amplitude", amplitude), ("phase", phase)):
        image = np.squeeze(np.asarray(values))
        low, high = np.percentile(image, (0.5, 99.5))  # a few bright pixels at the rim would darken the rest
        with atomic_path(directory / f"reconstructed_{name}.png") as temporary:
            imsave(temporary, image, cmap="gray", vmin=low, vmax=high, format="png")


def load_data(
    file_path: str | Path,
    n_images: int | None = None,
    n_subsample: int | None = None,
    flip_x: bool = False,
    flip_y: bool = False,
    swap_xy: bool = False,
    n_samples: int = 1,
    coord_scale: float = 1.0,
    subsample_seed: int | None = None,
) -> RawData:
    """Read a scan file, or some of its frames, with the positions turned and scaled.

    Args:
        n_images: the first so many frames, where `n_subsample` is not given.
        n_subsample: so many frames at random, in scan order.
        n_samples: ignored.
    Raises:
        DataError: the file is no scan.
    """
    from ptycho_core.scan.grouping import choose_frames

    scan = open_scan(file_path)
    if n_subsample is not None:
        scan = scan.select(choose_frames(scan.n_frames, n_subsample, subsample_seed))
    elif n_images is not None:
        scan = scan.select(slice(0, n_images))
    positions = scan.positions_px[:, ::-1] if swap_xy else scan.positions_px
    signs = np.array([-1.0 if flip_y else 1.0, -1.0 if flip_x else 1.0])
    return RawData.from_scan(
        replace(scan, positions_px=np.ascontiguousarray(positions * signs * coord_scale))
    )


def create_ptycho_data_container(data: Any, config: TrainingConfig) -> PtychoDataContainer:
    """Group the frames of raw data as the config says.

    Raises:
        ConfigError, DataError: see `RawData.generate_grouped_data`.
    """
    if isinstance(data, PtychoDataContainer):
        return data
    raw = data if isinstance(data, RawData) else RawData.from_scan(_work.scan_of(data))
    wanted = _example.SCRIPT_GROUPS if config.n_groups is None else config.n_groups
    members = config.model.gridsize**2
    grouped = raw.generate_grouped_data(
        (config.model.N if "N" in config.model.model_fields_set else 0) or raw.scan.frame_px,
        K=max(config.neighbor_count, members - 1),
        nsamples=wanted if config.enable_oversampling else min(wanted, raw.scan.n_frames),
        seed=config.subsample_seed,
        sequential_sampling=config.sequential_sampling,
        gridsize=config.model.gridsize,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
        n_subsample=config.n_subsample,
        subsample_seed=config.subsample_seed,
    )
    return _load(lambda: grouped, raw.probeGuess)


def reassemble_cdi_image(
    test_data: Any,
    config: TrainingConfig,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    model: Any = None,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Reconstruct a scan with a network, by default the one trained last in this process.

    Returns:
        Amplitude, phase, and a dict with the `reconstruction`.
    Raises:
        ConfigError: there is no network.
    """
    network = model or _last_trained.last()
    if network is None:
        raise ConfigError("there is no network to reconstruct with; train one, or pass `model=`.")
    scan = LegacyFlips(flip_x, flip_y, transpose).applied_to(_work.scan_of(test_data))
    result = network.reconstruct(scan)
    obj = result.object
    if isinstance(test_data, RawData) and test_data.canvas is not None:
        obj = on_canvas(*on_whole_pixels(obj, result.origin_px), test_data.canvas)
    return np.abs(obj), np.angle(obj), {"reconstruction": result}


def setup_configuration(args: argparse.Namespace, yaml_path: str | Path | None = None) -> TrainingConfig:
    """Make a config of parsed flags and a YAML file; a flag that is not None wins.

    Raises:
        ConfigError: an unknown setting in the file, or a wrong value.
    """
    from pydantic import ValidationError

    from ptycho_config.validation import config_error

    fields = load_yaml_config(yaml_path) if yaml_path is not None else {}
    model = dict(fields.pop("model", {}))
    names = set(TrainingConfig.model_fields["model"].annotation.model_fields)  # type: ignore[union-attr]
    given = {name: value for name, value in vars(args).items() if value is not None}
    for name, value in {**fields, **given}.items():
        if name in names:
            model[name] = value
            fields.pop(name, None)
        elif name in TrainingConfig.model_fields:
            fields[name] = value
    try:
        return TrainingConfig.model_validate({**fields, "model": model})
    except ValidationError as error:
        raise config_error(error, model_class=TrainingConfig) from error
