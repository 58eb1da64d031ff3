"""Draw the pictures of the documentation from the real scan: `python docs/make_pictures.py`.

The reference reconstruction is read from `PTYCHO_DATA_DIR` where it lies there; without it the picture that
needs it is left as it is.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, open_scan, solve
from ptycho_core.doctor import diagnose, write_sheet
from ptycho_core.figures import write_figures, write_uncertainty
from ptycho_core.metrics import compare
from ptycho_core.physics.gauge import without_ramp
from ptycho_core.simulate import simulate_scan
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
    draw_no_data()
    draw_diagnoses(scan)
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


def draw_no_data() -> None:
    """Six faults of a small scan: fitted as they are, and left out as they are by default."""
    made = simulate_scan(object_kind="polygons", frames=150, seed=7)
    truth, random = made.obj.astype(np.complex64), np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    hot = random.random((64, 64)) < 0.01
    arm = (np.hypot(y - 32, x - 32) < 4) | ((np.abs(x - 32) < 2) & (y < 32))
    some = random.permutation(made.scan.n_frames)

    def with_gap(counts: np.ndarray) -> None:
        counts[:, 40:43] = 2**32 - 1

    def with_marks(counts: np.ndarray) -> None:
        counts[:, :, 20:22] = -1

    def with_hot_pixels(counts: np.ndarray) -> None:
        counts[:, hot] += random.poisson(2000, (len(counts), int(hot.sum())))

    def with_a_stop(counts: np.ndarray) -> None:
        counts[:, arm] = 0

    def with_empty_frames(counts: np.ndarray) -> None:
        counts[some[:15]] = 0

    def with_a_flash(counts: np.ndarray) -> None:
        counts[some[20]] *= 60

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    faults = {
        "gap at 2^32 - 1": (with_gap, "u4"),
        "masked pixels at -1": (with_marks, "i4"),
        "1 % hot pixels": (with_hot_pixels, "u4"),
        "beam stop with its arm": (with_a_stop, "u4"),
        "10 % empty frames": (with_empty_frames, "u4"),
        "one frame x 60": (with_a_flash, "u4"),
    }
    for column, (title, (spoil, kind)) in enumerate(faults.items(), 1):
        counts = np.rint(made.scan.counts()).astype(np.int64)
        spoil(counts)
        for row, options in enumerate(({"bad_pixels": "off", "bad_frames": "off"}, {})):
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                path = Path(folder) / "scan.npz"
                positions = made.scan.positions_px
                np.savez(
                    path,
                    diffraction=counts.astype(kind),
                    xcoords=positions[:, 1],
                    ycoords=positions[:, 0],
                    probeGuess=made.scan.probe,
                )
                scan = open_scan(path, **options)
                result = solve(scan, SolverConfig(leave_out_frames=not options))
            error = compare(result, truth).values["object_error"]
            picture = middle_phase(result.object, np.asarray(result.object.shape) / 2, 50)
            said = f"fitted: {error:.2f}" if options else f"left out: {error:.2f}"
            panel(
                figure,
                (2, 6, 6 * row + column),
                picture,
                f"{title}\n{said}" if not row else said,
                vmin=-1,
                vmax=1,
            )
    save(figure, "no-data.png")


def draw_diagnoses(scan: Scan) -> None:
    """What `ptycho diagnose --picture` draws of the real scans."""
    found = {"siemens-star": scan}
    other = Path(os.environ.get("PTYCHO_DATA_DIR", ".")) / "labyrinth.npz"
    if other.exists():
        found["labyrinth"] = open_scan(other)
    for name, one in found.items():
        with tempfile.TemporaryDirectory() as folder:
            sheet = write_sheet(diagnose(one, budget_s=120), Path(folder) / "sheet.png", name=name)
            save_smaller(sheet, f"diagnosis-{name}.png")


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
