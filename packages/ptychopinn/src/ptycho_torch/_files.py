"""The scans of a directory: what the client trains on, and what it watches the loss on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io import open_scan
from ptycho_core.scan import Scan

__all__ = ["inside_bounds", "scans_in"]

_TRAIN, _TEST = "train_data.npz", "test_data.npz"
#: Fewer frames than this are too few to leave any out.
_FEWEST = 32


def scans_in(directory: Path, log: logging.Logger) -> tuple[Scan, Scan | None]:
    """Open the scan to train on and the one to test on.

    The files `*.npz` of the directory itself; each frame is used once. `test_data.npz` is for the test where
    there is something else to train on. Several files to train on are one scan whose parts do not touch.

    Raises:
        DataError: there is no file, one is no scan, or their frames have different sizes.
    """
    files = sorted(path for path in Path(directory).glob("*.npz") if path.is_file())
    test = next((path for path in files if path.name == _TEST), None)
    train = [path for path in files if path != test] or ([] if test is None else [test])
    if not train:
        raise DataError(
            f"{directory}: holds no `*.npz` to train on. Export the training data there as `{_TRAIN}` first."
        )
    log.info("Training on %s.", ", ".join(path.name for path in train))
    scan = _joined([open_scan(path) for path in train], log)
    return scan, None if test is None or test in train else open_scan(test)


def inside_bounds(
    scan: Scan, x_bounds: tuple[float, float], y_bounds: tuple[float, float], log: logging.Logger
) -> Scan:
    """Return the frames whose positions lie between these parts of the scan's width and height.

    Raises:
        DataError: no frame does.
    """
    low = scan.positions_px.min(axis=0)
    span = np.maximum(np.ptp(scan.positions_px, axis=0), 1e-9)
    part = (scan.positions_px - low) / span
    least, most = np.array([y_bounds[0], x_bounds[0]]), np.array([y_bounds[1], x_bounds[1]])
    inside = np.flatnonzero(((part >= least) & (part <= most)).all(axis=1))
    if len(inside) == scan.n_frames:
        return scan
    if len(inside) < min(_FEWEST, scan.n_frames):
        log.warning(
            "`x_bounds` and `y_bounds` would leave %d of %d frames; all are used.", len(inside), scan.n_frames
        )
        return scan
    log.info("`x_bounds` and `y_bounds` leave %d of %d frames to train on.", len(inside), scan.n_frames)
    return scan.select(inside)


def _joined(scans: list[Scan], log: logging.Logger) -> Scan:
    """Lay several scans side by side, further apart than any window reaches."""
    first, *others = scans
    if not others:
        return first
    sizes = {scan.frame_px for scan in scans}
    if len(sizes) > 1:
        raise DataError(
            f"the files have frames of {', '.join(f'{size} px' for size in sorted(sizes))}; train on one "
            "size at a time."
        )
    log.warning("%d files are trained on together, with the probe of %s.", len(scans), first.name)
    frames, positions, masks, left = [], [], [], 0.0
    for scan in scans:
        here = scan.positions_px - scan.positions_px.min(axis=0) + (0.0, left)
        left = float(here[:, 1].max()) + 2.0 * scan.frame_px
        frames.append(scan.amplitude())
        positions.append(here)
        masks.append(np.broadcast_to(~scan.good_pixels(), (scan.n_frames, *frames[0].shape[1:])))
    bad = np.concatenate(masks)
    return replace(
        first,
        frames=np.concatenate(frames),
        positions_px=np.concatenate(positions),
        measurement="amplitude",
        dc="center",
        bad_pixels=bad if bad.any() else None,
        ground_truth=None,
        patch_truth=None,
    )
