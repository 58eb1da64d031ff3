"""Opening files that are files: a FIFO, a device, a socket or a directory is refused at once.

To open a FIFO waits for whoever writes into it, for ever where nobody does; a device can give bytes without
end.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ptycho_config.errors import NotRegularError

__all__ = ["kind_of", "open_regular", "require_regular"]

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def kind_of(mode: int) -> str:
    """Return what a mode of `stat` says a path is, where that is no regular file; else an empty text."""
    if stat.S_ISREG(mode):
        return ""
    return next((kind for matches, kind in _KINDS if matches(mode)), "something else")


def require_regular(path: Path) -> os.stat_result:
    """Look at a file, links followed, without opening it, and return its status.

    Raises:
        NotRegularError: it is none. OSError: it is not there, or cannot be looked at.
    """
    status = path.stat()
    if kind := kind_of(status.st_mode):
        raise NotRegularError(path, kind)
    return status


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; never wait for what is none.

    Raises:
        NotRegularError: it is none. OSError: it cannot be opened.
    """
    require_regular(path)  # a device may do something when it is opened
    # What has been put in its place since then is not waited for.
    file = os.fdopen(
        os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
    )
    kind = kind_of(os.fstat(file.fileno()).st_mode)
    if kind:
        file.close()
        raise NotRegularError(path, kind)
    return file
