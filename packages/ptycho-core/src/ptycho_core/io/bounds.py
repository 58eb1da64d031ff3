"""How much may be unpacked out of a file: what it declares is weighed before anything is allocated.

Whatever is no stack of frames may take half a GiB. A stack, or a whole archive, may take more where it does
not grow out of next to nothing. `PTYCHO_LARGEST_ARRAY_GIB` raises both limits, for a file that is trusted.
"""

from __future__ import annotations

import math
import os

from ptycho_config.errors import ConfigError, DataError

__all__ = ["LARGEST_ARRAY_VARIABLE", "largest_array_bytes", "refuse_a_large_array", "refuse_great_growth"]

LARGEST_ARRAY_VARIABLE = "PTYCHO_LARGEST_ARRAY_GIB"
_USUAL_GIB = 0.5
#: Frames of single photons shrink to a hundredth; zeros, which bombs are made of, to a thousandth or less.
_GREATEST_GROWTH = 200


def largest_array_bytes() -> int:
    """Return how large anything but a stack of frames may be.

    Raises:
        ConfigError: the environment variable holds no number above 0.
    """
    said = os.environ.get(LARGEST_ARRAY_VARIABLE, "").strip()
    if not said:
        return int(_USUAL_GIB * 2**30)
    try:
        gib = float(said)
    except ValueError:
        gib = math.nan
    if not 0 < gib < 2**32:
        raise ConfigError(f"{LARGEST_ARRAY_VARIABLE} is {said[:40]!r}. Expected a number of GiB above 0.")
    return int(gib * 2**30)


def refuse_a_large_array(name: str, what: str, n_bytes: int) -> None:
    """Refuse an array beyond the limit, of anything but frames.

    Args:
        name: the file. what: the array, with its shape where that is known.

    Raises:
        DataError: it is larger.
    """
    largest = largest_array_bytes()
    if n_bytes > largest:
        raise DataError(
            f"{name}: {what} needs {n_bytes / 2**30:.3g} GiB. Expected at most {largest / 2**30:.3g} GiB for "
            f"anything but frames; if it is right, set {LARGEST_ARRAY_VARIABLE}={math.ceil(n_bytes / 2**30)}."
        )


def refuse_great_growth(name: str, what: str, n_bytes: int, stored_bytes: int) -> None:
    """Refuse what grows out of next to nothing to more than the limit.

    Args:
        n_bytes: after unpacking, as declared or so far. stored_bytes: as it lies in the file.

    Raises:
        DataError: so it does.
    """
    if n_bytes > max(largest_array_bytes(), _GREATEST_GROWTH * stored_bytes):
        raise DataError(
            f"{name}: {what} would grow from {stored_bytes / 2**20:.3g} MiB to {n_bytes / 2**30:.3g} GiB or "
            f"more. Expected at most {_GREATEST_GROWTH} times its packed size; if it is right, set "
            f"{LARGEST_ARRAY_VARIABLE}={math.ceil(n_bytes / 2**30)}."
        )
