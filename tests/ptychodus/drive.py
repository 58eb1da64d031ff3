"""Drive the client Ptychodus as a program would: its own libraries, its own children, no window.

Run as a program, so that the client's children can be started afresh: `python drive.py TASK FOLDER
[options]`. What came of it is printed as one line of JSON, and the arrays are in the folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import Product, ProductMetadata
from ptychodus.api.reconstruct import ReconstructInput
from ptychodus.api.settings import SettingsRegistry

from ptycho_core import open_scan
from ptycho_core.scan import Scan

PIXEL_M = 1e-8
#: Library, algorithm, group and name of the setting of the epochs, suffix of the model.
LIBRARIES = {
    "ptychopinn": ("PINN", "PtychoPINNTraining", "NumEpochs", ".zip"),
    "ptychopinn-torch": ("Unsupervised", "PtychoPINNTorchTraining", "epochs", ".ckpt"),
}


def scan_with_known_probe(frames: int) -> Scan:
    """The frames of the real scan nearest to its middle, with the reference's probe or the solver's."""
    scan = open_scan("siemens-star")
    reference = Path(os.environ.get("PTYCHO_DATA_DIR", ".")) / "siemens-star-lsqml.npz"
    if reference.is_file():
        probe = np.load(reference)["probe"][np.newaxis]
    else:
        from ptycho_core import solve

        probe = solve(scan).probe
    distance = np.square(scan.positions_px - np.median(scan.positions_px, axis=0)).sum(axis=1)
    nearest = np.sort(np.argsort(distance, kind="stable")[:frames])
    return replace(scan.select(nearest), probe=probe.astype(np.complex64), probe_source="given")


def client_input(scan: Scan, dtype: str = "uint16", modes: int = 1) -> ReconstructInput:
    """The scan as the client holds it, its object flat and of the size that the client gives it."""
    low, high = scan.positions_px.min(axis=0), scan.positions_px.max(axis=0)
    rows, columns = (int(np.ceil(span)) + scan.frame_px for span in high - low)
    middle = (low + high) / 2 * PIXEL_M
    points = [ProbePosition(index=i, x_m=x, y_m=y) for i, (y, x) in enumerate(scan.positions_px * PIXEL_M)]
    square = PixelGeometry(PIXEL_M, PIXEL_M)
    probe = scan.probe[0]
    stack = np.stack([probe, *(0.1 * np.roll(probe, 5 * i, 0) for i in range(1, modes))])
    product = Product(
        metadata=ProductMetadata("star", "", 1.0, 8000.0, 0.0, 1.0, 0.0, 0.0),
        probe_positions=ProbePositionSequence(points),
        probes=ProbeSequence(stack, None, square),
        object_=Object(np.ones((rows, columns), complex), square, ObjectCenter(x_m=middle[1], y_m=middle[0])),
        losses=[],
    )
    bad = np.zeros((scan.frame_px, scan.frame_px), bool)
    return ReconstructInput(scan.counts().astype(dtype), bad, product)


def residual(obj: np.ndarray, given: ReconstructInput, scan: Scan) -> float:
    """R of an object under the probe of the client's product, where the client says that it lies."""
    from ptycho_core.physics.residual import data_residual

    geometry = given.product.object_.get_geometry()
    positions = given.product.probe_positions
    centres = np.column_stack(
        [
            geometry.map_probe_positions_to_object_y_px(positions),
            geometry.map_probe_positions_to_object_x_px(positions),
        ]
    )
    # The client counts pixel centres: the middle of a window lies at (N - 1) / 2, index N/2 half a pixel on.
    found = data_residual(obj.astype(np.complex64), scan.probe, centres + 0.5, scan)
    return round(float(found.value), 4)


def library(name: str) -> tuple[SettingsRegistry, Any]:
    """The client's settings and one of its libraries."""
    registry = SettingsRegistry()
    if name == "ptychopinn":
        from ptychodus.model.ptychopinn.core import PtychoPINNReconstructorLibrary as Library
    else:
        from ptychodus.model.ptychopinn_torch.core import PtychoPINNTorchReconstructorLibrary as Library
    return registry, Library(registry, False)


