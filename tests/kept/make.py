"""Make what later versions have to open: `python tests/kept/make.py`, once for a version.

The files go into a folder named by the version, beside this script, with `expected.json`, which says what
was in them. Both cores have to be installed. README.md tells of the files; `test_kept.py` opens them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.sources import load_parts
from ptycho_core import Reconstruction

HERE = Path(__file__).resolve().parent
#: A network of a few thousand numbers.
SMALL = {"architecture": "fno", "fno_width": 4, "fno_blocks": 1, "fno_cnn_blocks": 1, "fno_modes": 4}
#: Those whose weights are too large to be kept; their names and shapes are.
LARGE = ("unet", "cnn")
#: What `patterned` does not make up.
SCALARS = ("log_scale", "back_projection_std")
FILES = {
    "reconstruct": """\
config_version: {release}
output-dir: 2026-11-30
measurement: counts
dc: center
pixel-size-m: 2.1e-8
energy_ev: 8.3e3
positions_scale: 1.0,0.98
positions_turn_deg: -0.5
crop_px: 32
beam_center_px: 16,16
exclude-frames: 5-9
missing_positions: interpolate
bad_pixels: off
frc: true
save_tiff: yes
console_level: warning
effort: thorough
probe_modes: 3
solver_epochs: 40
refine_positions: true
position_bound: 4.5
frame_intensity: on
opr_modes: 2
prior: huber
prior_strength: 0.2
max_time: 1h30m
seed: 7
arrays: numpy
accelerator: cpu
kernel: "off"
threads: 2
""",
    "train": """\
config_version: {release}.0
train_data_file: scan.npz
nepochs: 12
n_images: 64
seed: &seed 3
subsample_seed: *seed
mae_weight: 0.25
gradient_clip_val: 1.0
gradient_clip_algorithm: agc
optimizer: adamw
weight_decay: 1e-4
scheduler: WarmupCosine
lr_warmup_epochs: 2
probe_trainable: true
thin_to: 1e3
max_time: 90s
output_dir: trained
learning_rate: 1.0
model:
  N: 32
  gridsize: 2
  architecture: fno
  fno_width: 8
  amp_activation: silu
  probe_mask: true
torch:
  accelerator: cpu
  logger_backend: none
  accum_steps: 2
""",
    "infer": """\
config_version: {release}
model_path: trained/wts.h5.zip
test_data_file: scan.npz
output_dir: imaged
n_groups: 10
n_subsample: 20
subsample_seed: 4
torch_accelerator: cpu
torch_inference_batch_size: 8
""",
}


def settings_of(command: str, file: Path) -> dict[str, Any]:
    """Read the settings that a file gives a command: name -> value as JSON."""
    from ptycho_dispatch import settings
    from ptycho_dispatch.commands import inference, training

    parts = {"reconstruct": settings.PARTS, "train": training.PARTS, "infer": inference.PARTS}[command]
    return {
        f"{part.prefix}{field}": setting["value"]
        for part, loaded in zip(parts, load_parts(parts, yaml=file), strict=True)
        for field, setting in loaded.provenance().items()
        if setting["source"] != "default"
    }


def contents_of(result: Reconstruction) -> dict[str, Any]:
    """Say what is in a result: shape, type and sha256 of each array, and every other field."""
    arrays = {
        name: {
            "shape": list(value.shape),
            "dtype": str(value.dtype),
            "sha256": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest(),
        }
        for name, value in vars(result).items()
        if isinstance(value, np.ndarray)
    }
    return {
        "arrays": arrays,
        "data_residual": result.data_residual,
        "method": result.method,
        "scan_name": result.scan_name,
        "interrupted": result.interrupted,
        "image_reliable": result.image_reliable,
        "dose_carries_image": result.dose_carries_image,
        "verdict": None if result.verdict is None else result.verdict.record(),
        "pixel_size_m": result.pixel_size_m,
        "epochs": len(result.history),
        "last_epoch": dict(result.history[-1]) if result.history else None,
    }


def samples_of(result: Reconstruction) -> dict[str, Any]:
    """Give a few values of an image that is computed anew, and therefore equal within rounding alone."""
    points = result.object[4::9, 4::9]
    return {
        "real": np.round(points.real, 5).tolist(),
        "imaginary": np.round(points.imag, 5).tolist(),
        "data_residual": result.data_residual,
    }


def small_network() -> list[str]:
    """The words by which `ptycho train` is told of the small network."""
    return [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def patterned(shapes: Mapping[str, list[int]], scalars: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Make up weights of these shapes, the same ones every time."""
    weights = {name: np.array(value, np.float32) for name, value in scalars.items()}
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        size, inputs = int(np.prod(shape)), int(np.prod(shape[1:]))
        values = np.cos(2.39996 * np.arange(1, size + 1) + number) / np.sqrt(inputs)
        weights[name] = values.reshape(shape).astype(np.float32)
    return weights


