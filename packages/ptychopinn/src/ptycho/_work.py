"""The work behind the legacy calls: train a network on what older programs hand over, and open stored ones.

Both backends are reached through `ptycho_core.backend` alone. A network is only as good as its probe, and the
client has no place for a refined one: so the probe is refined before training, kept with the network, and
used with it.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import ptycho.params
from ptycho import _client, _settings
from ptycho._network import PtychoModel
from ptycho.raw_data import RawData
from ptycho_config.errors import BackendUnavailableError, ConfigError
from ptycho_config.execution import PyTorchExecutionConfig, TensorFlowExecutionConfig
from ptycho_config.models import TrainingConfig
from ptycho_core.backend import Backend, TrainedModel, discover_backends, get_backend
from ptycho_core.bundle import BUNDLE_FILE, Bundle, read_bundle
from ptycho_core.io import open_scan
from ptycho_core.learning.probe_refinement import refine_probe
from ptycho_core.scan import Scan
from ptycho_core.scan.middle import frames_near_the_middle

__all__ = ["Stored", "Training", "network", "open_network", "scan_of", "train"]

#: More frames teach nothing new about the probe.
_PROBE_FRAMES = 1000
#: Frames of a test scan whose loss is watched; those nearest to its middle, since training must not wait for
#: them.
_TEST_FRAMES = 64
#: A bundle is stored, not packed; one that would grow more than so many times is no bundle.
_RATIO = 200


@dataclass(frozen=True, kw_only=True)
class Training:
    """What came of a training.

    Attributes:
        config: the settings that the network was trained with.
        backend: the core that trained.
        scan: the scan trained on, with the refined probe.
    """

    trained: TrainedModel
    model: PtychoModel
    config: TrainingConfig
    backend: str
    scan: Scan


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A network from a bundle, and the bundle without its weights in mind."""

    model: PtychoModel
    bundle: Bundle
    backend: str


def scan_of(source: Any, *, labelled: bool = False) -> Scan:
    """Return the scan behind what a legacy call was given: raw data, a container, a scan, a file or a name.

    Args:
        labelled: with the object of the client as the truth.
    Raises:
        ConfigError: it is none of them.
        DataError: the file is no scan.
    """
    if isinstance(source, RawData):
        return source.labelled if labelled else source.scan
    origin = getattr(source, "origin", None)
    if origin is not None:
        return origin.scan
    if isinstance(source, Scan):
        return source
    if isinstance(source, str | Path):
        return open_scan(source)
    raise ConfigError(
        "expected `RawData`, a container of `ptycho.loader.load`, a scan or its file; found "
        f"{type(source).__name__}."
    )


def train(
    given: Scan,
    test: Scan | None,
    config: TrainingConfig,
    *,
    backend: str,
    execution: Any,
    log: logging.Logger,
    directory: Path | None = None,
) -> Training:
    """Refine the probe, train on the scan, and remember the probe that came with it.

    Args:
        config: for the core, see `ptycho._settings`.
        directory: for the logger and what is kept on the way; nothing is written without one.
    Raises:
        BackendUnavailableError: with what to do.
        ConfigError, DataError, PolicyError, TrainingError: as the core has them.
    """
    core = available(backend)
    labels = config.model.model_type == "supervised" or config.realspace_mae_weight > 0
    if labels:
        _refuse_flat_truth(given)
    if test is not None and test.frame_px != given.frame_px:
        raise ConfigError(
            f"the frames of {test.name}, to test on, are {test.frame_px} px wide and those of {given.name}, "
            f"to train on, {given.frame_px} px. Use frames of one size."
        )
    with _client.spoken_warnings(log):
        scan = _with_refined_probe(given, log)
        if test is not None:
            test = replace(_around_the_middle(test), probe=scan.probe)
        trained = core.train(
            scan,
            config,
            execution,
            callbacks=(_client.Progress(log, f"Training on {backend}:"),),
            test_scan=test,
            directory=directory,
        ).with_given_probe(given.probe)
    if trained.history:
        log.info("Trained for %d epochs.", len(trained.history))
    model = network(trained, scan.frame_px, config.model.gridsize, log)
    return Training(trained=trained, model=model, config=config, backend=backend, scan=scan)


def network(trained: TrainedModel, frame_px: int, gridsize: int, log: logging.Logger) -> PtychoModel:
    """Wrap a network, and publish the factor that callers multiply `X` by."""
    scale = float(trained.scaling.intensity_scale)
    ptycho.params.set("intensity_scale", scale)
    return PtychoModel(trained, frame_px=frame_px, gridsize=gridsize, intensity_scale=scale, log=log)


