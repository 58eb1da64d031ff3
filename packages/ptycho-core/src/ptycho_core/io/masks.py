"""A mask of bad pixels in a file of its own.

Any value but 0 marks a bad pixel, as CXI and NeXus have it; only an NPZ's key `mask` marks good ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.images import read_image
from ptycho_core.io.raw_scan import IS_0_BAD, NOT_0_IS_BAD

__all__ = ["GivenMask", "mask_asked_for"]

#: Arrays of these names are masks, wherever they stand in a file.
_NAMES = ("bad_pixels", "pixel_mask", "mask", "pixelmask", "detector_mask")


@dataclass(frozen=True, eq=False)
class GivenMask:
    """A mask that was asked for.

    Attributes:
        bad: (N, N) or (M, N, N) bool, True = bad, laid out as the frames are stored.
        source: where it came from. convention: which values mean bad.
    """

    bad: np.ndarray
    source: str
    convention: str


def mask_asked_for(mask: str | Path | np.ndarray, *, inverted: bool) -> GivenMask:
    """Take a mask from an array, or read it from `FILE[:KEY]`.

    Args:
        inverted: 0 means bad where another value would, and the other way round.

    Raises:
        DataError: there is no such file or key, or it holds no mask.
    """
    if isinstance(mask, np.ndarray):
        values, source, good = mask, "the caller", False
    else:
        image = read_image(str(mask), _NAMES, what="mask")
        # Only in an NPZ does the name `mask` mean good pixels.
        values, source, good = image.values, image.source, image.npz_key == "mask"
    if values.dtype.kind not in "biuf" or values.ndim < 2:
        raise DataError(
            f"the mask of {source} is {values.dtype} of shape {values.shape}. Expected one number or bool a "
            "pixel, (N, N) or (frames, N, N).",
            finding="DATA-001",
        )
    good ^= inverted
    return GivenMask((values == 0) if good else (values != 0), source, IS_0_BAD if good else NOT_0_IS_BAD)
