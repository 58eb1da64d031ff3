"""Draw the pictures of the documentation from the real scan: `python docs/make_pictures.py`.

The reference reconstruction is read from `PTYCHO_DATA_DIR` where it lies there; without it the picture that
needs it is left as it is.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, open_scan, solve
from ptycho_core.figures import write_figures, write_uncertainty
from ptycho_core.physics.gauge import without_ramp
from ptycho_core.verdict import with_uncertainty
from ptycho_dispatch.cli import main as inspect_scan

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    scan = open_scan("siemens-star")
    result = solve(scan)
    draw_overview(result)
    draw_uncertainty(scan, result)
    draw_orientations()
    draw_frames(scan, result)
    draw_levels(scan, result)
    reference = Path(os.environ.get("PTYCHO_DATA_DIR", ".")) / "siemens-star-lsqml.npz"
    if reference.exists():
        draw_beside(result, reference)
    if importlib.util.find_spec("lightning"):
        draw_network(scan, result)


def draw_overview(result: Reconstruction) -> None:
    """The picture that `ptycho reconstruct` writes, with fewer pixels and colours."""
    with tempfile.TemporaryDirectory() as folder:
        save_smaller(write_figures(result, Path(folder))["overview.png"], "overview.png")


def draw_uncertainty(scan: Scan, result: Reconstruction) -> None:
    """What `ptycho reconstruct --uncertainty true` draws besides."""
    with tempfile.TemporaryDirectory() as folder:
        written = write_uncertainty(with_uncertainty(scan, result), Path(folder) / "uncertainty.png")
        save_smaller(written, "uncertainty-star.png")


def draw_orientations() -> None:
    """What `ptycho inspect --orientations` shows where the positions came with x and y exchanged."""
    flags = ("--positions-orientation", "transpose", "--orientations", "--picture")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "orientations.png"
        if inspect_scan(["inspect", "siemens-star", *flags, str(written)]):
            raise RuntimeError("the orientations could not be tried")
        save_smaller(written, "orientations.png")


def save_smaller(written: Path, name: str) -> None:
    """Keep a picture with fewer pixels and colours."""
    picture = Image.open(written).convert("RGB")
    picture.thumbnail((1200, 1200), Image.Resampling.LANCZOS)
    picture.quantize(160).save(IMAGES / name, optimize=True)


def save(figure: Figure, name: str) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(IMAGES / name, dpi=90)


def panel(
    figure: Figure, place: tuple[int, int, int], picture: np.ndarray, title: str, **style: object
) -> None:
    axes = figure.add_subplot(*place)
    axes.imshow(picture, **{"cmap": "gray", **style})
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


def middle_phase(obj: np.ndarray, centre: np.ndarray, half_px: int) -> np.ndarray:
    """Phase around a canvas point, its plane and offset removed."""
    row, column = np.round(centre).astype(int)
    part = obj[row - half_px : row + half_px, column - half_px : column + half_px].astype(np.complex64)
    flat = without_ramp(part, np.ones(part.shape, bool))
    return np.angle(flat * np.exp(-1j * np.angle(np.median(flat.real) + 1j * np.median(flat.imag))))


def draw_frames(scan: Scan, result: Reconstruction) -> None:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panel(figure, (1, 3, 1), np.log1p(scan.counts(slice(37, 38))[0]), "one frame, log counts", cmap="magma")
    panel(figure, (1, 3, 2), np.abs(scan.probe[0]), "probe that comes with the scan, |P|")
    panel(figure, (1, 3, 3), np.abs(result.probe[0]), "probe recovered with the object, |P|")
    save(figure, "frame-and-probes.png")


def draw_levels(scan: Scan, result: Reconstruction) -> None:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    stages = [
        ("64 px, one epoch", SolverConfig(final_size=64, epochs=1, probe_search=False)),
        ("64 px, twelve epochs", SolverConfig(final_size=64, epochs=12)),
        ("the default plan, to the full 128 px", None),
    ]
    centre = np.asarray(result.object.shape) / 2
    for number, (title, config) in enumerate(stages, 1):
        stage = result if config is None else solve(scan, config)
        picture = middle_phase(stage.object, centre, 100)
        panel(figure, (1, 3, number), picture, f"{title}: R {stage.data_residual:.3f}", vmin=-0.8, vmax=0.5)
    save(figure, "coarse-to-fine.png")


def draw_beside(result: Reconstruction, path: Path) -> None:
    with np.load(path, allow_pickle=False) as reference:
        obj, top_left = reference["object"], reference["top_left_px"]
    half = result.frame_px // 2
    ours = result.positions_on_canvas_px().mean(axis=0)
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    style = {"vmin": -0.8, "vmax": 0.5}
    panel(figure, (1, 2, 1), middle_phase(result.object, ours, 165), "ours, seconds", **style)
    reference_phase = middle_phase(obj, top_left.mean(axis=0) + half, 165)
    panel(figure, (1, 2, 2), reference_phase, "reference, 200 epochs of LSQ-ML", **style)
    save(figure, "beside-the-reference.png")


def draw_network(scan: Scan, result: Reconstruction) -> None:
    """Half of the frames after a minute of training on the other half."""
    from ptycho_config.execution import PyTorchExecutionConfig
    from ptycho_config.models import TrainingConfig
    from ptycho_core.backend import get_backend

    order = np.random.default_rng(0).permutation(scan.n_frames)
    learned, unseen = (scan.select(np.sort(half)) for half in np.array_split(order, 2))
    probe = solve(learned).probe
    execution = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
    trained = get_backend("pytorch").train(
        replace(learned, probe=probe), TrainingConfig(max_time=60), execution
    )
    image = trained.reconstruct(replace(unseen, probe=probe))
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    style = {"vmin": -0.8, "vmax": 0.5}
    for place, (one, title) in enumerate(
        ((result, "solver, all frames"), (image, "network, one pass over frames that it never saw")), 1
    ):
        centre = one.positions_on_canvas_px().mean(axis=0)
        panel(figure, (1, 2, place), middle_phase(one.object, centre, 165), title, **style)
    save(figure, "network.png")


if __name__ == "__main__":
    main()
