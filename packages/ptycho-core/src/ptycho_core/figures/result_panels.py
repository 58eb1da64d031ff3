"""The panels of a result by name; each is drawn on axes that somebody else has placed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes

from ptycho_core.figures.curves import draw_loss
from ptycho_core.figures.display import colour_wheel, mode_mosaic, mode_shares, robust_limits
from ptycho_core.figures.panels import GREYS, draw_image, draw_positions, draw_sentence, draw_wheel, title
from ptycho_core.figures.view import LABELS, ObjectView, aspect_of, pixel_of

__all__ = ["RESULT_PANELS"]

_UNRELIABLE = "The data cannot carry an image:\ntoo few photons for any object\nto be told from noise."


def _amplitude(axes: Axes, view: ObjectView) -> None:
    _object(axes, view, "amplitude", "")


def _phase(axes: Axes, view: ObjectView) -> None:
    _object(axes, view, "phase", "linear ramp and offset removed")


def _object(axes: Axes, view: ObjectView, name: str, note: str) -> None:
    if not view.result.dose_carries_image:
        title(axes, f"object {name}")
        draw_sentence(axes, _UNRELIABLE)
        return
    title(axes, f"object {name}", note)
    draw_image(
        axes,
        view.images[name],
        view.limits[name],
        label=LABELS[name],
        **pixel_of(view.result),
        shrunk=view.shrunk,
        corner_px=view.corner_px,
    )


def _probe_amplitude(axes: Axes, view: ObjectView) -> None:
    shares = mode_shares(view.result.probe)
    mosaic = np.abs(mode_mosaic(view.result.probe))
    note = "" if len(shares) == 1 else "power " + ", ".join(f"{share:.1%}" for share in shares[:4])
    title(axes, "probe amplitude", note)
    unit = "relative to each maximum" if len(shares) > 1 else "√counts"
    limits = (0.0, max(float(mosaic.max()), 1e-12))
    draw_image(axes, mosaic, limits, label=unit, colormap=GREYS, **pixel_of(view.result))


def _probe(axes: Axes, view: ObjectView) -> None:
    title(axes, "probe, complex", "hue = phase")
    wave = colour_wheel(mode_mosaic(view.result.probe))
    draw_image(axes, wave, None, bar=False, pixel_aspect=aspect_of(view.result))
    draw_wheel(axes)


def _coverage(axes: Axes, view: ObjectView) -> None:
    title(axes, "coverage")
    draw_image(
        axes,
        view.coverage,
        (0.0, float(view.coverage.max(initial=1e-9))),
        label="light",
        colormap="cividis",
        **pixel_of(view.result),
        shrunk=view.shrunk,
        corner_px=view.corner_px,
    )


def _residual(axes: Axes, view: ObjectView) -> None:
    title(axes, "residual of each frame")
    residual = view.result.residual_per_frame
    limits = robust_limits(residual, percent=1.0, least_span=0.01)
    draw_positions(axes, view.result.positions_px, residual, limits=limits, label="R of the frame")


def _epochs(axes: Axes, view: ObjectView) -> None:
    title(axes, "loss curve")
    draw_loss(axes, view.result.history, view.result.data_residual)


#: Name -> what draws it. Object, coverage and residual share the coordinates of the scan, in pixels.
RESULT_PANELS: Mapping[str, Callable[[Axes, ObjectView], None]] = {
    "amplitude": _amplitude,
    "phase": _phase,
    "epochs": _epochs,
    "probe_amplitude": _probe_amplitude,
    "probe": _probe,
    "coverage": _coverage,
    "residual": _residual,
}
