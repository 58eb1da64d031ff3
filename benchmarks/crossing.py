"""Four ways over the real scan: trained by either core, imaged by either core, and how far the images lie apart.

nox -s bench -- crossing [--seconds 90] [--write-docs]
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import frame
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from ptycho_config.execution import PyTorchExecutionConfig, TensorFlowExecutionConfig
from ptycho_config.models import SolverConfig, TrainingConfig
from ptycho_core import Reconstruction, open_scan, solve
from ptycho_core.backend import get_backend
from ptycho_core.figures.display import covered_box, covered_region, phase_without_ramp, robust_limits

CORES = {
    "pytorch": ("PyTorch", PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")),
    "tensorflow": ("TensorFlow", TensorFlowExecutionConfig(accelerator="cpu", logger_backend="none")),
}
PICTURE = Path("docs/images/crossing.png")


def cross(seconds: float) -> dict[tuple[str, str], Reconstruction]:
    """Train on the real scan with each core and image it with each; keys are (trained by, imaged by)."""
    given = open_scan("siemens-star")
    refined = solve(given, SolverConfig()).probe
    scan = replace(given, probe=refined)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for trainer, (trained_by, execution) in CORES.items():
            network = get_backend(trainer).train(scan, TrainingConfig(max_time=seconds, seed=0), execution)
            bundle = network.save(Path(folder) / trainer)
            for imager, (imaged_by, other) in CORES.items():
                result = get_backend(imager).load(bundle, other).reconstruct(scan)
                found[trained_by, imaged_by] = result
                print(f"{trained_by}, then {imaged_by}: R {result.data_residual:.6f}", flush=True)
    return found


def apart(one: Reconstruction, other: Reconstruction) -> float:
    """Return max|a - b| / max|a| of two objects."""
    return float(np.abs(one.object - other.object).max() / np.abs(one.object).max())


def draw(found: dict[tuple[str, str], Reconstruction]) -> None:
    """Show the phases of the four images, trained by one core in each row."""
    names = [name for name, _ in CORES.values()]
    figure, axes = plt.subplots(2, 2, figsize=(9, 9.4), squeeze=False)
    for row, trained_by in enumerate(names):
        for column, imaged_by in enumerate(names):
            result = found[trained_by, imaged_by]
            seen = covered_region(result.coverage)
            box = covered_box(seen)
            phase = phase_without_ramp(result.object, seen)
            low, high = robust_limits(phase[seen])
            axes[row, column].imshow(phase[box], cmap="gray", vmin=low, vmax=high)
            title = f"trained by {trained_by}, imaged by {imaged_by}\nR {result.data_residual:.5f}"
            axes[row, column].set_title(title, fontsize=10)
            axes[row, column].axis("off")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=80)


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=90.0, help="of training, by each core")
    arguments = parser.parse_args()
    found = cross(arguments.seconds)
    names = [name for name, _ in CORES.values()]
    rows = []
    for trained_by in names:
        home = found[trained_by, trained_by]
        away = next(name for name in names if name != trained_by)
        abroad = found[trained_by, away]
        rows.append(
            [
                trained_by,
                f"{home.data_residual:.6f}",
                f"{abroad.data_residual:.6f}",
                f"{apart(home, abroad):.1e}",
            ]
        )
    flags = f"--seconds {arguments.seconds:g} --write-docs"
    text = "\n".join(
        [
            frame.opening("Bundles that cross over", f"nox -s bench -- crossing {flags}"),
            f"`unet`, {arguments.seconds:g} s of training on the Siemens star by each core, from nothing; each bundle "
            "then opened by both. The last column is max|a - b| / max|a| of the two objects from one bundle.",
            "",
            frame.markdown_table(
                ["trained by", "R, imaged by itself", "R, imaged by the other", "apart"], rows
            ),
            "",
            "![The phases of the four images](../images/crossing.png)",
            "",
        ]
    )
    if arguments.write_docs:
        draw(found)
    figures = {f"{one}, then {other}, R": result.data_residual for (one, other), result in found.items()}
    frame.finish("crossing", arguments, text, {"rows": rows}, figures)


if __name__ == "__main__":
    main()
