"""`ptycho inspect`: what is in a scan or a result, and what looks suspicious."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptycho_dispatch.log import logging_to
from ptycho_dispatch.table import print_rows

if TYPE_CHECKING:
    from ptycho_core import Reconstruction, Scan

__all__ = ["add_arguments", "run"]

_LITTLE_OVERLAP = 0.5
_FEW_COUNTS = 1e3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file and the options of the door."""
    parser.add_argument("file", metavar="FILE", help="a scan, a data set's name, or a result")
    parser.add_argument(
        "--measurement", choices=("auto", "amplitude", "counts"), default="auto", help="what the frames hold"
    )
    parser.add_argument(
        "--dc",
        choices=("auto", "center", "corner"),
        default="auto",
        help="where the zero frequency lies in a frame",
    )
    parser.add_argument("--picture", metavar="FILE", help="also draw positions, mean pattern and probe")


def run(arguments: argparse.Namespace) -> int:
    """Print what is in a file."""
    path = Path(arguments.file)
    if path.is_dir() or (path.suffix == ".npz" and _is_result(path)):
        from ptycho_core import Reconstruction

        _print_result(Reconstruction.load(path))
        return 0
    if path.suffix in (".h5", ".hdf5"):
        from ptycho_core.io.product import read_product

        product = read_product(path)
        print_rows(
            str(path),
            [
                ("kind", "HDF5 product"),
                ("object", str(product.obj.shape)),
                ("probe", str(product.probe.shape)),
                ("comments", product.comments),
            ],
        )
        return 0
    from ptycho_core import open_scan

    with logging_to(None, "WARNING"):
        scan = open_scan(arguments.file, measurement=arguments.measurement, dc=arguments.dc)
        _print_scan(scan)
        if arguments.picture:
            from ptycho_core.figures import write_scan_picture

            sums = np.concatenate([scan.counts([i]).sum(axis=(1, 2)) for i in range(scan.n_frames)])
            print(f"picture: {write_scan_picture(scan, arguments.picture, counts_per_frame=sums)}")
    return 0


def _is_result(path: Path) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return {"object.npy", "origin_px.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _print_result(result: Reconstruction) -> None:
    print_rows(
        result.scan_name,
        [
            ("kind", f"result of the {result.method}"),
            ("frames", f"{result.n_frames} of {result.frame_px} x {result.frame_px} px"),
            ("object", f"{result.object.shape[0]} x {result.object.shape[1]} px"),
            ("probe", f"{result.probe.shape[0]} mode(s)"),
            ("residual R", f"{result.data_residual:.4f}"),
        ],
    )


def _print_scan(scan: Scan) -> None:
    from ptycho_core.io.overlap import overlap_fraction, probe_diameter_px, typical_step_px

    low, high = scan.positions_px.min(axis=0), scan.positions_px.max(axis=0)
    counts = scan.mean_counts_per_frame()
    overlap = overlap_fraction(scan.positions_px, scan.probe)
    bad = 0 if scan.bad_pixels is None else int(scan.bad_pixels.sum())
    pixel = "not known" if scan.pixel_size_m is None else f"{scan.pixel_size_m:.4g} m"
    rows = [
        ("frames", f"{scan.n_frames} of {scan.frame_px} x {scan.frame_px} px, {scan.frames.dtype}"),
        ("measurement", f"{scan.measurement}, zero frequency in the {scan.dc}"),
        ("mean counts", f"{counts:.4g} per frame"),
        ("positions", f"y {low[0]:.1f} to {high[0]:.1f} px, x {low[1]:.1f} to {high[1]:.1f} px"),
        ("step", f"{typical_step_px(scan.positions_px):.1f} px"),
        (
            "probe",
            f"{len(scan.probe)} mode(s), {scan.probe_source}, {probe_diameter_px(scan.probe):.0f} px wide",
        ),
        ("overlap", f"{overlap:.0%} of the probe's diameter"),
        ("bad pixels", str(bad)),
        ("pixel size", pixel),
        ("truth", "none" if scan.ground_truth is None else str(scan.ground_truth.shape)),
    ]
    rows += [("note", note) for note in scan.notes]
    if overlap < _LITTLE_OVERLAP:
        rows.append(("suspicious", f"neighbouring frames share little light ({overlap:.0%})"))
    if counts < _FEW_COUNTS:
        rows.append(("suspicious", f"only {counts:.3g} counts per frame"))
    print_rows(scan.name, rows)
