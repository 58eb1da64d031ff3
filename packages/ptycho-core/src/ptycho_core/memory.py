"""How much memory this process may have, so that what needs more is refused in words before."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = [
    "address_space_limit_bytes",
    "addresses_left_bytes",
    "in_words",
    "memory_bytes",
    "physical_memory_bytes",
]

#: Files in which a container's limit stands, of the second and the first version of control groups.
_LIMITS_OF_A_CONTAINER = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def physical_memory_bytes() -> int | None:
    """Return the size of this machine's memory, None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def memory_bytes() -> int | None:
    """Return what this process may have: of the machine, of a container, of the addresses `ulimit -v` leaves.

    What others use is not subtracted: what is refused today must not be let in tomorrow. None where the
    system does not tell.
    """
    limits = [physical_memory_bytes(), _of_the_container(), addresses_left_bytes()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def address_space_limit_bytes() -> int | None:
    """Return how much address space this process may have (`ulimit -v`); None where there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def addresses_left_bytes() -> int | None:
    """Return what is left of the address space (`ulimit -v`); None where that is not limited."""
    limit = address_space_limit_bytes()
    if limit is None:
        return None
    used = 0
    with suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        used = int(pages) * os.sysconf("SC_PAGE_SIZE")
    return max(limit - used, 0)


def in_words(n_bytes: int | float) -> str:
    """Return a number of bytes in GiB, or MiB where it is small, and to the byte."""
    size = f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 1 << 30 else f"{n_bytes / 2**20:.0f} MiB"
    return f"{size} ({n_bytes:.0f} bytes)" if n_bytes < 1 << 53 else f"{n_bytes:.3g} bytes"


def _of_the_container() -> int | None:
    for name in _LIMITS_OF_A_CONTAINER:
        with suppress(OSError, ValueError):  # `max` is no number, and no limit
            return int(Path(name).read_text(encoding="ascii"))
    return None
