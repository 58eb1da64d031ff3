"""The history of a run, a row an epoch: as it is stored with a result, and as `metrics.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

if TYPE_CHECKING:
    pass

__all__ = ["HISTORY_COLUMNS", "RunEvent", "csv_text", "history_row", "history_table"]

#: Columns of the key `history`, one row an epoch; `metrics.csv` has the same.
HISTORY_COLUMNS = ("level", "size_px", "epoch", "residual", "seconds", "stepped_back")
_HISTORY_TYPES = (int, int, int, float, float, bool)


def history_table(rows: tuple[Mapping[str, Any], ...]) -> Float64[np.ndarray, "epoch column"]:
    """Return the columns that are stored with a result; NaN where a row lacks one."""
    table = [[float(row.get(key, np.nan)) for key in HISTORY_COLUMNS] for row in rows]
    return np.array(table, np.float64).reshape(-1, len(HISTORY_COLUMNS))


def history_row(row: np.ndarray) -> dict[str, Any]:
    """Return a stored row with its names and types."""
    return {key: kind(value) for key, kind, value in zip(HISTORY_COLUMNS, _HISTORY_TYPES, row, strict=True)}


def csv_text(rows: tuple[Mapping[str, Any], ...]) -> str:
    """Return all that the rows hold as CSV, in the order in which it first occurs."""
    columns = list(dict.fromkeys(key for row in rows for key in row)) or list(HISTORY_COLUMNS)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


@dataclass(frozen=True)
class RunEvent:
    """Something a reader of the log wants to know, as a sentence and as data."""

    kind: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)
