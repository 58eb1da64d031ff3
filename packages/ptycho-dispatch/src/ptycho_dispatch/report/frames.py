"""The frames on a page: the scan of a run found again, and a map of its positions to choose from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_config.errors import ConfigError, DataError, PolicyError

if TYPE_CHECKING:
    from ptycho_core import Reconstruction, Scan
    from ptycho_core.figures import FrameComparison, FramePair

__all__ = ["MOST_FRAMES", "Frames", "Spot", "compared_frames", "frames_of"]

#: Their pictures are a megabyte at most.
MOST_FRAMES = 24
_MOST_SPOTS = 2000
_SEARCH_BYTES = 4 << 30


@dataclass(frozen=True)
class Spot:
    """A place on the map, as parts of its sides, in the colour of its residual."""

    left: float
    top: float
    colour: str


@dataclass(frozen=True)
class Frames:
    """What a page shows of single frames.

    Attributes:
        pairs: sampled frames, and where each stands. spots: where all frames stand, or a part of very many.
        width, height: of the map in pixels of the scan.
        absent: why no frames are shown; empty where they are.
    """

    pairs: tuple[tuple[FramePair, Spot], ...] = ()
    spots: tuple[Spot, ...] = ()
    width: float = 1.0
    height: float = 1.0
    absent: str = ""


def frames_of(
    result: Reconstruction, record: Mapping[str, Any], scan: str | None = None, count: int = MOST_FRAMES
) -> Frames:
    """Draw frames of the scan that a run was made of.

    Args:
        scan: its file or name, as for `compared_frames`.
        count: how many frames; 0 shows none.
    Raises:
        DataError: `scan` was given and cannot be read, or is another one.
    """
    from ptycho_core.figures import frame_pairs

    if not count:
        return Frames(absent="They were not wanted.")
    compared, absent = compared_frames(result, record, scan, count)
    if compared is None:
        return Frames(absent=absent)
    pairs = frame_pairs(result, compared)
    if not pairs:
        return Frames(absent="No frame has any counts.")
    return _mapped(result, pairs)


def compared_frames(
    result: Reconstruction, record: Mapping[str, Any], scan: str | None = None, count: int = MOST_FRAMES
) -> tuple[FrameComparison | None, str]:
    """Put a result beside the scan that it was made of, read as the run has read it.

    Args:
        scan: its file or name. Where None the file that the run names is taken, if it lies there and is the
            same.
        count: frames in the sample.
    Returns:
        None where the scan is not at hand, and in words why.
    Raises:
        DataError: `scan` was given and cannot be read, or is another one.
    """
    from ptycho_core.figures import FrameComparison

    found = scan or _recorded_file(record)
    if found is None:
        return None, "The scan of this run is not at hand; `--scan SCAN` names it."
    try:
        return FrameComparison(result, _read(found, record), count), ""
    except (DataError, ConfigError, PolicyError) as error:
        if scan is not None:
            raise
        return None, str(error)


def _read(source: str, record: Mapping[str, Any]) -> Scan:
    """Read a scan as the run has read it."""
    from ptycho_config.sources import load_parts
    from ptycho_core.io import read_scan
    from ptycho_dispatch.log import logging_to
    from ptycho_dispatch.report.repeat import reading_flags
    from ptycho_dispatch.settings import READING, read_options

    (reading,) = load_parts((READING,), flags=reading_flags(record), env={})
    with logging_to(None, "ERROR"):
        return read_scan(source, read_options(reading.config))


def _recorded_file(record: Mapping[str, Any]) -> str | None:
    """Find the scan of a run where its command says, and only if it is the same to the byte."""
    from ptycho_core.datasets import dataset_names, locate
    from ptycho_core.scan.source_file import SourceFile

    known, words = record.get("input"), record.get("command")
    if not isinstance(known, dict) or not isinstance(words, list) or not isinstance(known.get("sha256"), str):
        return None
    for word in words[1:]:
        if not isinstance(word, str):
            continue
        try:
            if word in dataset_names():  # its content is checked whenever it is read
                if word == known.get("scan") and locate(word) is not None:
                    return word
                continue
            path = Path(word).expanduser()
            if path.name != known.get("file") or path.stat().st_size > _SEARCH_BYTES:
                continue
        except (OSError, ValueError, RuntimeError, DataError):
            continue
        file = SourceFile.of(path)
        if file is not None and file.sha256() == known["sha256"]:
            return word
    return None


def _mapped(result: Reconstruction, pairs: Sequence[FramePair]) -> Frames:
    """Lay the positions on a map with a margin, coloured by their residuals."""
    import numpy as np

    from ptycho_core.figures import residual_colours

    known = np.isfinite(result.positions_px).all(axis=1) & np.isfinite(result.residual_per_frame)
    numbers = np.flatnonzero(known)
    chosen = np.isin(numbers, [pair.number for pair in pairs])
    # Of very many a part, with the chosen ones.
    chosen[:: math.ceil(len(numbers) / _MOST_SPOTS)] = True
    low, high = result.positions_px[numbers].min(axis=0), result.positions_px[numbers].max(axis=0)
    margin = max(float((high - low).max()), 1.0) * 0.05
    low, span = low - margin, high - low + 2 * margin
    places = (result.positions_px[numbers[chosen]] - low) / span
    colours = residual_colours(result.residual_per_frame[numbers], chosen)
    spots = [Spot(float(x), float(y), colour) for (y, x), colour in zip(places, colours, strict=True)]
    of_frame = dict(zip(numbers[chosen].tolist(), spots, strict=True))
    return Frames(
        tuple((pair, of_frame[pair.number]) for pair in pairs),
        tuple(spots),
        width=float(span[1]),
        height=float(span[0]),
    )
