"""Small scans with known truth, made with the reference physics alone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

from ptycho_config.execution import SolverExecutionConfig
from ptycho_core import Scan, scan_from_arrays
from ptycho_core.arrays import array_libraries
from ptycho_core.kernel import build, load_kernel


@dataclass(frozen=True)
class KnownScan:
    """A scan and what it was made of; `top_left_px` places the windows on `obj`."""

    scan: Scan
    obj: np.ndarray
    probe: np.ndarray
    top_left_px: np.ndarray


def discs(shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    contrast = np.zeros(shape)
    for _ in range(shape[0] * shape[1] // 150):
        row, column = random.uniform(0, shape[0]), random.uniform(0, shape[1])
        contrast[(y - row) ** 2 + (x - column) ** 2 < random.uniform(2, 9) ** 2] = random.uniform(-1, 1)
    contrast = scipy.ndimage.gaussian_filter(contrast, 0.7)
    return (1 - 0.15 * np.abs(contrast)) * np.exp(0.8j * contrast)


def known_scan(
    *,
    frame_px: int = 32,
    side: tuple[int, int] = (9, 9),
    step_px: float = 4.0,
    photons: float = 1e6,
    modes: int = 1,
    poisson: bool = True,
    offset_px: tuple[float, float] = (0.0, 0.0),
    bad_pixels: bool = False,
    with_probe: bool = True,
    seed: int = 0,
) -> KnownScan:
    """A raster of `side` positions with jitter, a curved Gaussian probe, discs as the object."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in side), indexing="ij"), -1).reshape(-1, 2) * step_px
    top_left = grid + random.uniform(-0.3, 0.3, grid.shape) * step_px
    top_left -= top_left.min(axis=0) - 4
    shape = tuple(int(end) + frame_px + 5 for end in top_left.max(axis=0))
    obj = discs(shape, random)
    x = np.arange(frame_px) - frame_px / 2
    radius = x[:, None] ** 2 + x**2
    width = frame_px / 9
    probe = np.exp(-radius / (2 * width**2) + 0.5j * radius / (2 * width**2))
    shapes = [np.ones_like(radius), x[None] / width, x[:, None] / width][:modes]
    weights = [1.0, 0.3, 0.2][:modes]
    probes = np.stack([probe * s * w for s, w in zip(shapes, weights, strict=True)])
    probes *= np.sqrt(photons / np.sum(np.abs(probes) ** 2))
    k = np.fft.fftfreq(frame_px)
    frames = []
    for row, column in top_left:
        i, j = round(row), round(column)
        phase = np.exp(-2j * np.pi * (k[:, None] * (row - i) + k * (column - j)))
        moved = np.fft.ifft2(np.fft.fft2(probes) * phase)
        waves = np.fft.fft2(moved * obj[i : i + frame_px, j : j + frame_px], norm="ortho")
        frames.append(np.fft.fftshift(np.sum(np.abs(waves) ** 2, axis=0)))
    counts = random.poisson(frames).astype(np.float32) if poisson else np.asarray(frames, np.float32)
    bad = None
    if bad_pixels:
        bad = random.random((frame_px, frame_px)) < 0.02
        counts[:, bad] = 1e5
    return KnownScan(
        scan_from_arrays(
            counts,
            top_left + frame_px // 2 + np.asarray(offset_px),
            probes[0].astype(np.complex64) if with_probe else None,
            measurement="counts",
            dc="center",
            bad_pixels=bad,
            name="known",
        ),
        obj,
        probes,
        top_left,
    )


@pytest.fixture(scope="session")
def make_scan() -> Callable[..., KnownScan]:
    return known_scan


@pytest.fixture(scope="session")
def made_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that the compiler made from the kernel's sources, with less optimisation than it has."""
    made = tmp_path_factory.mktemp("made") / "step.so"
    words = [str(shutil.which("cc")), *build._FLAGS, "-O1", "fused.c", "-o", str(made), "-lm"]
    subprocess.run(words, cwd=Path(build.__file__).parent, check=True, timeout=120)
    return made


@pytest.fixture
def handing_out(made_before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler in `CC` that hands out what was made before, for tests of what is done with it then.

    Returns the file that holds the words of its last call, one a line.
    """
    program, words = tmp_path / "handing-out", tmp_path / "words"
    hand_out = f'while [ $# -gt 0 ]; do [ "$1" = -o ] && cp "{made_before}" "$2"; shift; done'
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{words}"\n{hand_out}\n')
    program.chmod(0o755)
    monkeypatch.setenv("CC", str(program))
    return words


@pytest.fixture(params=sorted(array_libraries()))
def array_name(request: pytest.FixtureRequest) -> str:
    """Each registered library of arrays whose package is installed."""
    if not array_libraries()[request.param]().available():
        pytest.skip(f"the package for `{request.param}` arrays is not installed")
    return request.param


@pytest.fixture(params=["kernel", "arrays alone"])
def execution(request: pytest.FixtureRequest, array_name: str) -> SolverExecutionConfig:
    """Each library of arrays on the CPU, with and without the compiled step."""
    return execution_of(array_name, request.param)


@pytest.fixture(params=["kernel", pytest.param("arrays alone", marks=pytest.mark.slow)])
def quick_execution(request: pytest.FixtureRequest, array_name: str) -> SolverExecutionConfig:
    """The same for what takes long, where the compiled step stands for the others."""
    return execution_of(array_name, request.param)


def execution_of(array_name: str, kind: str) -> SolverExecutionConfig:
    if kind == "kernel" and load_kernel().library is None:
        pytest.skip(load_kernel().message)
    kernel = "required" if kind == "kernel" else "off"
    return SolverExecutionConfig(arrays=array_name, accelerator="cpu", threads=2, kernel=kernel)
