"""Virtual data sets: which data sets of which files they are put together from, followed to the last.

The HDF5 library follows the sources without an end where they lead back to where they began, and without a
question where they lead to a pipe or to raw bytes. So they are looked at before it does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import h5py.h5o
import h5py.h5s

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_core.io.hdf5.links import SOURCE_PREFIX, beside, first_opened, require_regular_files

__all__ = ["Part", "Source", "opened_source", "parts_of", "require_safe_sources", "sources_of"]

_DEEPEST = 8
_MOST_BLOCKS = 100_000
_ALL = 1 << 62
_ESCAPE = re.compile(r"%([%b])")


@dataclass(frozen=True)
class Source:
    """A data set that others are put together from, by the names of its file and in it.

    Attributes:
        optional: one of a row of files that ends where the next is missing.
    """

    file_name: str
    key: str
    optional: bool = False


@dataclass(frozen=True)
class Part:
    """A box of a virtual data set, and the box of a source that fills it.

    Attributes:
        start, stop: the box that holds the part; the whole data set where it grows without a limit.
        there_start, there_stop: the box of the source, None where it grows, or has another rank.
    """

    source: Source
    start: tuple[int, ...]
    stop: tuple[int, ...]
    there_start: tuple[int, ...] | None = None
    there_stop: tuple[int, ...] | None = None

    def in_source(self, axis: int, start: int, stop: int) -> tuple[int, int, int]:
        """Return the axis and the range of the source that fills a range of an axis; all where it is open."""
        if self.there_start is None or self.there_stop is None:
            return 0, 0, _ALL
        first, last = self.there_start[axis], self.there_stop[axis]
        if last - first != self.stop[axis] - self.start[axis]:
            return axis, first, last
        shift = first - self.start[axis]
        return axis, max(start, self.start[axis]) + shift, min(stop, self.stop[axis]) + shift


def sources_of(item: h5py.Dataset) -> list[Source]:
    """Return the sources of a virtual data set, each once; a pattern of numbered files as far as it goes."""
    plist = item.id.get_create_plist()
    count = plist.get_virtual_count()
    named = {(plist.get_virtual_filename(one), plist.get_virtual_dsetname(one)) for one in range(count)}
    return [source for file_name, key in sorted(named) for source in _blocks(item, file_name, key)]


def parts_of(item: h5py.Dataset) -> list[Part]:
    """Return what a virtual data set is put together from, in the order of its mappings."""
    plist, whole = item.id.get_create_plist(), ((0,) * item.ndim, item.shape)
    blocks: dict[tuple[str, str], list[Source]] = {}
    parts: list[Part] = []
    for one in range(plist.get_virtual_count()):
        named = plist.get_virtual_filename(one), plist.get_virtual_dsetname(one)
        if named not in blocks:
            blocks[named] = list(_blocks(item, *named))
        here, there = _box(plist.get_virtual_vspace(one)), _box(plist.get_virtual_srcspace(one))
        start, stop = here or whole
        if here is None or there is None or len(there[0]) != item.ndim:
            parts += [Part(source, start, stop) for source in blocks[named]]
        else:
            parts += [Part(source, start, stop, *there) for source in blocks[named]]
    return parts


def _box(space: h5py.h5s.SpaceID) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return where a selection begins and ends; None where it has no end, or takes all of what there is."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
        return None
    try:
        start, last = space.get_select_bounds()
    except (RuntimeError, ValueError):
        return None
    return tuple(int(one) for one in start), tuple(int(one) + 1 for one in last)


def _blocks(item: h5py.Dataset, file_name: str, key: str) -> Iterator[Source]:
    """Write out the blocks of a pattern: `%b` stands for their number, `%%` for the sign itself."""
    if not any(match[1] == "b" for match in _ESCAPE.finditer(file_name + "\0" + key)):
        yield Source(_ESCAPE.sub("%", file_name), _ESCAPE.sub("%", key))
        return
    for block in range(_MOST_BLOCKS):
        numbered = [
            _ESCAPE.sub(lambda match, n=block: "%" if match[1] == "%" else str(n), text)
            for text in (file_name, key)
        ]
        source = Source(numbered[0], numbered[1], optional=block > 0)
        if source.optional:
            with opened_source(item, source) as found:
                if found is None:
                    return
        yield source


@contextmanager
def opened_source(item: h5py.Dataset, source: Source) -> Iterator[h5py.Dataset | None]:
    """Open a source while it is looked at; None where it is not there.

    Raises:
        DataError: its file is no regular file, or leads to one that is none.
    """
    if source.file_name == ".":
        found = item.file.get(source.key)
        yield found if isinstance(found, h5py.Dataset) else None
        return
    file = first_opened(beside(item.file, source.file_name, SOURCE_PREFIX))
    if file is None:
        yield None
        return
    with file:
        require_regular_files(file)
        found = file.get(source.key)
        yield found if isinstance(found, h5py.Dataset) else None


def require_safe_sources(item: h5py.Dataset) -> None:
    """Refuse a virtual data set whose sources lead back to itself, too far, or to what is no regular file.

    What is missing is no matter here. To be called before anything else is asked of a data set: already for
    its shape the library opens the sources.

    Raises:
        DataError: says which.
    """
    if item.is_virtual:
        _follow(item, (), set())


def _follow(item: h5py.Dataset, chain: tuple[tuple[str, int], ...], sound: set[tuple[str, int]]) -> None:
    here = (os.path.realpath(item.file.filename), int(h5py.h5o.get_info(item.id).addr))
    name = f"{Path(item.file.filename).name}: `{excerpt(str(item.name), 80)}`"
    if here in chain:
        raise DataError(f"{name} is put together from itself. Expected data; export the file again.")
    if len(chain) >= _DEEPEST:
        raise DataError(
            f"{name} is put together from others, and these from others, more than {_DEEPEST} times. "
            "Copy the data into one file."
        )
    if here in sound:
        return
    for source in sources_of(item):
        with opened_source(item, source) as found:
            if found is not None and found.is_virtual:
                _follow(found, (*chain, here), sound)
    sound.add(here)
