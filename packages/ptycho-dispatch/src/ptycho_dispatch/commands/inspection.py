"""`ptycho inspect`: what is in a scan, a result or a product file, and what looks suspicious in it."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptycho_config.errors import ConfigError
from ptycho_config.flags import add_flags, given_flags
from ptycho_config.plaintext import typed
from ptycho_config.sources import load_parts
from ptycho_dispatch.commands.planning import add_plan_arguments, require_plan, tell_plan
from ptycho_dispatch.log import logging_to
from ptycho_dispatch.screen import say
from ptycho_dispatch.settings import READING, SOLVING, command_line, read_options
from ptycho_dispatch.table import print_rows, print_table

if TYPE_CHECKING:
    from ptycho_core import Reconstruction, Scan
    from ptycho_core.io.product import Product

__all__ = ["EXAMPLES", "add_arguments", "run", "some_of", "survey", "suspicious"]

EXAMPLES = (
    "ptycho inspect siemens-star --picture scan.png",
    "ptycho inspect scan.npz --measurement counts",
    "ptycho inspect reconstruction",
    "ptycho inspect siemens-star --plan --effort fast",
    "ptycho inspect scan.npz --plan --ranks 8 --json plan.json",
)

_BAD_RESIDUAL = 2.0
#: Notes of what was not taken for data.
_LEFT_OUT = re.compile(r"left out|bad pixels:|dropped")
Rows = list[tuple[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file, the picture and the flags that say how to read a scan."""
    parser.add_argument("file", metavar="FILE", help="a scan, a data set's name, a result or a product file")
    parser.add_argument("--picture", metavar="PNG", help="also draw what is in it")
    parser.add_argument(
        "--orientations",
        action="store_true",
        help="try the eight orientations of the positions on some frames, and show which one is right",
    )
    add_plan_arguments(parser)
    add_flags(parser, READING, *SOLVING)


def run(arguments: argparse.Namespace) -> int:
    """Print what is in a file."""
    require_plan(arguments)
    if arguments.plan:
        tell_plan(arguments)
        return 0
    path = Path(arguments.file)
    if _holds_result(path) or (path.suffix == ".npz" and _is_result(path)):
        from ptycho_core import Reconstruction

        result = Reconstruction.load(path)
        print_rows(result.scan_name, _rows_of_result(result))
        if arguments.picture:
            from ptycho_core.figures import write_overview

            say(f"picture: {write_overview(result, arguments.picture)}")
        return 0
    if arguments.file not in _data_sets() and _is_product(path, given_flags(arguments)):
        from ptycho_core.io.product import read_product

        if arguments.picture:
            raise ConfigError(f"`--picture` draws scans and results, not product files such as {path.name}.")
        product = read_product(path)
        print_rows(product.name or str(path), _rows_of_product(product))
        command = typed(["ptycho", "reconstruct", "DIFFRACTION", "--positions-file", str(path)])
        say(f"positions and probe for: {command}")
        return 0
    _inspect_scan(arguments)
    return 0


def _data_sets() -> tuple[str, ...]:
    from ptycho_core.datasets import dataset_names

    return dataset_names()


def _is_product(path: Path, flags: dict[str, str]) -> bool:
    """Whether a file holds object, probe and positions, but no diffraction to reconstruct."""
    from ptycho_core.io.formats.reading import is_hdf5

    if not path.is_file() or "frames_key" in flags or not is_hdf5(path):
        return False
    from ptycho_core.io.formats.ptychodus import RAW_DIFFRACTION, is_product
    from ptycho_core.io.hdf5 import opened

    with opened(path) as file:
        return is_product(file) and file.dataset(RAW_DIFFRACTION) is None


def _holds_result(directory: Path) -> bool:
    from ptycho_core.result.stored import holds_result

    return holds_result(directory)


def _is_result(path: Path) -> bool:
    import zipfile

    if not path.is_file():  # a device may never end
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"object.npy", "origin_px.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _inspect_scan(arguments: argparse.Namespace) -> None:
    from ptycho_core.io import read_scan

    (reading,) = load_parts((READING,), flags=given_flags(arguments), env=os.environ)
    with logging_to(None, "WARNING"):
        scan = read_scan(arguments.file, read_options(reading.config))
        counts_per_frame, highest, n_highest = survey(scan)
        rows = _rows_of_scan(scan, counts_per_frame, highest)
        rows += [("note", note) for note in scan.notes]
        rows += [("left out", note) for note in scan.notes if _LEFT_OUT.search(note)]
        rows += [("suspicious", text) for text in suspicious(scan, counts_per_frame, highest, n_highest)]
        print_rows(scan.name, rows)
        if arguments.orientations:
            _try_orientations(scan, arguments)
            return
        say(f"reconstruct it: {command_line(arguments.file, given_flags(arguments))}")
        if arguments.picture:
            from ptycho_core.figures import write_scan_picture

            picture = write_scan_picture(scan, arguments.picture, counts_per_frame=counts_per_frame)
            say(f"picture: {picture}")


