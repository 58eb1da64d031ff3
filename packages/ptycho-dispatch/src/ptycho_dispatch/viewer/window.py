"""A result in a window of napari: object, probe modes, coverage, positions, and the frame at the clicked one.

All layers share the coordinates of the scan in pixels, (y, x). Object, coverage and positions lie where they
were; to their right stand the probe modes, below each other, and below the object the measured frame beside
the predicted one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ptycho_core import Reconstruction
from ptycho_core.figures import FrameComparison
from ptycho_core.figures.display import colour_wheel, robust_limits
from ptycho_core.figures.view import ObjectView
from ptycho_dispatch.audit.run_record import read_record
from ptycho_dispatch.report.frames import compared_frames
from ptycho_dispatch.screen import say

__all__ = ["build", "show"]

_GAP = 0.04


def show(directory: Path, *, scan: str | None = None, screenshot: str | None = None) -> None:
    """Open a window and wait until it is closed; or write a picture of it and close it.

    Args:
        scan: the file or name of the scan; see `ptycho_dispatch.report.frames.compared_frames`.
    Raises:
        DataError: there is no such result, or the scan is not its own.
        OutputError: the picture cannot be written.
    """
    import napari  # pyright: ignore[reportMissingImports]  (an extra)

    result = Reconstruction.load(directory)
    frames, absent = compared_frames(result, read_record(directory)[1], scan)
    if absent:
        say(f"no frames: {absent}")
    viewer = build(napari.Viewer(title=f"{result.scan_name}, {result.method}"), result, frames)
    if screenshot is None:
        napari.run()
        return
    from ptycho_core.figures import plain_png
    from ptycho_core.files import atomic_path

    pixels = viewer.screenshot(canvas_only=False, flash=False)
    viewer.close()
    with atomic_path(screenshot) as temporary:
        temporary.write_bytes(plain_png(pixels))
    say(f"picture: {screenshot}")


def build(viewer: Any, result: Reconstruction, frames: FrameComparison | None) -> Any:
    """Add the layers of a result to a viewer, and what a click on a position does.

    Args:
        viewer: of napari. frames: the scan beside the result; without it clicks show no frame.
    Returns:
        The viewer.
    """
    view = ObjectView(result, largest_px=max(result.object.shape))
    placed = {"translate": view.corner_px, "colormap": "gray"}
    top, left = view.corner_px
    height, width = view.coverage.shape
    if result.dose_carries_image:
        for name in ("amplitude", "phase"):
            image, limits = view.images[name], view.limits[name]
            viewer.add_image(
                image, name=f"object {name}", contrast_limits=limits, visible=name == "phase", **placed
            )
    limits = (0.0, max(float(view.coverage.max()), 1e-9))
    viewer.add_image(
        view.coverage,
        name="coverage",
        visible=not result.dose_carries_image,
        contrast_limits=limits,
        translate=view.corner_px,
        colormap="cividis",
    )
    gap = _GAP * max(height, width)
    _add_probe(viewer, result, (top, left + width + gap))
    points, numbers = _add_positions(viewer, result)
    if frames is not None:
        _add_frames(viewer, result, frames, points, numbers, (top + height + gap, left))
    viewer.reset_view()
    return viewer


def _add_probe(viewer: Any, result: Reconstruction, corner: tuple[float, float]) -> None:
    """Show the modes below each other, hue as phase; each is a layer."""
    top, left = corner
    for mode, field in enumerate(result.probe):
        place = (top + mode * (1 + _GAP) * result.frame_px, left)
        viewer.add_image(colour_wheel(field), name=f"probe mode {mode + 1}", rgb=True, translate=place)


def _add_positions(viewer: Any, result: Reconstruction) -> tuple[Any, np.ndarray]:
    """Show where frames were taken, coloured by their residuals; the layer, and the frame of each point."""
    residual = result.residual_per_frame
    numbers = np.flatnonzero(np.isfinite(result.positions_px).all(axis=1) & np.isfinite(residual))
    positions = result.positions_px[numbers]
    spread = float(np.ptp(positions, axis=0).max(initial=1.0))
    points = viewer.add_points(
        positions,
        name="positions, R of the frame",
        features={"R": residual[numbers], "frame": numbers},
        face_color="R",
        face_colormap="viridis",
        face_contrast_limits=robust_limits(residual, percent=1.0, least_span=0.01),
        size=max(0.5 * spread / max(len(numbers), 1) ** 0.5, 1.0),
        border_width=0,
        opacity=0.8,
    )
    return points, numbers


def _add_frames(
    viewer: Any,
    result: Reconstruction,
    frames: FrameComparison,
    points: Any,
    numbers: np.ndarray,
    corner: tuple[float, float],
) -> None:
    """Show the worst frame, and after a click the one that stands nearest to it."""
    known = numbers[np.isin(numbers, frames.numbers)]
    if not known.size:
        return
    top, left = corner
    shift = (1 + _GAP) * result.frame_px
    blank = np.zeros((result.frame_px, result.frame_px), np.float32)
    layers = [
        viewer.add_image(blank, name=name, colormap="inferno", translate=(top, left + step * shift))
        for step, name in enumerate(("measured", "predicted"))
    ]
    mark = viewer.add_points(
        result.positions_px[known[:1]],
        name="chosen position",
        symbol="ring",
        face_color="#d2691e",
        size=2.5 * float(np.max(points.size)),
        border_width=0,
    )

    def choose(number: int) -> None:
        measured, predicted = frames.counts(np.flatnonzero(frames.numbers == number))
        highest = float(np.log1p(measured.max()))
        for layer, counts in zip(layers, (measured[0], predicted[0]), strict=True):
            layer.data = np.log1p(counts)
            layer.contrast_limits = (0.0, max(highest, 1e-3))
        mark.data = result.positions_px[number][None]
        r = result.residual_per_frame[number]
        viewer.status = f"frame {number}: R = {r:.4f}; logarithm of 1 + counts, measured beside predicted"
        viewer.text_overlay.text = viewer.status
        viewer.text_overlay.font_size = 9
        viewer.text_overlay.visible = True

    def clicked(_: Any, event: Any) -> None:
        place = np.asarray(event.position[-2:])
        distance = np.linalg.norm(result.positions_px[known] - place, axis=1)
        if distance.min() < result.frame_px / 2:
            choose(int(known[int(np.argmin(distance))]))

    viewer.mouse_drag_callbacks.append(clicked)
    viewer.layers.selection.active = points
    choose(int(known[int(np.argmax(result.residual_per_frame[known]))]))
