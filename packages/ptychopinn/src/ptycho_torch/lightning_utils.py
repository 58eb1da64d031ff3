"""`ptycho_torch.lightning_utils` under its legacy path: where the model of a training is."""

from __future__ import annotations

from pathlib import Path

from ptycho_torch._checkpoint import CHECKPOINT

__all__ = ["find_best_checkpoint"]


def find_best_checkpoint(run_dir: str | Path) -> Path | None:
    """Return the model that a training left in a directory; None where there is none."""
    path = Path(run_dir) / CHECKPOINT
    return path if path.is_file() else None