def _try_orientations(scan: Scan, arguments: argparse.Namespace) -> None:
    from ptycho_core.orientations import explaining, neighbours, try_orientations, write_orientations

    say(f"trying eight orientations on {len(neighbours(scan))} frames in the middle of the scan")
    trials = try_orientations(scan)
    rows = [(trial.orientation, f"{trial.residual:.4f}") for trial in trials]
    print_table("", ("positions", "residual R"), rows)
    right = explaining(trials)
    if len(right) == 0:
        say(
            "None stands out: the frames may be wrong in another way (centre, unit of the positions, order), "
            "or the object shows too little."
        )
    else:
        _advise(right, arguments.file, given_flags(arguments))
    picture = arguments.picture or f"{scan.name}-orientations.png"
    say(f"picture: {write_orientations(trials, picture, name=scan.name)}")


def _advise(right: tuple[str, ...], source: str, flags: dict[str, str]) -> None:
    """Say which orientation it is, and the command that uses it."""
    best, *twins = right
    say(f"{best} explains the frames.")
    if twins:
        say(
            f"So does {twins[0]}, its twin: the same image, turned by 180 degrees and its phase reversed. "
            "Only a start probe that is known tells them apart."
        )
    before = flags.get("positions_orientation", "as-is")
    if best == "as-is":
        say("The orientation is right as it is" + ("." if before == "as-is" else f" ({before})."))
    elif before == "as-is":
        say(f"reconstruct it: {command_line(source, flags | {'positions_orientation': best})}")
    else:
        say(f"Leave out `--positions-orientation {before}` and try again: the trials build on it.")


def _rows_of_scan(scan: Scan, counts_per_frame: np.ndarray, highest: float) -> Rows:
    from ptycho_core.scan.overlap import overlap_fraction, probe_diameter_px, typical_step_px

    overlap = overlap_fraction(scan.positions_px, scan.probe)
    bad = "0" if scan.bad_pixels is None else str(int(scan.bad_pixels.sum()))
    if scan.bad_pixels is not None and scan.bad_pixels.ndim == 3:
        bad = f"{scan.bad_pixels.sum() / scan.n_frames:.4g} in each frame, on average"
    modes, width = len(scan.probe), probe_diameter_px(scan.probe)
    return [
        ("frames", f"{scan.n_frames} of {scan.frame_px} x {scan.frame_px} px, {scan.frames.dtype}"),
        ("measurement", f"{scan.measurement}, zero frequency in the {scan.dc}"),
        ("mean counts", f"{scan.mean_counts_per_frame():.4g} per frame"),
        ("counts", f"{counts_per_frame.min():.4g} to {counts_per_frame.max():.4g} per frame"),
        ("highest pixel", f"{highest:.4g} counts"),
        ("positions", _extent(scan.positions_px)),
        ("step", f"{typical_step_px(scan.positions_px):.1f} px"),
        ("probe", f"{modes} mode{'s' if modes > 1 else ''}, {scan.probe_source}, {width:.0f} px wide"),
        ("overlap", f"{overlap:.0%} of the probe's diameter"),
        ("bad pixels", bad),
        *_physical(scan),
        ("truth", "none" if scan.ground_truth is None else str(scan.ground_truth.shape)),
    ]


def _rows_of_result(result: Reconstruction) -> Rows:
    power = np.sum(np.abs(result.probe).astype(np.float64) ** 2, axis=(1, 2))
    seen = result.coverage > 0.1 * result.coverage.max()
    amplitude = np.abs(result.object[seen])
    low, high = np.percentile(amplitude, (1, 99)) if amplitude.size else (0.0, 0.0)
    residual = result.residual_per_frame
    known = residual[np.isfinite(residual)]
    rows = [
        ("kind", f"result of the {result.method}"),
        ("frames", f"{result.n_frames} of {result.frame_px} x {result.frame_px} px"),
        (
            "object",
            f"{result.object.shape[0]} x {result.object.shape[1]} px, {seen.mean():.0%} well illuminated",
        ),
        ("amplitude", f"{low:.3f} to {high:.3f} (98 % of the well-illuminated pixels)"),
        ("probe", f"{power.sum():.4g} counts; modes: {', '.join(f'{p:.1%}' for p in power / power.sum())}"),
        ("positions", _extent(result.positions_px[result.frames_used])),
        *_physical(result),
        ("residual R", f"{result.data_residual:.4f}"),
    ]
    if known.size:
        rows.append(("R per frame", f"{known.min():.4f} to {known.max():.4f}"))
        with np.errstate(invalid="ignore"):
            poor = residual > _BAD_RESIDUAL * np.median(known)
        if poor.any():
            rows.append(("suspicious", f"frames explained badly, over twice the usual R: {some_of(poor)}"))
    if known.size < len(residual):
        rows.append(
            ("suspicious", f"frames left out, or without any counts: {some_of(~np.isfinite(residual))}")
        )
    return rows


