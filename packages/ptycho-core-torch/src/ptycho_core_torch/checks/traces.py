"""CONFIG-LOGGER-001 in the core: a training for which nobody chose a logger leaves a CSV file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ptycho_config.checks.evidence import Evidence, demand
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_core_torch.checks import training

__all__ = ["a_training_leaves_its_metrics"]

FINDING = "CONFIG-LOGGER-001"


def a_training_leaves_its_metrics() -> Evidence:
    """Train for one epoch with the default logger and read what it wrote.

    Raises:
        ProbeError: CONFIG-LOGGER-001 does not hold.
        BackendUnavailableError: torch or lightning is not installed.
    """
    logger = PyTorchExecutionConfig(accelerator="cpu").logger_backend
    with tempfile.TemporaryDirectory() as folder:
        training.train(directory=Path(folder), logger_backend=logger)
        found = sorted(Path(folder).rglob("metrics.csv"))
        demand(len(found) == 1, FINDING, f"{len(found)} metrics.csv were left behind", "one")
        lines = found[0].read_text(encoding="utf-8").splitlines()
        where = found[0].relative_to(folder).as_posix()
    demand("train_loss" in lines[0], FINDING, f"its columns are {lines[0]}", "train_loss among them")
    demand(len(lines) > 1, FINDING, "it holds no row", "one row an epoch")
    return {"file": where, "rows": len(lines) - 1}
