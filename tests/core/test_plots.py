"""Figures as axes that a user goes on to change: what is on them, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes

from ptycho_config.errors import DataError
from ptycho_config.models import SolverConfig
from ptycho_core import Reconstruction, Scan, solve
from ptycho_core.metrics import compare


@pytest.fixture(autouse=True)
def figures_closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def made(simulated: Callable[..., Any]) -> tuple[Scan, Reconstruction]:
    scan = simulated(frames=60, frame_px=32, start_kind="true").scan
    return scan, solve(scan, SolverConfig(effort="fast"))


def image_of(axes: Axes) -> np.ndarray:
    return np.ma.filled(axes.images[0].get_array(), np.nan)


def test_a_result_at_a_glance_is_six_panels_of_one_figure(made) -> None:
    axes = made[1].plot()
    assert list(axes) == ["amplitude", "phase", "epochs", "probe", "coverage", "residual"]
    (figure,) = {panel.figure for panel in axes.values()}
    assert pyplot.gcf() is figure
    figure.canvas.draw()
    boxes = [panel.get_tightbbox() for panel in axes.values()]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:i])


def test_a_closer_look_leaves_nothing_of_a_panel_outside_of_it(made) -> None:
    panel = made[1].plot("amplitude")["amplitude"]
    (y, x), reach = made[1].positions_px.mean(axis=0), 4
    panel.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach))
    panel.figure.canvas.draw()
    labels = [text.get_text() for text in panel.texts]
    assert any(label.endswith("px") for label in labels)
    # Above stands the title; to the left and below is nothing any more.
    frame, whole = panel.get_window_extent(), panel.get_tightbbox()
    assert whole.x0 > frame.x0 - 5 and whole.y0 > frame.y0 - 5


def test_object_and_positions_share_the_coordinates_of_the_scan(made) -> None:
    scan, result = made
    axes = result.plot("amplitude", "coverage", "residual")
    left, right, bottom, top = axes["amplitude"].images[0].get_extent()
    shown = image_of(axes["amplitude"])
    assert shown.shape == pytest.approx((bottom - top, right - left))
    # A pixel of the picture is the object's at the same place of the scan.
    row, column = np.rint(scan.positions_px.mean(axis=0) - result.origin_px).astype(int)
    y, x = result.origin_px + np.array([row, column])
    seen = shown[round(y - top - 0.5), round(x - left - 0.5)]
    assert seen == pytest.approx(abs(result.object[row, column]), rel=1e-6)
    assert axes["coverage"].images[0].get_extent() == [left, right, bottom, top]
    dots = np.asarray(axes["residual"].collections[0].get_offsets())
    known = np.isfinite(result.residual_per_frame)
    np.testing.assert_allclose(dots, result.positions_px[known, ::-1])


def test_a_user_draws_on_axes_of_the_own_and_changes_them(made) -> None:
    figure, mine = pyplot.subplots(1, 2)
    axes = made[1].plot("phase", "probe", axes=mine)
    assert axes["phase"] is mine[0]
    assert axes["probe"] is mine[1]
    axes["phase"].set_title("thickness")
    axes["phase"].images[0].set_cmap("twilight")
    figure.canvas.draw()
    assert made[1].plot("residual", axes=pyplot.figure().add_subplot())["residual"].collections


def test_where_no_image_can_be_a_plot_says_so(made) -> None:
    axes = replace(made[1], dose_carries_image=False).plot("phase")
    assert not axes["phase"].images
    assert "too few photons" in axes["phase"].texts[0].get_text()


def test_a_frame_holds_its_counts_and_greys_its_bad_pixels(made) -> None:
    scan = made[0]
    bad = np.zeros((32, 32), bool)
    bad[3, 5] = True
    axes = replace(scan, bad_pixels=bad).plot_frame(12)
    drawn = axes.images[0].get_array()
    assert np.ma.getmaskarray(drawn).sum() == 1
    assert np.ma.getmaskarray(drawn)[3, 5]
    np.testing.assert_array_equal(drawn[~bad], scan.counts([12])[0][~bad])
    assert "frame 12" in axes.get_title("left")
    assert axes.images[0].norm.vmax == drawn.max()


def test_frames_are_counted_from_the_end_and_by_their_number_in_the_file(made) -> None:
    scan = made[0]
    np.testing.assert_array_equal(image_of(scan.plot_frame(-1)), scan.counts([59])[0])
    fewer = replace(
        scan.select(slice(10, None)),
        frame_numbers=np.arange(10, 60),
        all_positions_px=np.asarray(scan.positions_px),
    )
    assert "frame 0 (10 in the file)" in fewer.plot_frame(0).get_title("left")
    mine = pyplot.figure().add_subplot()
    assert fewer.plot_frame(3, axes=mine) is mine


def test_an_empty_frame_is_drawn(made) -> None:
    scan = replace(made[0], frames=np.zeros_like(np.asarray(made[0].frames)))
    scan.plot_frame(0).figure.canvas.draw()


def test_a_comparison_shows_both_and_the_scores_that_metrics_tells(made) -> None:
    scan, result = made
    axes = result.compare(scan.ground_truth, names=("solver", "truth"))
    assert list(axes) == [
        *("amplitude", "other_amplitude", "difference"),
        *("phase", "other_phase", "correlation"),
    ]
    scores = compare(result, scan.ground_truth)
    assert f"object error {scores.values['object_error']:.4f}" in axes["phase"].figure.get_suptitle()
    (curve, *_) = axes["correlation"].lines
    np.testing.assert_array_equal(curve.get_ydata(), scores.ring_correlation)
    assert axes["phase"].get_title("right") == "solver"
    assert axes["other_phase"].get_title("right") == "truth"
    same = result.compare(result, "difference")
    assert list(same) == ["difference"]
    assert np.nanmax(image_of(same["difference"])) < 1e-4


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda scan, result: result.plot("phse"), ValueError, "no panel 'phse'"),
        (lambda scan, result: result.plot("phase", axes=[]), ValueError, "there are 0 for 1 \\(phase\\)"),
        (lambda scan, result: result.compare(result, "phse"), ValueError, "Reconstruction.compare draws"),
        (lambda scan, result: scan.plot_frame(60), IndexError, "has frames 0 to 59; there is no frame 60"),
        (lambda scan, result: scan.plot_frame(-61), IndexError, "no frame -61"),
        (
            lambda scan, result: result.compare(replace(result, origin_px=result.origin_px + 5000)),
            DataError,
            "no common window",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    made, call: Callable[..., object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        call(*made)


def test_without_the_checks_of_tests_a_wrong_type_is_told_in_a_line() -> None:
    program = """
import numpy as np
from ptycho_core.simulate import simulate_scan
from ptycho_core import Reconstruction
from ptycho_core.figures import plot_comparison
scan = simulate_scan(frames=9, frame_px=32).scan
result = object.__new__(Reconstruction)
calls = (
    lambda: scan.plot_frame("twelve"),
    lambda: scan.plot_frame(0, axes=3),
    lambda: result.compare("truth"),
    lambda: plot_comparison(None, ["phase"], axes=["here"]),
)
for call in calls:
    try:
        call()
    except TypeError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.splitlines() == [
        "Scan.plot_frame expects the number of a frame, not 'twelve'.",
        "Scan.plot_frame expects axes of matplotlib, not int.",
        "Reconstruction.compare expects another result, or the true object as an array, not str 'truth'.",
        "Reconstruction.compare expects axes of matplotlib, not str.",
    ]


def test_pyplot_waits_until_a_figure_is_asked_for() -> None:
    program = (
        "import sys, ptycho_core; from ptycho_core import Reconstruction, Scan; "
        "print([name for name in sys.modules if name.partition('.')[0] == 'matplotlib']); "
        "import ptycho_core.figures; print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]
