"""The file that a scan was read from: its checksum as it was then, and whether it has changed since."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from pathlib import Path
from typing import Any

from ptycho_core.scan.plain import Handle

__all__ = ["SourceFile"]

_BLOCK_BYTES = 1 << 20


class SourceFile:
    """A file that is held open, so that its checksum is of what was read, whatever becomes of its name."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be opened, or is no regular file.
        """
        self.path = path
        self._handle = Handle(path)
        self._seen = _state(os.fstat(self._handle.fd))
        self._thread: threading.Thread | None = None
        self._known: tuple[str | None] | None = None
        self._said = False

    @classmethod
    def of(cls, path: Path | None) -> SourceFile | None:
        """Open a file; None where that is impossible, which whoever reads it says."""
        try:
            return None if path is None else cls(path)
        except (OSError, ValueError):
            return None

    def begin_checksum(self) -> None:
        """Take the checksum beside other work."""
        if self._thread is None and self._known is None:
            self._thread = threading.Thread(target=self._take, name="ptycho-checksum", daemon=True)
            self._thread.start()

    def sha256(self) -> str | None:
        """Return the checksum of what was read; None where the file changed before it was taken."""
        if self._thread is not None:
            self._thread.join()
        if self._known is None:  # not begun, or begun in the process that this one was forked from
            self._take()
        return None if self._known is None else self._known[0]

    def changed(self) -> str:
        """Say what has become of the file since it was opened; an empty text where nothing has."""
        try:
            now = self.path.stat()
        except FileNotFoundError:
            return "was renamed or removed"
        except OSError as error:
            return f"can no longer be reached ({error.strerror})"
        if _state(now) == self._seen:
            return ""
        return "was replaced by another file" if _inode(now) != self._seen[:2] else "was changed"

    def warn_if_changed(self) -> str:
        """Warn, once, where the file has changed; return what has become of it."""
        what = self.changed()
        if what and not self._said:
            self._said = True
            warnings.warn(
                f"{self.path.name} {what} after it was opened. The result is of what was read from it.",
                stacklevel=2,
            )
        return what

    def _take(self) -> None:
        digest, at = hashlib.sha256(), 0
        block = bytearray(_BLOCK_BYTES)
        try:
            while count := self._handle.read_into(memoryview(block), at):
                digest.update(memoryview(block)[:count])
                at += count
            as_it_was = _state(os.fstat(self._handle.fd)) == self._seen
        except OSError:
            as_it_was = False
        self._known = (digest.hexdigest() if as_it_was else None,)

    def __reduce__(self) -> tuple[Any, ...]:
        return SourceFile.of, (self.path,)


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return *_inode(status), status.st_size, status.st_mtime_ns
