"""The training history as a table of comma-separated values: one row per epoch, one column per quantity."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ptycho_core.bundle.members import HISTORY
from ptycho_core.bundle.refusal import refused

__all__ = ["decode_history", "encode_history"]

_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_TRUTH = {"true": True, "false": False}


def encode_history(source: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Write rows as CSV in UTF-8, columns in the order in which they first appear.

    Numbers keep every digit. None is an empty cell, as is a column that the row lacks. Text that spells a
    number or a truth value is read back as one.

    Raises:
        BundleError: a value is neither number, truth value, text nor None.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO()
    try:
        writer = csv.writer(table)  # lines end as RFC 4180 says: so the writer quotes both parts of an ending
        for cells in (columns, *([_cell(row.get(name)) for name in columns] for row in rows)):
            writer.writerow(cells)
        return table.getvalue().encode("utf-8")
    except (TypeError, ValueError, csv.Error) as error:
        then = "Convert what is stored per epoch: `float(value)`."
        raise refused(source, f"the history cannot be written ({error})", "numbers and text", then) from error


def decode_history(source: str, content: bytes) -> tuple[dict[str, Any], ...]:
    """Read the rows; an empty cell is left out.

    Raises:
        BundleError: it is no UTF-8 table with one name per column and as many cells in each row.
    """
    try:
        columns, *rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
    except (ValueError, csv.Error) as error:
        raise refused(source, f"`{HISTORY}` cannot be read ({error})", "a table in UTF-8") from error
    if len(set(columns)) != len(columns):
        raise refused(source, f"`{HISTORY}` has a column twice", "one name per column")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            found = f"`{HISTORY}` has {len(row)} cells in row {number}"
            raise refused(source, found, f"{len(columns)}, one per column")
    return tuple(
        {name: _value(cell) for name, cell in zip(columns, row, strict=True) if cell} for row in rows
    )


def _cell(value: Any) -> str:  # Any: it is checked here
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return repr(float(value))
    if isinstance(value, str):
        return value
    raise TypeError(f"a value is of type {type(value).__name__}")


def _value(cell: str) -> bool | int | float | str:
    if cell in _TRUTH:
        return _TRUTH[cell]
    if _WHOLE.fullmatch(cell):
        return int(cell)
    try:
        return float(cell)
    except ValueError:
        return cell
