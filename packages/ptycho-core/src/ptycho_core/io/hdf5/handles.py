"""Handles of HDF5 files, and what the library says of damaged ones in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import h5py

from ptycho_config.errors import ConfigError, DataError, NotRegularError
from ptycho_config.plaintext import excerpt
from ptycho_config.regular import require_regular
from ptycho_core.io.hdf5.matlab5 import as_hdf5, is_matlab5

__all__ = ["BROKEN", "beside_a_writer", "held_in_memory", "open_file", "translated", "without_lock"]

_CACHE_BYTES = 1 << 24
#: What h5py raises where a file is damaged.
BROKEN = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, OverflowError, IndexError)
#: HDF5's own lock on a file that is read; None: as the library was built.
_LOCKING: ContextVar[bool | None] = ContextVar("locking", default=None)


@contextmanager
def without_lock() -> Iterator[None]:
    """Read files without a lock, so that whoever writes them is never hindered."""
    token = _LOCKING.set(False)
    try:
        yield
    finally:
        _LOCKING.reset(token)


def beside_a_writer() -> bool:
    """Whether files are read while somebody writes them, so that much of them may not be there yet."""
    return _LOCKING.get() is False


@contextmanager
def translated(name: str, what: str = "the file") -> Iterator[None]:
    """Turn whatever a damaged HDF5 file provokes into one clear line."""
    try:
        yield
    except (ConfigError, DataError):
        raise
    except MemoryError as error:
        raise DataError(f"{name}: not enough memory to read {what}.") from error
    except (*BROKEN, RecursionError, UnicodeError) as error:
        cause = excerpt(" ".join(str(error).split()), 120) or type(error).__name__
        raise DataError(
            f"{name}: {excerpt(what)} cannot be read, the HDF5 file is truncated or damaged ({cause}). Copy "
            "or export it again."
        ) from error


def open_file(path: Path) -> h5py.File:
    """Open for reading; as a reader beside a writer where the file is still being written."""
    _register_filters()
    try:
        require_regular(path)  # the library would wait for a FIFO
    except NotRegularError as error:
        raise DataError(f"{path.name}: {error.strerror}. Expected an HDF5 file.") from error
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CACHE_BYTES, locking=_LOCKING.get())
    except OSError:
        if is_matlab5(path):  # what cannot be read at all says so itself
            return as_hdf5(path)
        beside: dict[str, Any] = {"rdcc_nbytes": _CACHE_BYTES, "swmr": True, "libver": "latest"}
        if _LOCKING.get() is not None:
            try:
                return h5py.File(path, "r", locking=_LOCKING.get(), **beside)
            except OSError:
                pass  # a writer in this very process wants the same lock of all
        return h5py.File(path, "r", **beside)


def held_in_memory(file: h5py.File) -> bool:
    """Whether a file was made in memory, from one of MATLAB's older versions, which takes long."""
    return file.driver == "core"


def _register_filters() -> None:
    """Make bitshuffle, LZ4, blosc and the other filters of detectors known, where hdf5plugin is installed."""
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        return