def _rows_of_product(product: Product) -> Rows:
    return [
        ("kind", "HDF5 product"),
        ("frames", f"{len(product.positions_px)} positions"),
        ("object", f"{product.obj.shape[0]} x {product.obj.shape[1]} px"),
        ("probe", f"{len(product.probe)} mode(s) of {product.probe.shape[1]} x {product.probe.shape[2]} px"),
        ("positions", _extent(product.positions_px)),
        *_physical(product),
        ("loss values", str(len(product.losses))),
        ("comments", product.comments),
    ]


def _extent(positions_px: np.ndarray) -> str:
    low, high = positions_px.min(axis=0), positions_px.max(axis=0)
    return f"y {low[0]:.1f} to {high[0]:.1f} px, x {low[1]:.1f} to {high[1]:.1f} px"


def _physical(source: Scan | Reconstruction | Product) -> Rows:
    values = (
        ("pixel size", source.pixel_size_m, "m"),
        ("energy", source.energy_ev, "eV"),
        ("distance", source.distance_m, "m"),
    )
    known = [(name, f"{value:.4g} {unit}") for name, value, unit in values if value is not None]
    if source.pixel_aspect != 1:
        known.insert(1, ("pixel shape", f"{source.pixel_aspect:.4g} times as high as wide"))
    return known or [("pixel size", "not known")]


_LITTLE_OVERLAP = 0.5
_FEW_COUNTS = 1e3
#: A frame with less or more than this share of the median counts stands out.
_DIM, _BRIGHT = 0.2, 5.0
#: So many pixels at the very highest value of the whole scan are no accident.
_SATURATED_PIXELS = 20
#: Pixels between the beam and index N/2 that are no accident, as a share of N.
_OFF_CENTRE = 1 / 16
_FRAMES_AT_ONCE = 256


def survey(scan: Scan) -> tuple[np.ndarray, float, int]:
    """Read all frames once, a few at a time: counts of each, the highest pixel, how many pixels have it."""
    sums = np.empty(scan.n_frames)
    highest, n_highest = 0.0, 0
    for first in range(0, scan.n_frames, _FRAMES_AT_ONCE):
        chosen = slice(first, min(first + _FRAMES_AT_ONCE, scan.n_frames))
        counts = scan.counts(chosen)
        sums[chosen] = counts.sum(axis=(1, 2), dtype=np.float64)
        top = float(counts.max())
        if top >= highest:
            n_highest = int(np.count_nonzero(counts == top)) + (n_highest if top == highest else 0)
            highest = top
    return sums, highest, n_highest


def suspicious(scan: Scan, counts_per_frame: np.ndarray, highest: float, n_highest: int) -> list[str]:
    """Say in words what is unusual about a scan, given what `survey` found."""
    from ptycho_core.scan.overlap import overlap_fraction

    found = []
    overlap = overlap_fraction(scan.positions_px, scan.probe)
    if scan.n_frames > 1 and overlap < _LITTLE_OVERLAP:
        found.append(f"neighbouring frames share little light ({overlap:.0%} overlap)")
    counts = scan.mean_counts_per_frame()
    if counts < _FEW_COUNTS:
        found.append(f"only {counts:.3g} counts per frame")
    empty = counts_per_frame == 0
    if empty.any():
        found.append(f"frames left out, or without any counts: {some_of(empty)}")
    median = float(np.median(counts_per_frame))
    dim = ~empty & (counts_per_frame < _DIM * median)
    if dim.any():
        found.append(f"frames with less than {_DIM:.0%} of the usual counts: {some_of(dim)}")
    bright = counts_per_frame > _BRIGHT * median
    if median > 0 and bright.any():
        found.append(f"frames with more than {_BRIGHT:g} times the usual counts: {some_of(bright)}")
    if highest > 255 and n_highest >= _SATURATED_PIXELS:
        found.append(f"{n_highest} pixels have the highest value {highest:g}: the detector may be saturated")
    found += _beam(scan)
    repeated = scan.n_frames - len(np.unique(scan.positions_px, axis=0))
    if repeated:
        found.append(f"{repeated} positions occur more than once")
    return found


def _beam(scan: Scan) -> list[str]:
    """Say where the beam is, if it is far from index N/2."""
    from ptycho_core.io.geometry import beam_center_px
    from ptycho_core.scan.dose import mean_and_good

    y, x = beam_center_px(*mean_and_good(scan))
    middle = scan.frame_px // 2
    off = max(abs(y - middle), abs(x - middle))
    if scan.dc == "corner" or off <= max(2, _OFF_CENTRE * scan.frame_px):
        return []
    return [f"the beam is at pixel ({y}, {x}), not at ({middle}, {middle}): crop with `--crop-px`"]


def some_of(chosen: np.ndarray) -> str:
    """Name the first of the frames that are chosen (bool)."""
    indices = np.flatnonzero(chosen)
    more = "" if len(indices) <= 5 else f" and {len(indices) - 5} more"
    return ", ".join(map(str, indices[:5])) + more
