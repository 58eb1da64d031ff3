"""Writing files whole or not at all.

Everything is written under a temporary name in the same directory, flushed to the disk, and renamed. A killed
run leaves at most a temporary file, never half a file under a final name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from ptycho_config.errors import NotRegularError, OutputError
from ptycho_config.plaintext import excerpt
from ptycho_config.regular import require_regular

__all__ = [
    "CACHE_DIR_VARIABLE",
    "atomic_path",
    "cache_directory",
    "expanded",
    "is_file",
    "is_no_regular_file",
    "jsonable",
    "make_directory",
    "remove_leftovers",
    "require_replaceable",
    "sha256_of",
    "write_json",
    "write_npz",
    "write_text",
]

_ALIGNMENT = 64  # so that whoever maps a member can use it by vector instructions where it lies
_LOCAL_HEADER_BYTES = 30
_ZIP64_EXTRA_BYTES = 20
#: A temporary file: where it is written, by which process.
_TEMPORARY = re.compile(r"\..*\.(?P<place>[0-9a-f]{8})-(?P<pid>[0-9]+)-[0-9a-f]{8}\.part", re.DOTALL)
_DAY_S = 86_400.0
_PADDING_FIELD = 0x5054  # an extra field that readers skip, zip application note section 4.6


@contextmanager
def atomic_path(final: str | Path, *, lasting: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `final`; on success it becomes `final`, on failure it is removed.

    Args:
        lasting: flush it to the disk; a picture that the next second replaces need not be.
    Raises:
        OutputError: the directory cannot be written, the disk is full, or what stands under the name is no
            file; names the path and the cause.
    """
    final = Path(final)
    require_replaceable(final)
    temporary = final.with_name(f".{final.name[:80]}.{_writer()}-{secrets.token_hex(4)}.part")
    with _explained(final):
        # Not mkstemp, whose files only the owner may read: the result gets the permissions of any other file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with _explained(final):
            yield temporary
            if lasting:
                _settle(temporary, final)
            else:
                temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def require_replaceable(final: Path) -> None:
    """Refuse to put a file in the place of a directory, a FIFO, a socket or a device.

    Raises:
        OutputError: that is what stands there, itself or behind a link; or no file can have that name.
    """
    try:
        require_regular(final)
    except NotRegularError as error:
        raise OutputError(
            f"{final}: cannot be written ({error.strerror}). Remove it, or choose another place with "
            "`--output-dir`."
        ) from error
    except ValueError as error:
        raise _no_name(final, error) from error
    except OSError:
        return  # nothing is there; what else is wrong shows when it is written


def remove_leftovers(directory: Path) -> None:
    """Remove temporary files whose writer was killed; those of writers at work stay.

    A writer of another machine cannot be asked; its files go when nothing was written into them for a day.
    """
    with suppress(OSError):
        for entry in os.scandir(directory):
            match = _TEMPORARY.fullmatch(entry.name)
            if match is None:
                continue
            with suppress(OSError):
                here = match["place"] == _place()
                if (here and not _runs(int(match["pid"]))) or (
                    not here and time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY_S
                ):
                    Path(entry.path).unlink()


def make_directory(directory: str | Path) -> Path:
    """Create a directory and its parents, and make sure that files can be written there.

    What killed writers left unfinished in it is removed.

    Raises:
        OutputError: that is impossible; names the directory and the cause.
    """
    path = Path(directory).expanduser()
    with _explained(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except ValueError as error:
            raise _no_name(path, error) from error
        with tempfile.TemporaryFile(dir=path):
            pass
    remove_leftovers(path)
    return path


def expanded(path: str | Path) -> Path:
    """Replace a leading `~` by the home directory, where there is one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the system knows no such user
        return Path(path)


def is_file(path: Path) -> bool:
    """Whether a regular file is there; False too for a name that no system takes."""
    with suppress(OSError, ValueError):
        return path.is_file()
    return False


def is_no_regular_file(path: Path) -> bool:
    """Whether something else than a regular file stands there: a directory, a FIFO, a device."""
    with suppress(OSError, ValueError):
        return path.exists() and not path.is_file()
    return False


def sha256_of(path: Path) -> str:
    """Give the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: str | Path, text: str) -> Path:
    r"""Write a text file in UTF-8; bytes of a name that are none stand there as JSON has them, `\udcfc`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return Path(path)


def write_json(path: str | Path, data: Any) -> Path:  # Any: whatever JSON can hold, NumPy and paths included
    """Write an indented JSON file; NaN and infinite numbers become null, as the format has none."""
    return write_text(path, json.dumps(jsonable(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_npz(path: str | Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> Path:
    """Write arrays as an NPZ whose plain members begin at multiples of 64 bytes, ready to be mapped.

    Raises:
        OutputError: it could not be written.
        ValueError: an array holds Python objects, which would need a pickle.
    """
    for key, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"`{key}` holds Python objects. Expected plain numbers or text.")
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", kind, allowZip64=True) as archive:
        for key, array in arrays.items():
            info = zipfile.ZipInfo(f"{key}.npy")  # a fixed date: equal arrays make equal files
            info.compress_type = kind
            info.extra = _padding(archive.fp.tell() if archive.fp else 0, info.filename)
            with archive.open(info, "w", force_zip64=True) as member:
                # An array of its own order: asanyarray keeps Fortran order, which the header then declares.
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return Path(path)


def jsonable(value: Any) -> Any:  # Any: the data model of JSON, recursively
    """Turn NumPy numbers, arrays, paths, tuples and sets into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(entry) for entry in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def _writer() -> str:
    """Return the part of a temporary name that says who writes it."""
    return f"{_place()}-{os.getpid()}"


@cache
def _place() -> str:
    """Name the machine, and the container, in which the number of a process is its own."""
    parts = [platform.node()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")]
        parts += [str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:8]


def _runs(pid: int) -> bool:
    """Whether a process of this machine is there; where that cannot be told, it is."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _padding(offset: int, filename: str) -> bytes:
    """Return an extra field that makes the values begin aligned; an NPY header is itself a multiple of 64."""
    begin = offset + _LOCAL_HEADER_BYTES + len(filename.encode()) + _ZIP64_EXTRA_BYTES
    fill = -(begin + 4) % _ALIGNMENT
    return _PADDING_FIELD.to_bytes(2, "little") + fill.to_bytes(2, "little") + bytes(fill)


def _settle(temporary: Path, final: Path) -> None:
    """Flush a finished file to the disk and give it its name."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(final)
    with suppress(OSError):  # some file systems cannot flush a directory; the file itself is safe by now
        directory = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one line with the path, the cause and the cure."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        cause = error.strerror or str(error) or type(error).__name__
        cure = "Free some space or choose another place with `--output-dir`."
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            cure = "Choose another place with `--output-dir`."
        raise OutputError(f"{path}: cannot be written ({cause}). Nothing was left there. {cure}") from error


def _no_name(path: Path, error: ValueError) -> OutputError:
    """Say that a name holds what no system takes: a zero byte, or half a character."""
    return OutputError(f"{excerpt(str(path))}: no file can have this name ({error}). Choose another one.")


def cache_directory() -> Path:
    """Return where fetched data live; the environment variable `PTYCHO_CACHE_DIR` moves it."""
    chosen = os.environ.get(CACHE_DIR_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("ptycho"))


CACHE_DIR_VARIABLE = "PTYCHO_CACHE_DIR"
