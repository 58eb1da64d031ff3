"""Where a bundle lies: in a zip, in a directory that holds the zip, or unpacked in a directory."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ptycho_config.errors import BundleError
from ptycho_core.bundle.contents import BUNDLE_FILE
from ptycho_core.bundle.members import (
    AUTOENCODER_WEIGHTS,
    MANIFEST,
    OBJECT_WEIGHTS,
    check_sizes,
    is_pickle,
    pickled,
    refuse_dangerous_names,
)
from ptycho_core.bundle.refusal import absent, refused
from ptycho_core.bundle.zipped import ZippedMembers
from ptycho_core.files import expanded
from ptycho_core.given import expect_path

__all__ = ["Container", "open_container"]

_FOLDERS = tuple(name.split("/")[0] for name in (AUTOENCODER_WEIGHTS, OBJECT_WEIGHTS))
_MOST_ENTRIES = 10_000


@dataclass(frozen=True)
class Container:
    """Members by name, their sizes checked and nothing read yet.

    Attributes:
        source: how messages call it.
        sizes: bytes of each member.
        read: gives the content of a member, exactly of that size.
    """

    source: str
    sizes: Mapping[str, int]
    read: Callable[[str], bytes]


@contextmanager
def open_container(path: str | Path) -> Iterator[Container]:
    """Find the bundle at a path and look at the list of its members.

    Raises:
        BundleError: nothing is there, it is no bundle, or a member is dangerous or too large.
    """
    expect_path(path, "read_bundle", "a bundle")
    path = expanded(path)
    try:
        if path.is_dir() and (path / BUNDLE_FILE).exists():
            path = path / BUNDLE_FILE
        if path.is_dir():
            yield _unpacked(path)
        else:
            _check_beginning(path)
            with path.open("rb") as file:
                members = ZippedMembers(str(path), file)
                refuse_dangerous_names(str(path), members.names)
                check_sizes(str(path), members.sizes)
                yield Container(str(path), members.sizes, members.read)
    except (OSError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        cause = getattr(error, "strerror", None) or str(error)
        raise refused(str(path), f"cannot be read ({cause})", f"a readable `{BUNDLE_FILE}`") from error


def _check_beginning(path: Path) -> None:
    """Refuse what is absent or no zip, by its first bytes."""
    if not path.exists():
        raise absent(str(path), "no such file")
    if not path.is_file():
        raise refused(str(path), "is not a regular file", f"a `{BUNDLE_FILE}`")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        return
    if start.startswith(b"\x80") or is_pickle(path.name):
        raise pickled(str(path.parent), path.name)
    found = {b"": "the file is empty", b"\x89HDF\r\n\x1a\n": "this is a plain HDF5 file"}
    raise refused(str(path), found.get(start, "this is not a zip"), f"a `{BUNDLE_FILE}` of `ptycho train`")


def _unpacked(directory: Path) -> Container:
    """Look at a directory into which a bundle was unpacked; hidden files of the system do not count."""
    source = str(directory)
    entries = {name: path for name, path in _entries(directory) if not path.name.startswith(".")}
    if MANIFEST not in entries:
        for name in entries:
            if is_pickle(name):
                raise pickled(source, name)
        raise absent(source, f"holds no `{BUNDLE_FILE}`")
    refuse_dangerous_names(source, list(entries))
    for name, path in entries.items():
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
            raise refused(source, f"the member `{name}` is {what}", "regular files only")
    sizes = {name: path.stat().st_size for name, path in entries.items()}
    check_sizes(source, sizes)

    def read(name: str) -> bytes:
        with entries[name].open("rb") as file:
            content = file.read(sizes[name] + 1)
        if len(content) != sizes[name]:
            raise refused(source, f"`{name}` changes while it is read", "files at rest", "Try again.")
        return content

    return Container(source, sizes, read)


def _entries(directory: Path) -> Iterator[tuple[str, Path]]:
    """List the files of a directory and of the two folders of weights, with names as in the zip."""
    for path in islice(directory.iterdir(), _MOST_ENTRIES):
        if path.name in _FOLDERS and path.is_dir() and not path.is_symlink():
            for below in islice(path.iterdir(), _MOST_ENTRIES):
                yield f"{path.name}/{below.name}", below
        else:
            yield path.name, path
