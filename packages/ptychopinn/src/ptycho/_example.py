"""One training as older programs ask for it, on whichever backend, and what they get back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from ptycho import _last_trained, _settings, _work
from ptycho_config.models import TrainingConfig
from ptycho_core.physics import cut_patches
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_dispatch.dispatcher import LegacyFlips

__all__ = ["SCRIPT_GROUPS", "run_example"]

#: Groups that older scripts mean where they name no number; the client means all.
SCRIPT_GROUPS = 512


def run_example(
    train_data: Any,
    test_data: Any,
    config: TrainingConfig,
    *,
    backend: str,
    orientation: LegacyFlips,
    do_stitching: bool,
    execution: Any,
    log: logging.Logger,
) -> tuple[Any, Any, dict[str, Any]]:
    """Train with one backend and, where wanted, reconstruct; the network is what `model_manager` saves."""
    _work.available(backend)
    labelled = config.model.model_type == "supervised" or config.realspace_mae_weight > 0
    scan = orientation.applied_to(_work.scan_of(train_data, labelled=labelled))
    test = None if test_data is None else orientation.applied_to(_work.scan_of(test_data, labelled=labelled))
    settings = _settings.training_settings(config, log, counts=scan.measurement == "counts")
    if config.n_groups is None and not _by_the_client(config) and scan.n_frames > SCRIPT_GROUPS:
        log.info("`n_groups` is not given: %d of %d frames are trained on.", SCRIPT_GROUPS, scan.n_frames)
        settings = settings.model_copy(update={"n_groups": SCRIPT_GROUPS})
    done = _work.train(
        scan,
        test,
        settings,
        backend=backend,
        execution=_work.execution_for(backend, execution),
        log=log,
        directory=_directory(config),
    )
    _last_trained.remember(done.trained)
    results: dict[str, Any] = {
        "history": _columns(done.trained.history),
        "train_container": train_data,
        "test_container": test_data,
        "model": done.model,
        "models": {"autoencoder": done.model, "diffraction_to_obj": done.model},
        "intensity_scale": done.model.intensity_scale,
        "backend": backend,
    }
    if (directory := _directory(config)) is not None:
        results["bundle_path"] = done.trained.save(directory)
    if not do_stitching:
        return None, None, results
    reconstruction = done.model.reconstruct(scan if test is None else test)
    amplitude, phase = np.abs(reconstruction.object), np.angle(reconstruction.object)
    results |= {"reconstruction": reconstruction, "recon_amp": amplitude, "recon_phase": phase}
    results |= _patches(reconstruction)
    return amplitude, phase, results


def _by_the_client(config: TrainingConfig) -> bool:
    """Tell the client, which sends `Path()` for what it does not use, from a script."""
    return "output_dir" in config.model_fields_set and config.output_dir == Path()


def _directory(config: TrainingConfig) -> Path | None:
    """Return where results go: what was chosen; `Path()`, which the client sends, means nowhere."""
    chosen = "output_dir" in config.model_fields_set and not _by_the_client(config)
    return config.output_dir if chosen else None


def _columns(history: Any) -> dict[str, list[Any]]:
    """Turn rows into lists by name; the loss of training is `train_loss`."""
    names = dict.fromkeys(name for row in history for name in row)
    return {name: [row.get(name) for row in history] for name in names}


def _patches(result: Reconstruction) -> dict[str, np.ndarray]:
    """Return the object patch of every frame, (n, N, N, 1), and where it lies, (n, 1, 2, 1) in the order (x,
    y).
    """
    used = result.frames_used
    pixels = np.floor(result.positions_on_canvas_px()[used] + 0.5).astype(np.int64)
    patches = cut_patches(result.object, pixels, result.frame_px).astype(np.complex64)[..., None]
    return {"obj_tensor_full": patches, "global_offsets": result.positions_px[used, None, ::-1, None].copy()}
