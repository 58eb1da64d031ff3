"""Objects with known truth: complex transmissions of any height and width, drawn from a seeded generator.

Every generator takes the canvas shape and a `numpy.random.Generator` and returns (H, W) complex64 with
modulus at most about 1. Features keep their size in pixels when the canvas grows; more of them appear.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Complex64, Float64
from scipy.ndimage import gaussian_filter

from ptycho_config.errors import ConfigError
from ptycho_config.plaintext import excerpt

__all__ = ["OBJECT_KINDS", "ObjectKind", "make_object"]

ObjectKind = Literal["lines", "discs", "polygons", "star", "gradient", "texture"]
OBJECT_KINDS: tuple[str, ...] = get_args(ObjectKind)

_EDGE_PX = 0.6  # blur of drawn edges: what a pixel sees of an edge, not a staircase


def make_object(
    kind: ObjectKind, shape: tuple[int, int], rng: np.random.Generator
) -> Complex64[np.ndarray, "height width"]:
    """Draw one object of the named kind.

    Args:
        kind: one of `OBJECT_KINDS`. `lines` is the lines object of the training literature with a phase,
            `discs` overlapping discs with hard edges, `polygons` random polygons, `star` a spoke target,
            `gradient` a smooth object whose phase wraps, `texture` a scale-free random medium.
        shape: height and width of the canvas in pixels.
    Raises:
        ConfigError: the kind is unknown.
    """
    if kind not in _OBJECTS:
        raise ConfigError(f"Unknown object `{excerpt(kind, 60)}`. Expected one of {', '.join(OBJECT_KINDS)}.")
    return _OBJECTS[kind](shape, rng).astype(np.complex64)


def draw_lines(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw 400 one-pixel lines on twice the canvas, blurred at three scales; keep the middle.

    With L the drawing: A = G1*L + 2 G5*L + 5 G10*L and phase pi tanh((A - max A / 2) / (3 mean A)).
    The amplitude is A over its maximum; `simulate_scan` rescales it by what the frames see.

    Source: docs/reference/physics.md, "Simulation".
    """
    height, width = shape
    drawing = np.zeros((2 * height, 2 * width))
    ends = rng.integers(0, [2 * height, 2 * width, 2 * height, 2 * width], size=(400, 4))
    for y0, x0, y1, x1 in ends:
        n_points = int(max(abs(y1 - y0), abs(x1 - x0))) + 1
        rows = np.rint(np.linspace(y0, y1, n_points)).astype(int)
        columns = np.rint(np.linspace(x0, x1, n_points)).astype(int)
        drawing[rows, columns] = 1.0
    blurred = gaussian_filter(drawing, 1) + 2 * gaussian_filter(drawing, 5) + 5 * gaussian_filter(drawing, 10)
    middle = blurred[height // 2 : height // 2 + height, width // 2 : width // 2 + width]
    phase = np.pi * np.tanh((middle - middle.max() / 2) / (3 * middle.mean()))
    return middle / middle.max() * np.exp(1j * phase)


def draw_discs(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw overlapping discs of radius 2 to 20 px: O = (1 - 0.15 |b|) exp(0.8 i b), b in [-1, 1].

    The density is that of 250 discs on 510 x 507 px, at least 40 of them.

    Source: docs/reference/physics.md, "Simulation".
    """
    height, width = shape
    n_discs = max(40, round(250 * height * width / (510 * 507)))
    level = np.zeros(shape)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    for y, x, radius, value in zip(
        rng.uniform(0, height, n_discs),
        rng.uniform(0, width, n_discs),
        rng.uniform(2, 20, n_discs),
        rng.uniform(-1, 1, n_discs),
        strict=True,
    ):
        level[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = value
    return (1 - 0.15 * np.abs(level)) * np.exp(0.8j * level)


def draw_polygons(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw random polygons of 3 to 8 corners and 4 to 24 px radius, phase and absorption independent."""
    height, width = shape
    n_polygons = max(12, height * width // 500)
    phase, absorption = np.zeros(shape), np.zeros(shape)
    for _ in range(n_polygons):
        n_corners = int(rng.integers(3, 9))
        angles = np.sort(rng.uniform(0, 2 * np.pi, n_corners))
        radii = rng.uniform(4, 24) * rng.uniform(0.5, 1.0, n_corners)
        corners = rng.uniform((0, 0), shape) + radii[:, None] * np.stack([np.sin(angles), np.cos(angles)], 1)
        new_phase, new_absorption = rng.uniform(-1.0, 1.0), rng.uniform(0.0, 0.3)
        top, left = np.maximum(np.floor(corners.min(0)).astype(int), 0)
        bottom, right = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, shape)
        if bottom <= top or right <= left:
            continue
        window = np.s_[top:bottom, left:right]
        inside = _inside_polygon(np.arange(top, bottom)[:, None], np.arange(left, right)[None, :], corners)
        phase[window][inside] = new_phase
        absorption[window][inside] = new_absorption
    return _soften((1 - absorption) * np.exp(1j * phase))


def draw_star(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a spoke target: 24 spokes from 2 px wide at the hub to the canvas' edge, cut by three rings."""
    height, width = shape
    n_spokes = 24
    y = np.arange(height)[:, None] - height / 2
    x = np.arange(width)[None, :] - width / 2
    radius, angle = np.hypot(y, x), np.arctan2(y, x) + rng.uniform(0, 2 * np.pi / n_spokes)
    hub_px, outer_px = 2 * n_spokes / np.pi, 0.5 * np.hypot(height, width)
    gold = (np.sin(n_spokes * angle) > 0) & (radius > hub_px)
    for ring_px in np.geomspace(1.6 * hub_px, max(0.8 * outer_px, 2 * hub_px), 3):
        gold &= np.abs(radius - ring_px) > 1.5
    gold |= (radius < 0.6 * hub_px) & (radius > 0.3 * hub_px)
    return _soften(np.where(gold, 0.8 * np.exp(-0.9j), 1.0 + 0j))


def draw_gradient(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth object: a lens phase of about four pi, two slow waves, amplitude falling to 0.6."""
    height, width = shape
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None, :]
    tilt, phases = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi, 2)
    along = (np.cos(tilt) * y + np.sin(tilt) * x) / np.sqrt(2)
    lens = 2 * np.pi * (y**2 + x**2)
    waves = 0.4 * np.sin(2 * np.pi * 1.5 * y + phases[0]) + 0.4 * np.sin(2 * np.pi * 2 * x + phases[1])
    return (0.8 + 0.2 * along) * np.exp(1j * (lens + waves))


def draw_texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a random medium with a power spectrum falling as k^-3: phase in [-1, 1], amplitude 0.7 to 1."""
    phase, absorption = (_power_law_field(shape, rng) for _ in range(2))
    return _soften((1 - 0.3 * (absorption + 1) / 2) * np.exp(1j * phase))


def _power_law_field(shape: tuple[int, int], rng: np.random.Generator) -> Float64[np.ndarray, "height width"]:
    """Make a random field with amplitude spectrum k^-1.5, clipped at 2.5 deviations to [-1, 1]."""
    spectrum = np.fft.fft2(rng.normal(size=shape))
    k = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :])
    k[0, 0] = 1.0
    spectrum *= np.maximum(k, 0.01) ** -1.5  # nothing larger than about 100 px
    spectrum[0, 0] = 0.0
    field = np.fft.ifft2(spectrum).real
    return np.clip(field / (2.5 * field.std()), -1, 1)


def _inside_polygon(rows: np.ndarray, columns: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Tell which pixels lie inside a polygon of (y, x) corners: an odd number of edges lies to the right."""
    inside = np.zeros(np.broadcast_shapes(rows.shape, columns.shape), dtype=bool)
    for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (rows < y0) != (rows < y1)
        inside ^= crosses & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _soften(obj: np.ndarray) -> np.ndarray:
    """Blur drawn edges by a fraction of a pixel, real and imaginary part alike."""
    return gaussian_filter(np.real(obj), _EDGE_PX) + 1j * gaussian_filter(np.imag(obj), _EDGE_PX)


_OBJECTS: dict[str, Callable[[tuple[int, int], np.random.Generator], np.ndarray]] = {
    "lines": draw_lines,
    "discs": draw_discs,
    "polygons": draw_polygons,
    "star": draw_star,
    "gradient": draw_gradient,
    "texture": draw_texture,
}
