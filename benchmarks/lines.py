"""The lines object of the training literature: a network learns one, and images another.

    nox -s bench -- lines [--epochs 30] [--passes 2] [--only measured-like:2] [--write-docs]

N = 64, 512 frames at random places on objects of 392 x 392 px, 1e9 photons a frame, `n_groups` 512. The network sees
the first object's frames only; the second object's image is judged, on the pixels that are illuminated to a tenth of the
most. The ideal probe is a blurred disc of one phase; the measured-like probe is the refined one of the real scan,
cut to 64 px.
"""

from __future__ import annotations

import time
from typing import Any

import frame
import numpy as np
from scipy.ndimage import gaussian_filter

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, SolverConfig, TrainingConfig
from ptycho_core import Scan, open_scan, scan_from_arrays, solve
from ptycho_core.backend import get_backend
from ptycho_core.metrics import compare
from ptycho_core.simulate import make_object
from ptycho_core.simulate.scan import expected_intensity

N, OBJECT_PX, FRAMES, PHOTONS = 64, 392, 512, 1e9
TRAIN, TEST = 1, 2
#: Amplitude SSIM published for the method, with far more frames.
PUBLISHED = {
    ("ideal", 1): 0.620,
    ("measured-like", 1): 0.904,
    ("ideal", 2): 0.952,
    ("measured-like", 2): 0.968,
}
#: Gridsize -> epochs: groups of four are four times as many frames an epoch.
EPOCHS = {1: 30, 2: 15}
EXECUTION = PyTorchExecutionConfig(accelerator="cpu", logger_backend=None)


def ideal_probe() -> np.ndarray:
    """A disc, blurred by a pixel; source: docs/reference/physics.md, "Synthetic probe"."""
    sigma, at = N / (0.7 * np.pi**2), np.arange(N) - N // 2
    window = np.exp(-(at**2) / (2 * sigma**2))
    return gaussian_filter((np.outer(window, window) > 0.5).astype(float), 1) + 1e-9


def measured_probe() -> np.ndarray:
    """The middle of the probe that the solver finds on the real scan."""
    probe = solve(open_scan("siemens-star"), SolverConfig()).probe[0]
    middle = slice(probe.shape[-1] // 2 - N // 2, probe.shape[-1] // 2 + N // 2)
    return probe[middle, middle]


def lines(probe: np.ndarray, seed: int) -> tuple[Scan, np.ndarray]:
    """Expose one lines object at random places; the scan comes with the true probe."""
    random = np.random.default_rng(42 + seed)
    border = 0.35 * OBJECT_PX
    positions = random.uniform(border, OBJECT_PX - border, (FRAMES, 2))
    obj = make_object("lines", (OBJECT_PX, OBJECT_PX), np.random.default_rng(seed))
    corners = np.floor(positions - N // 2 + 0.5).astype(int)
    peaks = [np.abs(obj[y : y + N, x : x + N]).max() for y, x in corners]
    obj = (obj / np.mean(peaks)).astype(np.complex64)
    intensity = expected_intensity(obj, (probe / np.linalg.norm(probe))[None].astype(np.complex64), positions)
    scale = PHOTONS / intensity.sum(axis=(1, 2), dtype=np.float64).mean()
    counts = random.poisson(intensity * scale).astype(np.uint32)
    known = (probe * np.sqrt(scale) / np.linalg.norm(probe))[None].astype(np.complex64)
    scan = scan_from_arrays(
        counts, positions, known, measurement="counts", dc="center", name=f"lines-{seed}", ground_truth=obj
    )
    return scan, obj


def measure(name: str, probe: np.ndarray, gridsize: int, epochs: int, passes: int) -> dict[str, Any]:
    """Train on the first object and judge the image of the second."""
    (learned, _), (unseen, truth) = lines(probe, TRAIN), lines(probe, TEST)
    config = TrainingConfig(
        nepochs=epochs, n_groups=FRAMES, model=ModelConfig(gridsize=gridsize, unet_passes=passes)
    )
    began = time.perf_counter()
    trained = get_backend("pytorch").train(learned, config, EXECUTION)
    minutes = (time.perf_counter() - began) / 60
    values = compare(trained.reconstruct(unseen), truth).values
    solver = compare(solve(unseen, SolverConfig()), truth).values
    return {
        "probe": name,
        "gridsize": gridsize,
        "epochs": epochs,
        "amplitude": values["amplitude_ssim"],
        "phase": values["phase_ssim"],
        "published": PUBLISHED[name, gridsize],
        "solver": solver["amplitude_ssim"],
        "minutes": minutes,
    }


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--epochs", type=int, help="30 of single frames and 15 of groups when not given")
    parser.add_argument("--passes", type=int, default=2, help="how often the network sees each frame")
    parser.add_argument("--only", nargs="+", help="rows to measure, such as `measured-like:2`")
    arguments = parser.parse_args()
    rows = []
    for gridsize in (1, 2):
        for name, probe in (("ideal", ideal_probe()), ("measured-like", measured_probe())):
            if arguments.only and f"{name}:{gridsize}" not in arguments.only:
                continue
            epochs = arguments.epochs or EPOCHS[gridsize]
            rows.append(measure(name, probe, gridsize, epochs, arguments.passes))
            print(rows[-1], flush=True)
    only = f" --only {' '.join(arguments.only)}" if arguments.only else ""
    epochs = f" --epochs {arguments.epochs}" if arguments.epochs else ""
    command = frame.command("lines", arguments, f"--passes {arguments.passes}{epochs}{only}")
    table = [
        [
            row["probe"],
            str(row["gridsize"]),
            str(row["epochs"]),
            f"{row['amplitude']:.3f}",
            f"{row['published']:.3f}",
            f"{row['phase']:.3f}",
            f"{row['solver']:.3f}",
            f"{row['minutes']:.1f}",
        ]
        for row in rows
    ]
    header = [
        "probe",
        "gridsize",
        "epochs",
        "amplitude SSIM",
        "published",
        "phase SSIM",
        "solver: amplitude",
        "minutes",
    ]
    times = {1: "once", 2: "twice"}.get(arguments.passes, f"{arguments.passes} times")
    text = f"""{frame.opening("Lines: a network learns one object and images another", command)}
N = 64, 512 groups of the frames of one lines object; judged is the image of another one, which the network never
saw. The network sees each frame {times}
(`--unet-passes`), each time beside the image that all frames agreed on before. "Published" are the figures of the method's literature, with far more frames. The solver
gets the unseen scan itself.

{frame.markdown_table(header, table)}
"""
    figures = frame.figures(rows, ("probe", "gridsize"), "amplitude", "phase", "solver", "minutes")
    frame.finish("lines", arguments, text, {"rows": rows}, figures)


if __name__ == "__main__":
    main()
