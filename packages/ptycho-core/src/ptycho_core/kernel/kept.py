"""Compiled libraries in the user's cache: kept whole, and believed only while they are whole and ours.

A library is called by its key and the hash of its content, `step-KEY-HASH.so`. One whose content has another
hash, that belongs to somebody else or that others may write to is never loaded: code from it would run with
the user's rights, and a file that was cut short ends the process by a signal.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path

from ptycho_config.errors import BackendUnavailableError
from ptycho_core.files import atomic_path
from ptycho_core.kernel.shipped import hash_of

__all__ = ["keep", "own_folder", "sound_library"]

_LARGEST_BYTES = 1 << 26  # with sanitizers some 300 KB
#: No compiler is waited for so long; what is older was left behind by a run that was killed.
_LEFT_BEHIND_S = 3600.0
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def own_folder(folder: Path) -> Path:
    """Make the folder; refuse one into which another user could put code, and clear what killed runs left.

    Raises:
        BackendUnavailableError: others may write to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _ours(folder.stat()):
        raise BackendUnavailableError(
            f"others may write to {folder}. Make it yours alone: chmod 700 {folder}"
        )
    _clear(folder)
    return folder


def sound_library(folder: Path, key: str) -> tuple[Path | None, str]:
    """Find the library of a key that is whole and ours; those that are not are removed.

    Returns:
        Its path, None where there is none; and what was wrong with one that was removed, empty where none
        was.
    """
    wrong = ""
    for path in sorted(folder.glob(f"step-{key}-*.so")):
        found = _fault(path)
        if not found:
            return path, wrong
        path.unlink()
        wrong = found
    return None, wrong


def keep(made: Path, folder: Path, key: str) -> Path:
    """Copy a library that was just made into the folder, flushed to the disk before it gets its name."""
    content = made.read_bytes()
    path = folder / f"step-{key}-{hash_of(content)}.so"
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        temporary.chmod(0o600)
    return path


def _ours(about: os.stat_result) -> bool:
    return about.st_uid == os.getuid() and not about.st_mode & _OTHERS_MAY_WRITE


def _fault(path: Path) -> str:
    """Say what is wrong with a library; empty where it is a file of ours with the content of its name."""
    try:
        # Neither a link nor a pipe is followed or waited for.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return "could not be read"
    with os.fdopen(file, "rb") as stream:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or not _ours(about):
            return "was not the user's alone"
        content = stream.read(_LARGEST_BYTES)
    return "" if path.stem.rpartition("-")[2] == hash_of(content) else "was damaged"


def _clear(folder: Path) -> None:
    """Remove what runs left behind that were killed while they compiled or wrote."""
    long_ago = time.time() - _LEFT_BEHIND_S
    for path in folder.iterdir():
        if not re.fullmatch(r"build-\w+|\..+\.part", path.name):
            continue
        with suppress(OSError):  # another run may do the same at the same time
            if path.lstat().st_mtime > long_ago:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
