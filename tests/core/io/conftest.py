"""A small honest scan as arrays and as a file, for tests that spoil one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

N = 16
SIDE = 5  # 25 positions: no number of frames that could be taken for N


def _small_scan() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    axis = np.arange(N) - N / 2
    probe = np.exp(-(axis[:, np.newaxis] ** 2 + axis**2) / 18) * np.exp(0.02j * axis**2)
    obj = np.exp(1j * rng.uniform(0, 1, size=(N + 14, N + 14))) * rng.uniform(0.6, 1, size=(N + 14, N + 14))
    steps = 3 * np.arange(SIDE)
    corners = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    windows = np.stack([obj[y : y + N, x : x + N] for y, x in corners])
    intensity = np.fft.fftshift(np.abs(np.fft.fft2(probe * windows, norm="ortho")) ** 2, axes=(1, 2))
    counts = rng.poisson(intensity * (1e5 / intensity.sum(axis=(1, 2)).mean()))
    positions_px = corners + N / 2.0
    return {
        "diff3d": np.sqrt(counts).astype(np.float32),
        "xcoords": positions_px[:, 1].copy(),
        "ycoords": positions_px[:, 0].copy(),
        "probeGuess": probe.astype(np.complex64),
        "objectGuess": obj.astype(np.complex64),
    }


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """The keys of a valid scan file: 25 frames of 16 x 16 amplitudes, DC in the centre."""
    return _small_scan()


@pytest.fixture
def counts(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The counts behind `arrays["diff3d"]`, whole numbers in float64."""
    return np.rint(arrays["diff3d"].astype(np.float64) ** 2)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays as `scan.npz` with NumPy itself."""

    def write(
        arrays: dict[str, np.ndarray], *, compressed: bool = False, **changes: np.ndarray | None
    ) -> Path:
        path = tmp_path / "scan.npz"
        merged = {key: value for key, value in (arrays | changes).items() if value is not None}
        (np.savez_compressed if compressed else np.savez)(path, **merged)  # type: ignore[arg-type]
        return path

    return write
