"""Panels on axes of matplotlib that a program or a notebook goes on to change.

Only here, where somebody asks for a figure to look at, is pyplot used: it shows figures in a notebook or a
window. What is written into files is drawn without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes

from ptycho_config.plaintext import plain
from ptycho_core.figures.comparison import COMPARISON_PANELS, AlignedPair
from ptycho_core.figures.result_panels import RESULT_PANELS
from ptycho_core.figures.view import DrawnResult, ObjectView

__all__ = ["plot_comparison", "plot_result"]

_Drawn = TypeVar("_Drawn")
_AT_A_GLANCE = ("amplitude", "phase", "epochs", "probe", "coverage", "residual")


def plot_result(
    reconstruction: DrawnResult, panels: Sequence[str] = (), axes: Axes | Iterable[Axes] | None = None
) -> dict[str, Axes]:
    """Draw panels of a result; see `Reconstruction.plot`.

    Raises:
        ValueError: there is no such panel, or there are not as many axes as panels.
        TypeError: what was given as axes is none.
    """
    names = _known(panels or _AT_A_GLANCE, RESULT_PANELS, "plot")
    view = ObjectView(reconstruction)
    return _draw(names, RESULT_PANELS, view, axes, "plot", view.heading())


def plot_comparison(
    pair: AlignedPair,
    panels: Sequence[str] = (),
    axes: Axes | Iterable[Axes] | None = None,
    *,
    heading: str = "",
) -> dict[str, Axes]:
    """Draw panels of a comparison; see `Reconstruction.compare`.

    Raises:
        ValueError: there is no such panel, or there are not as many axes as panels.
        TypeError: what was given as axes is none.
    """
    names = _known(panels or tuple(COMPARISON_PANELS), COMPARISON_PANELS, "compare")
    return _draw(names, COMPARISON_PANELS, pair, axes, "compare", heading)


def _known(panels: Sequence[str], known: Mapping[str, object], call: str) -> tuple[str, ...]:
    for name in panels:
        if name not in known:
            raise ValueError(f"Reconstruction.{call} draws {', '.join(known)}; there is no panel {name!r}.")
    return tuple(dict.fromkeys(panels))


def _draw(
    names: tuple[str, ...],
    panels: Mapping[str, Callable[[Axes, _Drawn], None]],
    drawn: _Drawn,
    given: Axes | Iterable[Axes] | None,
    call: str,
    heading: str,
) -> dict[str, Axes]:
    places = _new_axes(len(names), heading) if given is None else _as_list(given, call)
    if len(places) != len(names):
        raise ValueError(
            f"Reconstruction.{call} needs one of `axes` for each panel: there are {len(places)} for "
            f"{len(names)} ({', '.join(names)})."
        )
    for name, place in zip(names, places, strict=True):
        panels[name](place, drawn)
    return dict(zip(names, places, strict=True))


def _as_list(axes: Axes | Iterable[Axes], call: str) -> list[Axes]:
    """Take one, a list, or the array that `subplots` returns."""
    some = [axes] if isinstance(axes, Axes) else list(np.ravel(np.asarray(axes, dtype=object)))
    for one in some:
        if not isinstance(one, Axes):
            raise TypeError(f"Reconstruction.{call} expects axes of matplotlib, not {type(one).__name__}.")
    return some


def _new_axes(number: int, heading: str) -> list[Axes]:
    from matplotlib import pyplot

    columns = min(number, 3)
    rows = -(-number // columns)
    size = (4.7 * columns, 4.2 * rows + 0.4)
    figure, grid = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    places = list(grid.flat)
    for spare in places[number:]:
        spare.remove()
    # The name of a file may stand there; a dollar in one begins no formula.
    figure.suptitle(plain(heading), fontsize=11, parse_math=False)
    return places[:number]
