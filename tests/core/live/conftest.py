"""A small scan, and writers that behave like detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho_core import Scan


@pytest.fixture(scope="session")
def scan(simulated) -> Scan:
    return simulated(object_kind="star", frames=60, frame_px=32, seed=1).scan


def write_positions(path: Path, positions_px: np.ndarray) -> None:
    rows = "".join(f"{y!r},{x!r}\n" for y, x in positions_px.tolist())
    path.write_text("y,x\n" + rows)


@pytest.fixture
def folder(tmp_path: Path, scan: Scan) -> Path:
    """A directory in which all positions stand already, for the frames to come."""
    made = tmp_path / "frames"
    made.mkdir()
    write_positions(made / "positions.csv", scan.positions_px)
    return made