def open_network(
    path: str | Path, *, backend: str | None = None, execution: Any = None, log: logging.Logger
) -> Stored:
    """Open a bundle: the file, the directory that holds it or into which it was unpacked, or a zip around it.

    Args:
        backend: that of the environment or the bundle's own when not given; each reads the bundles of all.
    Raises:
        BackendUnavailableError: with what to do.
        BundleError: nothing is there, or it is damaged, hostile, or of an older program.
    """
    with inner_bundle(Path(path)) as place, _client.spoken_warnings(log):
        bundle = read_bundle(place)
        name = backend or _settings.backend_of(None, log, default=bundle.backend)
        core = available(name)
        trained = core.load(place, execution_for(name, execution))
    model = network(trained, int(bundle.model["N"]), int(bundle.model["gridsize"]), log)
    log.info("Opened a network of %s (%s), with its refined probe.", bundle.backend, bundle.architecture)
    return Stored(model=model, bundle=bundle, backend=name)


def execution_for(backend: str, given: Any = None) -> Any:
    """Return how a backend runs: as it was chosen, or on the GPU that the host has (POLICY-001)."""
    if given is not None:
        return given
    if backend == "pytorch":
        return PyTorchExecutionConfig(logger_backend=None)
    return TensorFlowExecutionConfig(logger_backend=None)


def available(name: str) -> Backend:
    """Return a backend that can work here.

    Raises:
        BackendUnavailableError: it cannot; with the ways out. Never another one in its place.
    """
    extra = {"pytorch": "torch", "tensorflow": "tf"}.get(name, "all")
    title = {"pytorch": "PyTorch", "tensorflow": "TensorFlow"}.get(name, name)
    backends = discover_backends()
    reason = "it is not installed"
    if name in backends:
        found = backends[name].availability()
        if found.installed:
            return get_backend(name)
        reason = found.reason
    remedy = f"Install it: pip install 'ptychopinn[{extra}]'"
    if name == "pytorch":
        remedy += ", which brings torch >= 2.6"
    others = [other for other, core in backends.items() if other != name and core.availability().installed]
    if others:
        remedy += (
            f"; or use what is installed: set {_settings.BACKEND_VARIABLE}={others[0]} in the environment"
        )
    elif name != "pytorch":
        remedy += (
            f"; or install ptychopinn[torch] and set {_settings.BACKEND_VARIABLE}=pytorch in the environment"
        )
    raise BackendUnavailableError(f"{title} backend selected, and it cannot work here: {reason}. {remedy}.")


@contextmanager
def inner_bundle(path: Path) -> Iterator[Path]:
    """Give the bundle itself where a zip holds one: what the client saves is such, and a checkpoint."""
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / BUNDLE_FILE
        yield target if _extracted(path, target) else path


def _extracted(path: Path, target: Path) -> bool:
    """Copy the bundle out of the zip around it; False where there is none, for the reader to judge."""
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            inner = archive.getinfo(BUNDLE_FILE)
            if inner.file_size > _RATIO * max(inner.compress_size, 1):
                return False  # nothing of ours is packed that tightly
            with archive.open(inner) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
    except (KeyError, zipfile.BadZipFile, RuntimeError, zlib.error, EOFError):
        return False
    return True


def _with_refined_probe(scan: Scan, log: logging.Logger) -> Scan:
    result = refine_probe(scan, most_frames=_PROBE_FRAMES)
    log.info(
        "The probe was refined by the solver in %.1f s (R %.4f); it is kept with the model and used with it.",
        result.timings["total"],
        result.data_residual,
    )
    return replace(scan, probe=result.probe, probe_source="given")


def _around_the_middle(scan: Scan) -> Scan:
    if scan.n_frames <= _TEST_FRAMES:
        return scan
    return scan.select(np.sort(frames_near_the_middle(scan.positions_px, _TEST_FRAMES)))


def _refuse_flat_truth(scan: Scan) -> None:
    """Refuse to learn from an object that is the same everywhere: there is nothing in it to learn.

    Raises:
        ConfigError: DATA-SUP-001.
    """
    truth = scan.ground_truth
    if truth is not None and np.abs(truth - truth.flat[0]).max() <= 1e-6 * max(1.0, abs(truth.flat[0])):
        raise ConfigError(
            "supervised training needs a true object, and `objectGuess` is the same everywhere. Put a "
            "reconstructed object into the product that the training data are exported from, or train "
            "without labels (`PINN`, `Unsupervised`).",
            finding="DATA-SUP-001",
        )
