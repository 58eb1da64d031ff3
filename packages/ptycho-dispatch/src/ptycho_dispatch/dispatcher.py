"""The dispatcher as functions: one call trains and reconstructs with whichever backend the config names.

Order of every call: the config is checked, the legacy registry is brought up to date (CONFIG-001), the
execution is resolved (POLICY-001), and only then is the backend asked. There is no fallback from one backend
to another.

    from ptycho_config import TrainingConfig
    from ptycho_dispatch.dispatcher import run_cdi_example_with_backend

    amplitude, phase, results = run_cdi_example_with_backend(
        "scan.npz", None, TrainingConfig(nepochs=20), do_stitching=True
    )

Both steps, the update of the registry and the runner of each backend, are parameters: a program that embeds
this one may pass its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptycho_config import hardware
from ptycho_config.errors import ConfigError
from ptycho_config.execution import (
    InferenceExecution,
    NetworkExecution,
    PyTorchExecutionConfig,
    TensorFlowExecutionConfig,
)
from ptycho_config.legacy import legacy_dict, params, update_legacy_dict
from ptycho_config.models import InferenceConfig, TrainingConfig
from ptycho_config.moved import moved_name
from ptycho_config.plaintext import excerpt

if TYPE_CHECKING:
    from ptycho_core import Scan
    from ptycho_core.backend import TrainedModel

__all__ = [
    "RUNNERS",
    "LegacyFlips",
    "follows",
    "load_inference_bundle_with_backend",
    "prepare",
    "run_cdi_example_with_backend",
    "train_cdi_model_with_backend",
    "trainer_of",
]

logger = logging.getLogger("ptycho")

Source = Any  # a Scan, a file, or the name of a data set
Images = tuple[np.ndarray | None, np.ndarray | None, dict[str, Any]]


@dataclass(frozen=True)
class LegacyFlips:
    """What older scripts turn: x or y of the positions negated, the two axes of the frames swapped."""

    flip_x: bool = False
    flip_y: bool = False
    transpose: bool = False

    def applied_to(self, scan: Scan) -> Scan:
        """Return the scan turned so; frames and mask are views."""
        if self == LegacyFlips():
            return scan
        signs = np.array([-1.0 if self.flip_y else 1.0, -1.0 if self.flip_x else 1.0])
        scan = replace(scan, positions_px=scan.positions_px * signs)
        if not self.transpose:
            return scan
        bad = scan.bad_pixels
        return replace(
            scan,
            frames=np.swapaxes(scan.frames, -1, -2),
            probe=np.ascontiguousarray(np.swapaxes(scan.probe, -1, -2)),
            bad_pixels=None if bad is None else np.swapaxes(bad, -1, -2),
        )


def _run(
    train: Source,
    test: Source | None,
    config: TrainingConfig,
    *,
    backend: str,
    orientation: LegacyFlips,
    do_stitching: bool,
    execution_config: Any,
) -> Images:
    """Train on one scan; where the object is asked for, reconstruct the test scan, or the one trained on."""
    from ptycho_core.backend import get_backend
    from ptycho_core.bundle import BUNDLE_FILE

    core = get_backend(backend)
    a_follower = False
    if isinstance(execution_config, PyTorchExecutionConfig):
        hardware.refuse_absent_gpu(execution_config.accelerator)
        # Asked before training, at whose end Lightning takes the numbers of the processes away.
        a_follower = follows(execution_config)
    scan = orientation.applied_to(_opened(train))
    test_scan = None if test is None else orientation.applied_to(_opened(test))
    trained = core.train(
        scan, config, execution_config, test_scan=test_scan, directory=Path(config.output_dir)
    )
    bundle = Path(config.output_dir) / BUNDLE_FILE if a_follower else trained.save(config.output_dir)
    results: dict[str, Any] = {
        "model": trained,
        "history": trained.history,
        "bundle": bundle,
        "execution_config": execution_config,
    }
    if not do_stitching:
        return None, None, results
    reconstruction = trained.reconstruct(scan if test_scan is None else test_scan)
    results["reconstruction"] = reconstruction
    return np.abs(reconstruction.object), np.angle(reconstruction.object), results


def _runner(backend: str) -> Callable[..., Images]:
    def run(train: Source, test: Source | None, config: TrainingConfig, **options: Any) -> Images:
        return _run(train, test, config, backend=backend, **options)

    return run


#: What runs a training, by the name of its backend.
RUNNERS: Mapping[str, Callable[..., Images]] = {
    "pytorch": _runner("pytorch"),
    "tensorflow": _runner("tensorflow"),
}


def run_cdi_example_with_backend(
    train: Source,
    test: Source | None,
    config: TrainingConfig,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int = 20,
    do_stitching: bool = False,
    torch_execution_config: NetworkExecution | None = None,
    *,
    update_registry: Callable[[Any, Any], None] = update_legacy_dict,
    runners: Mapping[str, Callable[..., Images]] = RUNNERS,
) -> Images:
    """Train a network and, with `do_stitching`, reconstruct the object with it.

    Args:
        train: a scan, its file, or the name of a data set.
        test: what is reconstructed; the scan trained on when None.
        flip_x, flip_y: negate x or y of the positions.
        transpose: swap the two axes of frames and probe.
        M: side of the window that older scripts cut from every patch. Patches are weighted by the light of
            the probe here, which leaves no gaps, so it has no influence.
        torch_execution_config: where and how the backend runs; GPU first when not given (POLICY-001). That
            of PyTorch has no effect on another backend, as older scripts expect.
        update_registry: brings the legacy registry up to date (CONFIG-001).
        runners: what runs each backend, called with `execution_config=`.
    Returns:
        Amplitude and phase of the object (rows, columns) float32, or None without stitching; and a dict with
        `backend`, `model`, `history`, `bundle`, `execution_config` and `reconstruction`.
    Raises:
        ValueError: an unknown backend, or `M` below 1.
        BackendUnavailableError: the backend is not installed; with the command that installs it.
        ConfigError, DataError, PolicyError, TrainingError: see their docstrings.
    """
    if M < 1:
        raise ConfigError(f"`M` is {M}; it is the side of a window in pixels, at least 1.")
    backend, execution = prepare(
        config, torch_execution_config, update_registry=update_registry, backends=runners
    )
    amplitude, phase, results = runners[backend](
        train,
        test,
        config,
        orientation=LegacyFlips(flip_x, flip_y, transpose),
        do_stitching=do_stitching,
        execution_config=execution,
    )
    return amplitude, phase, {**results, "backend": backend}


def train_cdi_model_with_backend(
    train: Source,
    test: Source | None,
    config: TrainingConfig,
    torch_execution_config: NetworkExecution | None = None,
    *,
    update_registry: Callable[[Any, Any], None] = update_legacy_dict,
    runners: Mapping[str, Callable[..., Images]] = RUNNERS,
) -> dict[str, Any]:
    """Train a network and write its bundle to `config.output_dir`; the results without an object.

    Raises:
        See `run_cdi_example_with_backend`.
    """
    return run_cdi_example_with_backend(
        train,
        test,
        config,
        torch_execution_config=torch_execution_config,
        update_registry=update_registry,
        runners=runners,
    )[2]


def load_inference_bundle_with_backend(
    directory: str | Path,
    config: InferenceConfig | TrainingConfig,
    torch_execution_config: NetworkExecution | None = None,
    *,
    update_registry: Callable[[Any, Any], None] = update_legacy_dict,
) -> tuple[TrainedModel, dict[str, Any]]:
    """Open a bundle for the backend of the config; where it names none, for the one that trained it.

    Args:
        torch_execution_config: where and how it runs; where no backend is named, one of PyTorch names that.
    Returns:
        The network, with `reconstruct(scan)`, and the legacy parameters of the config.
    Raises:
        ValueError: an unknown backend.
        BundleError: the bundle is damaged, hostile or of an older kind.
        BackendUnavailableError: the backend is not installed.
    """
    from ptycho_core.backend import get_backend

    for_torch = isinstance(torch_execution_config, PyTorchExecutionConfig)
    backend, execution = prepare(
        config,
        torch_execution_config,
        update_registry=update_registry,
        otherwise="pytorch" if for_torch else trainer_of(directory),
    )
    return get_backend(backend).load(directory, execution), legacy_dict(config)


def prepare(
    config: TrainingConfig | InferenceConfig,
    execution: InferenceExecution | None = None,
    *,
    update_registry: Callable[[Any, Any], None] = update_legacy_dict,
    backends: Collection[str] = RUNNERS,
    defaults: Callable[[], InferenceExecution] = PyTorchExecutionConfig,
    otherwise: str = "pytorch",
) -> tuple[str, Any]:
    """Take the steps that come before any backend is asked: check, update the registry, resolve.

    Args:
        execution: what was chosen; None where nothing was.
        backends: the names that are known.
        defaults: makes the execution where none was chosen.
        otherwise: the backend where the config names none.
    Returns:
        The name of the backend and its execution, which is None for one that resolves for itself.
    Raises:
        ValueError: an unknown backend.
    """
    backend = config.backend or otherwise
    if backend not in backends:
        raise ConfigError(
            f"Unknown backend `{excerpt(backend, 60)}`; choose one of {', '.join(sorted(backends))}."
        )
    update_registry(params, config)
    if backend != "pytorch" and isinstance(execution, PyTorchExecutionConfig):
        logger.info("Backend dispatcher: the backend `%s` takes no PyTorchExecutionConfig.", backend)
        execution = None
    if backend == "pytorch" and isinstance(execution, TensorFlowExecutionConfig):
        raise ConfigError(
            "the backend `pytorch` takes a PyTorchExecutionConfig and was given a TensorFlowExecutionConfig."
        )
    if backend == "pytorch" and execution is None:
        made: Any = defaults()
        execution = made
        logger.info(
            "Backend dispatcher: auto-instantiated PyTorchExecutionConfig with accelerator='%s' "
            "(POLICY-001 GPU-first defaults)",
            made.accelerator,
        )
    return backend, execution


def trainer_of(bundle: str | Path) -> str:
    """Return the backend that trained a bundle; PyTorch where that is unknown, and opening it says why."""
    from ptycho_config.errors import BundleError
    from ptycho_core.bundle import trained_by

    try:
        backend = trained_by(bundle)
    except BundleError:
        return "pytorch"
    return backend if backend in RUNNERS else "pytorch"


def _opened(source: Source) -> Scan:
    from ptycho_core import Scan, open_scan

    return source if isinstance(source, Scan) else open_scan(str(source))


#: What launchers tell each process: its number, over all machines or on this one, and how many there are.
_NUMBERS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
_SIZES = ("WORLD_SIZE", "SLURM_NTASKS")


def follows(execution: PyTorchExecutionConfig, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether another process is the first one of this training.

    A number alone does not make a follower: clusters number jobs of one process too.
    """
    if execution.num_nodes > 1 and "RANK" not in environment and environment.get("NODE_RANK", "0") != "0":
        return True
    number = next((environment[name] for name in _NUMBERS if name in environment), "0")
    size = next((environment[name] for name in _SIZES if name in environment), "1")
    several = execution.devices != 1 or execution.num_nodes > 1
    return several and size != "1" and number != "0"


_MOVED = {"Orientation": f"{__name__}:LegacyFlips"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
