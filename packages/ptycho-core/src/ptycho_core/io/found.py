"""Names in a file that somebody gave, and positions as they were found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Found", "Keys"]


@dataclass(frozen=True)
class Keys:
    """Names that somebody gave; they go before those that a format knows.

    Attributes:
        positions: one array of (y, x) pairs, or two arrays, the one with y first, joined by a comma.
        positions_elsewhere: they come from another file, and none are needed here.
    """

    frames: str | None = None
    positions: str | None = None
    probe: str | None = None
    positions_elsewhere: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """Positions as they were found.

    Attributes:
        values: (M, 2), (y, x).
        unit_m: metres in their unit, None for pixels or where nobody says.
        open: whether small numbers may be metres.
        note: what was assumed.
    """

    values: np.ndarray
    unit_m: float | None
    open: bool
    note: str
