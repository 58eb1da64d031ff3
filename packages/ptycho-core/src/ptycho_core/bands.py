"""Bands of rows: how what is worked out of a large canvas does without copies of it."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["row_bands"]

#: Pixels of a band. Most canvases are a single one; a complex128 temporary of it takes 32 MiB.
_BAND_PIXELS = 1 << 21


def row_bands(shape: tuple[int, ...], *, multiple: int = 1, pixels: int = _BAND_PIXELS) -> Iterator[slice]:
    """Cut the rows of an image (H, W) into bands of about so many pixels.

    Args:
        multiple: every band but the last has a multiple of so many rows.
    """
    rows = max(1, pixels // max(1, shape[1] * multiple)) * multiple
    for first in range(0, shape[0], rows):
        yield slice(first, min(first + rows, shape[0]))
