"""What a report shows, put together from the files of a run: rows of text, and pictures as PNG."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho_config.errors import DataError
from ptycho_config.regular import open_regular
from ptycho_dispatch.audit.run_record import read_record
from ptycho_dispatch.report.frames import MOST_FRAMES, Frames, frames_of
from ptycho_dispatch.report.repeat import as_typed, repeating_words

if TYPE_CHECKING:
    from ptycho_core import Reconstruction
    from ptycho_core.figures import ObjectPicture

__all__ = ["Configured", "Contents", "Picture", "Said", "read_contents"]

_METRICS_FILE = "metrics.csv"
Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Picture:
    """A picture with what stands above it, if its section has not said it, and below it."""

    title: str
    note: str
    png: bytes
    titled: bool = True


@dataclass(frozen=True)
class Said:
    """Something the run said: the finding that spoke, if one did, and the sentence."""

    finding: str
    message: str


@dataclass(frozen=True)
class Configured:
    """A setting: its section and field, its value as text, and where that came from."""

    field: str
    value: str
    source: str
    origin: str


@dataclass(frozen=True)
class Contents:
    """Everything on the page, in its order.

    Attributes:
        headline: what anyone asks first: method, R, frames, time.
        images: amplitude and phase of the object; empty where the data carry no image.
        pixel_size_m: of the object; None where it is not known, and lengths are in pixels.
        policies, said: events of the rules of the house, and what else the run decided.
        papers: that the result stands on, each as a line and its DOI; empty where the record tells none.
        provenance: titled tables.
        chosen, defaults: settings that were chosen, and all others.
        command: the line that repeats the run; empty where the record does not tell.
        continued: whether the run went on from an earlier result.
        frames: some of the scan, measured and predicted.
    """

    scan: str
    headline: Rows
    interrupted: bool
    images: list[ObjectPicture]
    pixel_size_m: float | None
    probe: Picture
    probe_modes: int
    residuals: Picture
    corrections: Picture | None
    curves: list[Picture]
    policies: list[Said]
    said: list[Said]
    papers: Rows
    provenance: list[tuple[str, Rows]]
    chosen: list[Configured]
    defaults: list[Configured]
    command: str
    continued: bool
    frames: Frames = field(default_factory=Frames)


def read_contents(directory: Path, *, scan: str | None = None, frames: int = MOST_FRAMES) -> Contents:
    """Read a run's files and draw its pictures.

    Args:
        scan: its file or name, for the frames; see `frames_of`.
        frames: how many to show.
    Raises:
        DataError: there is no such run, or one of its files is absent or damaged; names it. Or `scan` cannot
            be read, or is another one.
    """
    from ptycho_core import Reconstruction
    from ptycho_core.figures import corrections_png, object_pictures, probe_png, residual_map_png

    if not directory.is_dir():
        raise DataError(
            f"{directory}: there is no such run. Expected the output directory of `ptycho reconstruct`, "
            "`train` or `infer`; `ptycho reconstruct SCAN --output-dir RUN` makes one."
        )
    result = Reconstruction.load(directory)
    _, record = read_record(directory)
    moved = corrections_png(result)
    configured = _configured(record)
    words = repeating_words(record)
    return Contents(
        scan=result.scan_name,
        headline=_headline(result, record),
        interrupted=result.interrupted,
        images=object_pictures(result),
        pixel_size_m=result.pixel_size_m,
        probe=Picture("probe modes", _probe_note(result), probe_png(result), titled=False),
        probe_modes=len(result.probe),
        residuals=Picture(
            "residual of each frame", _residual_note(result), residual_map_png(result), titled=False
        ),
        corrections=None if moved is None else Picture("Corrected positions", "", moved),
        curves=[*_curves(result, directory / _METRICS_FILE), *_halves(record), *_uncertainty(result, record)],
        policies=_policies(record),
        said=_said(record),
        papers=_papers(record),
        provenance=_provenance(record),
        chosen=[one for one in configured if one.source != "default"],
        defaults=[one for one in configured if one.source == "default"],
        command="" if words is None else as_typed(words),
        continued=words is not None and ("--resume" in words or "--start" in words),
        frames=frames_of(result, record, scan, frames),
    )


def _headline(result: Reconstruction, record: Mapping[str, Any]) -> Rows:
    rows = [
        ("method", result.method),
        ("residual R", _figure(result.data_residual)),
        *_verdict(record),
        ("frames", f"{result.n_frames} of {result.frame_px} × {result.frame_px} px"),
        ("object", f"{result.object.shape[0]} × {result.object.shape[1]} px"),
        ("probe modes", str(len(result.probe))),
    ]
    if result.pixel_size_m:
        wide_nm, aspect = result.pixel_size_m * 1e9, result.pixel_aspect
        high = "" if aspect == 1 else f" wide, {wide_nm * aspect:.4g} nm high"
        rows.append(("pixel size", f"{wide_nm:.4g} nm{high}"))
    total = _mapping(record.get("timings_s")).get("total")
    if isinstance(total, int | float):
        rows.append(("time", f"{total:.2f} s"))
    if isinstance(finished := record.get("finished"), str):
        rows.append(("finished", finished))
    return rows


def _probe_note(result: Reconstruction) -> str:
    from ptycho_core.figures.display import mode_shares

    shares = ", ".join(f"{share:.1%}" for share in mode_shares(result.probe))
    return f"Amplitude, and the complex field with hue as phase. Power of the modes: {shares}."


def _residual_note(result: Reconstruction) -> str:
    import numpy as np

    known = result.residual_per_frame[np.isfinite(result.residual_per_frame)]
    if not known.size:
        return "No frame has any counts."
    empty = len(result.residual_per_frame) - known.size
    note = f"From {known.min():.4f} to {known.max():.4f}, median {np.median(known):.4f}."
    return f"{note} Hollow: {empty} left out or without counts." if empty else note


def _curves(result: Reconstruction, metrics: Path) -> list[Picture]:
    from ptycho_core.figures import residual_curve_png, training_curves_png

    try:
        with io.TextIOWrapper(open_regular(metrics), encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        rows = []
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{metrics}: cannot be read as CSV ({error}). Remove it to leave its curves out, or run again."
        ) from error
    pictures = [Picture("R per epoch", _course(result), residual_curve_png(result))]
    for quantity, png in training_curves_png(rows).items():
        pictures.append(Picture(f"{quantity} per epoch", "", png))
    return pictures


def _verdict(record: Mapping[str, Any]) -> Rows:
    """Say the grade, and its reasons; nothing for a run of an earlier version."""
    verdict = _mapping(record.get("verdict"))
    if "grade" not in verdict:
        return []
    reasons = " ".join(str(reason) for reason in _list(verdict.get("reasons")))
    return [("verdict", f"{verdict['grade']}: {reasons}" if reasons else str(verdict["grade"]))]


def _halves(record: Mapping[str, Any]) -> list[Picture]:
    """Draw how far two halves of the frames agree, where they were made."""
    from ptycho_core.figures import correlation_png

    verdict = _mapping(record.get("verdict"))
    given = _mapping(verdict.get("curves"))
    curves = {
        name: [value for value in _list(given.get(name)) if isinstance(value, int | float)]
        for name in ("correlation", "half_bit", "one_bit")
    }
    measures = _mapping(verdict.get("measures"))
    side, period = measures.get("curve_side_px"), measures.get("resolution_px")
    lengths = {len(curve) for curve in curves.values()}
    if not isinstance(side, int | float) or not isinstance(period, int | float) or not side > 0 < period:
        return []
    if len(lengths) != 1 or lengths == {0}:
        return []
    note = f"Down to a period of {period:.3g} px the correlation exceeds that of half a bit."
    png = correlation_png(curves, side_px=float(side), resolution_px=float(period))
    return [Picture("Two halves of the frames", note, png)]


def _uncertainty(result: Reconstruction, record: Mapping[str, Any]) -> list[Picture]:
    """Draw the standard deviation of each pixel, where it was found."""
    from ptycho_core.figures import uncertainty_png

    if result.amplitude_std is None or result.phase_std_rad is None:
        return []
    halves = _mapping(record.get("uncertainty")).get("halves_of", "data")
    note = (
        f"Standard deviation of amplitude and phase, from halves of the {halves}. What all halves get wrong "
        "alike is not in it."
    )
    return [Picture("Uncertainty", note, uncertainty_png(result))]


def _course(result: Reconstruction) -> str:
    if not result.history:
        return ""
    first, last = (_figure(result.history[place]["residual"]) for place in (0, -1))
    return f"{len(result.history)} epochs, from {first} to {last}." if len(result.history) > 1 else last


def _policies(record: Mapping[str, Any]) -> list[Said]:
    """List the events of the run, and of the network that a reconstruction trained on the way."""
    listed = [
        event
        for part in (record, _mapping(record.get("network")))
        for event in _list(part.get("policy_events"))
    ]
    events = [_mapping(event) for event in listed]
    return [Said(str(event.get("finding", "")), str(event.get("message", ""))) for event in events]


def _said(record: Mapping[str, Any]) -> list[Said]:
    notes = [Said("", str(note)) for note in _list(_mapping(record.get("input")).get("notes"))]
    events = [_mapping(event) for event in _list(record.get("events"))]
    return notes + [Said("", str(event.get("message", ""))) for event in events]


def _papers(record: Mapping[str, Any]) -> Rows:
    papers = [_mapping(paper) for paper in _list(record.get("papers"))]
    return [(str(paper.get("text", "")), str(paper.get("doi", ""))) for paper in papers]


def _provenance(record: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    known = {key: value for key, value in _mapping(record.get("input")).items() if key != "notes"}
    execution = record.get("execution") or _mapping(record.get("network")).get("execution")
    bundle = {key: record[key] for key in ("bundle", "bundle_sha256") if key in record}
    tables = [
        ("Versions", _rows(_mapping(record.get("versions")))),
        ("Host", _rows(_mapping(record.get("hardware")))),
        ("Where it ran", _rows(_mapping(execution))),
        ("Input", _rows({**known, **bundle})),
        ("Time in s", _rows(_mapping(record.get("timings_s")))),
    ]
    return [(title, rows) for title, rows in tables if rows]


def _configured(record: Mapping[str, Any]) -> list[Configured]:
    return [
        Configured(
            f"{section}.{field}",
            _text(_mapping(setting).get("value")),
            str(_mapping(setting).get("source", "")),
            str(_mapping(setting).get("origin", "")).strip("`"),
        )
        for section, fields in _mapping(record.get("settings")).items()
        for field, setting in _mapping(fields).items()
    ]


def _rows(values: Mapping[str, Any]) -> Rows:
    """Lay out a record; one inside another becomes rows of its own, `requested.device`."""
    rows: Rows = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += [(f"{key}.{inner}", text) for inner, text in _rows(value)]
        else:
            rows.append((str(key), _text(value)))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _figure(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "not known"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
