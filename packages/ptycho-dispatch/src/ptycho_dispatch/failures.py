"""How a command that failed says so: one line for every error, and the code that belongs to it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from ptycho_config.errors import (
    EXIT_CONFIG,
    EXIT_FAILED,
    BundleError,
    DataError,
    OutputError,
    exit_code,
)
from ptycho_config.naming import shortened
from ptycho_config.plaintext import one_line
from ptycho_core.memory import address_space_limit_bytes

__all__ = ["NO_MEMORY", "explained", "require_address_space"]

NO_MEMORY = "the memory that this process may use does not suffice"
#: What the loader, threads and libraries say where memory is limited; they have no type of error for it.
_NO_MEMORY = (
    "failed to map segment",
    "can't start new thread",
    "Cannot allocate memory",
    "Unable to allocate",
)
#: Python, NumPy and SciPy alone take so much of the address space.
_LEAST_ADDRESS_SPACE_MIB = 384
_CLOSE_BYTES = 64 << 20


def explained(error: Exception) -> tuple[str, int]:
    """Return what went wrong, in one line, and the exit code."""
    text, code = one_line(str(error)) or type(error).__name__, exit_code(error)
    if _lacked_memory(error, text):
        said = "" if text == "MemoryError" else f" ({text})"
        return f"{NO_MEMORY}{said}. Allow more (`ulimit -v`), or use fewer frames.", EXIT_FAILED
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG and code == EXIT_FAILED:
        if isinstance(error, OutputError):
            return text, code
        return (
            f"`{shortened(one_line(str(error.filename)))}` is too long for a path. Give a shorter one.",
            EXIT_CONFIG,
        )
    return (
        text if code != EXIT_FAILED or isinstance(error, OSError) else f"{text} (--debug shows where)"
    ), code


def require_address_space() -> None:
    """Refuse to begin where not even the libraries find room; some of them would wait for it for ever.

    Raises:
        MemoryError: with the limit and what is needed.
    """
    limit = address_space_limit_bytes()
    if limit is not None and limit < _LEAST_ADDRESS_SPACE_MIB << 20:
        raise MemoryError(
            f"{limit / 2**20:.0f} MiB of address space; its libraries need {_LEAST_ADDRESS_SPACE_MIB}"
        )


def _lacked_memory(error: Exception, text: str) -> bool:
    """Whether there was too little memory; a reader that saw so may have taken its file for damaged."""
    if isinstance(error, DataError | BundleError) and ("memory" in text or "GiB" in text or "bytes" in text):
        return False  # it says itself how much is needed
    if exit_code(error) == EXIT_FAILED and not isinstance(error, OutputError) and _at_the_limit():
        return True  # whatever libraries make of it: some fail without a word
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or any(said in str(one) for said in _NO_MEMORY)
        for one in _behind(error)
    )


def _at_the_limit() -> bool:
    """Whether this process has come close to the address space that it may use."""
    limit = address_space_limit_bytes()
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    peak = re.search(r"VmPeak:\s*(\d+) kB", status)
    return limit is not None and peak is not None and (int(peak[1]) << 10) + _CLOSE_BYTES > limit


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """Return an error and those that it came from."""
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
