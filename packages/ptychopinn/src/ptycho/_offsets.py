"""Where grouped arrays come from: offsets that know their scan, so that later calls can find the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ptycho_core.scan import Scan
from ptycho_core.scan.grouping import Groups

__all__ = ["Offsets", "Origin"]


class Offsets(np.ndarray):
    """Offsets (x, y) that know where they come from.

    A prediction and a stitched object need the scan and the canvas, and the client hands on nothing but
    these.
    """

    origin: Origin | None

    @classmethod
    def of(cls, values: np.ndarray, origin: Origin | None) -> Self:
        """Make offsets out of values, float64."""
        offsets = np.ascontiguousarray(values, np.float64).view(cls)
        offsets.origin = origin
        return offsets

    @property
    def canvas_shape(self) -> tuple[int, int] | None:
        """Rows and columns of the object that they lie on; None where there is none."""
        return None if self.origin is None else self.origin.canvas

    def __array_finalize__(self, obj: np.ndarray | None) -> None:
        # A part of the groups, or a changed copy, is not what the origin describes.
        same = isinstance(obj, Offsets) and obj.shape[:1] == self.shape[:1]
        self.origin = getattr(obj, "origin", None) if same else None


@dataclass(frozen=True, eq=False)
class Origin:
    """Where grouped arrays come from, so that later calls can find the way back.

    Attributes:
        scan: the frames that were grouped.
        groups: who is with whom.
        alpha: factor from stored amplitude to `X_full`.
        canvas: rows and columns of the client's object, whose pixel (0, 0) is scan coordinate (0, 0).
    """

    scan: Scan
    groups: Groups
    alpha: float
    canvas: tuple[int, int] | None