def main() -> None:
    """Make the folder of this version."""
    release = ".".join(version("ptycho-core").split(".")[:2])
    folder = HERE / release
    folder.mkdir()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        expected = {
            "result": _result(folder),
            "state": _state(folder),
            "tiles": _tiles(folder),
            "settings": _settings(folder, release),
            "images": {backend: _network(folder, backend) for backend in ("pytorch", "tensorflow")},
            "networks": {name: _large_network(folder, name) for name in LARGE},
        }
        text = json.dumps(expected, separators=(",", ":"))
        (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


def _result(folder: Path) -> dict[str, Any]:
    """Keep a scan and a result that has everything that a result may have."""
    simulated = ("--frames", "15", "--size", "32", "--overlap", "0.8", "--photons", "5e3")
    _ptycho("simulate", *simulated, "--positions", "jitter", "--object", "texture", "--output", "scan.npz")
    with np.load("scan.npz") as arrays:
        # The true object would be half of the file.
        kept = {name: array for name, array in arrays.items() if not name.startswith("object")}
        np.savez_compressed(folder / "scan.npz", **kept)
    shutil.copy(folder / "scan.npz", "scan.npz")
    found = ("--refine-positions", "true", "--frame-intensity", "true", "--uncertainty", "true")
    given = (
        "--probe-modes",
        "2",
        "--exclude-frames",
        "5",
        "--pixel-size-m",
        "2.1e-8",
        "--position-bound",
        "2",
    )
    length = ("--effort", "fast", "--solver-epochs", "8", "--diagnose", "off")
    _ptycho("reconstruct", "scan.npz", *found, *given, *length, "--output-dir", "result")
    _keep("result", folder / "result", "reconstruction.npz", "reconstruction.h5", "run.json")
    return contents_of(Reconstruction.load(folder / "result"))


def _state(folder: Path) -> dict[str, Any]:
    """Keep what a run leaves behind that was killed on its way."""
    from ptycho_dispatch.checkpoint import Checkpoint

    _solve([Checkpoint(folder / "state", seconds_between=0, share=1)])
    return contents_of(Reconstruction.load(folder / "state"))


def _tiles(folder: Path) -> dict[str, Any]:
    """Keep the same of two processes that share a scan."""
    from ptycho_core.ranks import in_threads
    from ptycho_dispatch.checkpoint import TileCheckpoint

    def work(ranks: Any) -> None:
        _solve([TileCheckpoint(folder / "tiles", ranks, seconds_between=0, share=1)], ranks)

    (folder / "tiles").mkdir()
    in_threads(2, work)
    return contents_of(Reconstruction.load(folder / "tiles"))


def _solve(callbacks: list[Any], ranks: Any = None) -> None:
    from ptycho_config.execution import SolverExecutionConfig
    from ptycho_config.models import SolverConfig
    from ptycho_core import open_scan, solve

    execution = SolverExecutionConfig(accelerator="cpu", arrays="numpy", threads=1)
    config = SolverConfig(epochs=6, final_size=16, prior="none")
    solve(open_scan("scan.npz"), config, execution, callbacks, **({} if ranks is None else {"ranks": ranks}))


def _settings(folder: Path, release: str) -> dict[str, dict[str, Any]]:
    found = {}
    for command, text in FILES.items():
        file = folder / f"{command}.yaml"
        file.write_text(text.format(release=release), encoding="utf-8")
        found[command] = settings_of(command, file)
    return found


def _network(folder: Path, backend: str) -> dict[str, Any]:
    """Keep the bundle of a small network, and the record of its training."""
    prefix = "--torch" if backend == "pytorch" else "--tensorflow"
    how = ("--backend", backend, f"{prefix}-accelerator", "cpu", f"{prefix}-logger-backend", "none")
    length = ("--nepochs", "3", "--seed", "1", "--batch-size", "5")
    data = ("--train-data-file", "scan.npz", "--output-dir", backend)
    _ptycho("train", *data, *small_network(), *how, *length)
    _keep(backend, folder / backend, "wts.h5.zip", "metrics.csv", "run.json")
    bundle = ("--model-path", str(folder / backend), "--test-data", "scan.npz")
    _ptycho("infer", *bundle, *how[:4], "--output-dir", "imaged")
    return samples_of(Reconstruction.load("imaged"))


def _large_network(folder: Path, architecture: str) -> dict[str, Any]:
    """Say how a network's weights are called and shaped, and what it sees with weights that are made up."""
    from dataclasses import replace

    from ptycho_config.execution import PyTorchExecutionConfig
    from ptycho_config.models import ModelConfig, TrainingConfig
    from ptycho_core import open_scan
    from ptycho_core.backend import get_backend
    from ptycho_core.bundle import read_bundle, write_bundle

    core, scan = get_backend("pytorch"), open_scan("scan.npz")
    execution = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
    model = ModelConfig(architecture=architecture, N=32, n_filters_scale=1)
    trained = core.train(scan, TrainingConfig(model=model, nepochs=1, seed=1), execution)
    bundle = read_bundle(trained.save(architecture))
    shapes = {name: list(one.shape) for name, one in bundle.weights.items() if name not in SCALARS}
    scalars = {name: float(bundle.weights[name]) for name in SCALARS}
    kept = read_bundle(folder / "pytorch")
    weights = patterned(shapes, scalars)
    made = replace(kept, architecture=architecture, model=bundle.model, weights=weights)
    image = core.load(write_bundle("made", made), execution).reconstruct(scan)
    return {"model": bundle.model, "shapes": shapes, "scalars": scalars, "image": samples_of(image)}


def _ptycho(*words: str) -> None:
    """Run a command in this process.

    Raises:
        SystemExit: it failed.
    """
    from ptycho_dispatch.cli import main as ptycho

    if ptycho([*words]):
        sys.exit(f"`ptycho {' '.join(words)}` failed")


def _keep(made: str, folder: Path, *names: str) -> None:
    """Copy what a command wrote; of the host `run.json` names no more than its kind."""
    folder.mkdir()
    for name in names:
        shutil.copy(Path(made) / name, folder / name)
    file = folder / "run.json"
    record = json.loads(file.read_text("utf-8"))
    record["hardware"]["system"] = platform.system()
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
