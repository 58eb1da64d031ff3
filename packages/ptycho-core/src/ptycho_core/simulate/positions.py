"""Scan patterns: where the probe stands, for a wanted overlap of neighbouring frames.

The overlap is linear: overlap_fraction = 1 - step / D, with D the probe's effective diameter
(`ptycho_core.simulate.probes.effective_diameter_px`) and step the spacing of a square grid of the same
density, step = sqrt(scanned area / number of frames). So raster, spiral and random scans of one overlap put
the same light on each square pixel.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from ptycho_config.errors import ConfigError
from ptycho_config.plaintext import excerpt

__all__ = ["POSITION_KINDS", "PositionKind", "make_positions", "step_for_overlap_px"]

PositionKind = Literal["raster", "spiral", "random", "jitter"]
POSITION_KINDS: tuple[str, ...] = get_args(PositionKind)

_GOLDEN_ANGLE_RAD = np.pi * (3 - np.sqrt(5))


def step_for_overlap_px(overlap_fraction: float, diameter_px: float) -> float:
    """Return the step in pixels that gives neighbouring frames this linear overlap.

    Raises:
        ConfigError: the overlap is outside [0, 1).
    """
    if not 0 <= overlap_fraction < 1:
        raise ConfigError(
            f"overlap is {overlap_fraction}. Expected a fraction from 0 (frames that touch) to below 1; "
            "0.7 is a usual choice."
        )
    return (1 - overlap_fraction) * diameter_px


def make_positions(
    kind: PositionKind, n_frames: int, step_px: float, rng: np.random.Generator
) -> Float64[np.ndarray, "frame 2"]:
    """Place the frames of a scan: (y, x) in pixels, in the order of acquisition, smallest value 0 per axis.

    Args:
        kind: one of `POSITION_KINDS`. `raster` rows of a square grid, `spiral` the Fermat spiral of equal
            area per frame, `random` uniform over a square of the same area, `jitter` a raster with each
            position moved by up to a quarter of a step.
        step_px: spacing of the square grid with the same number of frames per area.
    Raises:
        ConfigError: the kind is unknown, or there is no frame.
    """
    if kind not in _POSITIONS:
        raise ConfigError(
            f"Unknown positions `{excerpt(kind, 60)}`. Expected one of {', '.join(POSITION_KINDS)}."
        )
    if n_frames < 1:
        raise ConfigError(f"n_frames is {n_frames}. Expected at least 1 frame.")
    positions = _POSITIONS[kind](n_frames, rng) * step_px
    return positions - positions.min(axis=0)


def _raster(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    side = int(np.ceil(np.sqrt(n_frames)))
    index = np.arange(n_frames)
    return np.stack([index // side, index % side], axis=1).astype(np.float64)


def _spiral(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    index = np.arange(n_frames)
    radius, angle = np.sqrt((index + 0.5) / np.pi), index * _GOLDEN_ANGLE_RAD
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)


def _random(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0, np.sqrt(n_frames), size=(n_frames, 2))


def _jitter(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    return _raster(n_frames, rng) + rng.uniform(-0.25, 0.25, size=(n_frames, 2))


_POSITIONS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "raster": _raster,
    "spiral": _spiral,
    "random": _random,
    "jitter": _jitter,
}