def reconstructor(name: str, epochs: int | None, algorithm: str | None = None, **settings: Any) -> Any:
    """A reconstructor of the client with its defaults, but for what is given as GROUP__NAME=value."""
    wanted, group, setting, _ = LIBRARIES[name]
    registry, all_of_them = library(name)
    if epochs is not None:
        registry[group].parameters()[setting].set_value(epochs)
    for where, value in settings.items():
        part, parameter = where.split("__")
        registry[part].parameters()[parameter].set_value(value)
    return next(one for one in all_of_them if one.name == (algorithm or wanted))


class Heard(logging.Handler):
    """Keeps what the client's window would show."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.name, record.getMessage()))


def export(one: Any, given: ReconstructInput, folder: Path) -> Path:
    """Write the two files of training data, as the window does, into the folder of the training."""
    folder.mkdir(parents=True, exist_ok=True)
    one.export_training_data(folder / "train_data.npz", given)
    shutil.copyfile(folder / "train_data.npz", folder / "test_data.npz")
    return folder


def npz_files(folder: Path) -> dict[str, int]:
    return {path.name: hash(path.read_bytes()) for path in sorted(folder.rglob("*.npz"))}


def whole(folder: Path, name: str, frames: int, epochs: int | None, dtype: str) -> dict[str, Any]:
    """Export, train, reconstruct; save the model, load it and reconstruct again; write the product file."""
    from ptychodus.api.io import save_product

    heard = Heard()
    for channel in ("ptychopinn", "ptychopinn-torch"):
        logging.getLogger(channel).addHandler(heard)
    scan = scan_with_known_probe(frames)
    given = client_input(scan, dtype)
    one = reconstructor(name, epochs)
    work = export(one, given, folder / "work")
    before = npz_files(work)
    began = time.monotonic()
    trained = list(one.train(work, work))
    training_s = time.monotonic() - began
    began = time.monotonic()
    first = list(one.reconstruct(given))[-1].product
    reconstruct_s = time.monotonic() - began
    model = folder / f"model{LIBRARIES[name][3]}"
    one.save_model(model)
    again = reconstructor(name, epochs)
    again.load_model_from_file(model)
    second = list(again.reconstruct(given))[-1].product
    obj, same = first.object_.get_array()[0], second.object_.get_array()[0]
    save_product(folder / "product.h5", second)
    np.save(folder / "object.npy", same)
    flat = np.ones_like(obj)
    return {
        "training_s": round(training_s, 1),
        "reconstruct_s": round(reconstruct_s, 1),
        "losses": [[loss.epoch, loss.value] for loss in trained[-1].training_loss],
        "validation": [[loss.epoch, loss.value] for loss in trained[-1].validation_loss],
        "routes_differ_by": float(np.abs(obj - same).max() / np.abs(obj).max()),
        "finite": bool(np.isfinite(obj).all()),
        "shape": list(obj.shape),
        "input_shape": list(given.product.object_.get_array().shape[-2:]),
        "R": residual(obj, given, scan),
        "R_flat": residual(flat, given, scan),
        "npz_unchanged": before == npz_files(work),
        "files": sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()),
        "heard": heard.lines,
    }


def batch(folder: Path, name: str, frames: int, epochs: int) -> dict[str, Any]:
    """Train and reconstruct by the client's program; its two exit codes, and what is in the product file."""
    from ptychodus.api.assemble import AssembledDiffractionData
    from ptychodus.api.io import load_product, save_diffraction_data, save_product

    scan = scan_with_known_probe(frames)
    given = client_input(scan)
    into, out = folder / "in", folder / "out"
    export(reconstructor(name, None), given, into)
    pixels = given.product.object_.get_pixel_geometry()
    frames_of_it = (np.arange(scan.n_frames), given.diffraction_patterns, pixels, given.bad_pixels)
    save_diffraction_data(into / "diffraction.h5", AssembledDiffractionData(*frames_of_it))
    save_product(into / "product.h5", given.product)
    algorithm, group, setting, suffix = LIBRARIES[name]
    text = f"[Processing]\nAlgorithm = {name}_{algorithm.lower()}\n\n[{group}]\n{setting} = {epochs}\n"
    (into / "settings.ini").write_text(text)
    codes, errors = [], []
    for task in ("train", "reconstruct"):
        command = [sys.executable, "-m", "ptychodus", "-b", task, "-i", str(into), "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        codes.append(done.returncode)
        errors.append(done.stderr[-2000:])
        if task == "train" and done.returncode == 0:
            # Somebody has to: the program leaves the model where the training put it.
            shutil.copyfile(
                out / ("wts.h5.zip" if suffix == ".zip" else "model.ckpt"), into / f"model{suffix}"
            )
    products = sorted(path.name for path in out.glob("product*.h5"))
    obj = load_product(out / products[-1]).object_.get_array()[0] if products else np.zeros((1, 1), complex)
    return {
        "codes": codes,
        "errors": errors,
        "products": products,
        "finite": bool(np.isfinite(obj).all()),
        "shape": list(obj.shape),
        "input_shape": list(given.product.object_.get_array().shape[-2:]),
    }


def fault(folder: Path, name: str, kind: str) -> dict[str, Any]:
    """Let a call of the client fail in one way, and note what its user sees."""
    scan = scan_with_known_probe(36)
    given = client_input(scan)
    settings: dict[str, Any] = {}
    if kind == "settings" and name == "ptychopinn":
        settings = {"PtychoPINNTraining__NLLWeight": 0.0}
    elif kind == "settings":
        settings = {"PtychoPINNTorchModel__loss_function": "Guess"}
    elif kind == "wrong N" and name == "ptychopinn-torch":
        settings = {"PtychoPINNTorchData__model_size": 64}
    one = reconstructor(name, 1000 if kind == "killed" else 1, **settings)
    work = export(one, given, folder / "work")
    call = lambda: list(one.train(work, folder / "out"))  # noqa: E731
    if kind == "no light":
        frames = np.zeros_like(given.diffraction_patterns)
        one.export_training_data(work / "train_data.npz", replace(given, diffraction_patterns=frames))
    elif kind == "full disk":
        if "SMALL_DISK" in os.environ:
            (folder / "out").symlink_to(os.environ["SMALL_DISK"])
        else:  # the system refuses to let a file grow, as it does where a disk is full
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    elif kind == "no training data":
        for path in work.glob("*.npz"):
            path.unlink()
    elif kind in ("unreadable bundle", "bundle of another program"):
        content = b"no bundle at all" if kind == "unreadable bundle" else b"\x80\x04K\x01."
        (folder / "wts.h5.zip").write_bytes(content)
        (folder / "model.ckpt").write_bytes(content)
        model = "wts.h5.zip" if name == "ptychopinn" else "model.ckpt"
        one.load_model_from_file(folder / model)
        call = lambda: list(one.reconstruct(given))  # noqa: E731
    elif kind == "wrong N" and name == "ptychopinn":
        call()
        half = slice(32, 96)
        probes = given.product.probes
        cropped = ProbeSequence(probes.get_array()[..., half, half], None, probes.get_pixel_geometry())
        small = replace(
            given,
            diffraction_patterns=given.diffraction_patterns[:, half, half],
            bad_pixels=given.bad_pixels[half, half],
            product=replace(given.product, probes=cropped),
        )
        call = lambda: list(one.reconstruct(small))  # noqa: E731
    elif kind == "killed":
        threading.Thread(target=_kill_when_it_trains, daemon=True).start()
    began = time.monotonic()
    try:
        call()
    except Exception as error:
        return {"seen": f"{type(error).__name__}: {error}", "seconds": time.monotonic() - began}
    return {"seen": None, "seconds": time.monotonic() - began}


def _kill_when_it_trains() -> None:
    """Kill the client's child once it says that an epoch is done, as a system out of memory does."""
    import multiprocessing

    heard = Heard()
    for channel in ("ptychopinn", "ptychopinn-torch"):
        logging.getLogger(channel).addHandler(heard)
    while not any("Epoch 1" in line for _, line in heard.lines):
        time.sleep(0.2)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=("whole", "batch", "fault"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--library", choices=sorted(LIBRARIES), default="ptychopinn")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--dtype", default="uint16")
    parser.add_argument("--kind", default="")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    if chosen.task == "whole":
        found = whole(chosen.folder, chosen.library, chosen.frames, chosen.epochs, chosen.dtype)
    elif chosen.task == "batch":
        found = batch(chosen.folder, chosen.library, chosen.frames, chosen.epochs or 1)
    else:
        found = fault(chosen.folder, chosen.library, chosen.kind)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
