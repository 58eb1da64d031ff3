"""Positions in a file of their own: a table, NPY, NPZ, HDF5, or a product, which brings its probe too."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.formats.named import find_positions
from ptycho_core.io.formats.npy import read_array
from ptycho_core.io.formats.reading import is_hdf5
from ptycho_core.io.hdf5 import opened, translated
from ptycho_core.io.npz import Archive
from ptycho_core.io.raw_scan import FoundPositions, RawScan, RequestedKeys
from ptycho_core.io.recognise import first_bytes
from ptycho_core.io.units import length_factor

__all__ = ["with_positions"]

LARGEST_TABLE_BYTES = 1 << 28


def with_positions(raw: RawScan, path: Path, key: str | None, *, growing: bool = False) -> RawScan:
    """Return a raw scan with the positions of another file.

    Args:
        growing: it may still be written, so a last line without an end may be half a line.

    Raises:
        DataError: it is missing, damaged, or holds no positions.
    """
    start = first_bytes(path)
    if is_hdf5(path):
        from ptycho_core.io.formats import cxi, nexus, ptychodus, ptyd

        with opened(path) as file, translated(path.name):
            if ptychodus.is_product(file) and key is None:
                return _with_product(raw, path)
            for module in (cxi, ptyd, nexus):
                if key is None and module.matches(file):
                    try:
                        other = module.read(file, raw.name, RequestedKeys())
                    except DataError:
                        break
                    return replace(
                        raw,
                        positions_px=other.positions_px,
                        position_unit_m=other.position_unit_m,
                        position_unit_open=other.position_unit_open,
                        notes=(*raw.notes, *other.notes[-1:]),
                    )
            found = find_positions(file, RequestedKeys(positions=key), "")
            if found is None:
                raise DataError(f"{path.name}: no positions of a known name. {file.listing()}")
    elif start.startswith((b"PK", b"BZh")):
        from ptycho_core.io.formats.npz import find_positions as find_in_archive

        found = FoundPositions(find_in_archive(Archive(path), key), None, True, "")
    elif start.startswith(b"\x93NUMPY"):
        found = FoundPositions(read_array(path), None, True, "")
    else:
        found = _table(path, growing=growing)
    return raw.at(
        found, f"The positions were read from {path.name}: {found.note or '(y, x), without a unit.'}"
    )


def _with_product(raw: RawScan, path: Path) -> RawScan:
    from ptycho_core.io.product import read_product

    product = read_product(path)
    fits = raw.probe is None
    note = f"Positions{', probe' if fits else ''} and lengths were read from the product {path.name}."
    return replace(
        raw,
        positions_px=product.positions_px,
        position_unit_m=None,
        position_unit_open=False,
        position_convention="index",
        probe=product.probe if fits else raw.probe,
        pixel_size_m=product.pixel_size_m or raw.pixel_size_m,
        detector_aspect=1 / product.pixel_aspect,
        energy_ev=product.energy_ev or raw.energy_ev,
        distance_m=product.distance_m or raw.distance_m,
        notes=(*raw.notes, note),
    )


def _table(path: Path, *, growing: bool = False) -> FoundPositions:
    """Read columns of text; a header with x and y in its names decides, without one the order is (y, x)."""
    try:
        if path.stat().st_size > LARGEST_TABLE_BYTES:
            raise ValueError("it is larger than any table of positions")
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
        if growing and not text.endswith(("\n", "\r")):
            text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1]
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("%")]
        header = [cell.strip() for cell in _cells(lines[0].lstrip("#"))] if lines else []
        titled = bool(header) and not all(_is_number(cell) for cell in header)
        rows = [_cells(line) for line in lines[1 if titled else 0 :] if not line.startswith("#")]
        values = np.array([[float(cell) for cell in row if cell.strip()] for row in rows], dtype=np.float64)
        if values.ndim != 2 or values.shape[1] < 2:
            raise ValueError(f"its table has the shape {values.shape}")
    except (OSError, ValueError, UnicodeError, csv.Error) as error:
        raise DataError(
            f"{path.name}: cannot be read as a table of positions ({excerpt(str(error), 120)}). Expected "
            "two columns of numbers, y and x, or a header that says which is which."
        ) from error
    y, x, unit = _columns(header) if titled else (0, 1, None)
    if max(y, x) >= values.shape[1]:
        raise DataError(f"{path.name}: the header names more columns than there are. Expected y and x.")
    unit_m = length_factor(unit)
    said = f"columns {y + 1} (y) and {x + 1} (x), " + (f"in {unit}." if unit_m else "without a unit.")
    return FoundPositions(values[:, [y, x]], unit_m, unit_m is None, said)


def _cells(line: str) -> list[str]:
    for delimiter in (",", ";", "\t"):
        if delimiter in line:
            return next(csv.reader([line], delimiter=delimiter))
    return line.split()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(header: list[str]) -> tuple[int, int, str | None]:
    """Find the columns of y and x and their unit by names such as `y`, `pos_x`, `x_um`, `y [nm]`."""
    parts = [[part for part in re.split(r"[^a-zµμ]+", cell.lower()) if part] for cell in header]
    y = next((i for i, names in enumerate(parts) if "y" in names or "ycoords" in names or "samy" in names), 0)
    x = next((i for i, names in enumerate(parts) if "x" in names or "xcoords" in names or "samx" in names), 1)
    unit = parts[y][-1] if len(parts[y]) > 1 and length_factor(parts[y][-1]) else None
    return (y, x, unit) if x != y else (0, 1, None)
