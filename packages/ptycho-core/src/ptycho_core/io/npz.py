"""Reading NPZ archives: frames stay in the file where possible, nothing is unpickled.

Sizes are believed only after a check.

An NPZ is a zip of NPY files. Members stored without compression are read straight out of the archive;
compressed ones are decompressed into the final array. NumPy's own reader can do neither the first, nor the
second without trusting the sizes that the file declares.
"""

from __future__ import annotations

import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ptycho_config.errors import ConfigError, DataError
from ptycho_config.plaintext import excerpt
from ptycho_config.regular import open_regular
from ptycho_core.io.bounds import refuse_a_large_array, refuse_great_growth
from ptycho_core.io.npy import MemoryFile, lazily_or_read, read_npy_header
from ptycho_core.io.recognise import (
    BLOCK_BYTES,
    decompressed,
    first_bytes,
    not_an_npz,
    refuse_more_than_memory,
)
from ptycho_core.ranks import Ranks
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.plain import PlainValues

#: So much is read at a time for a checksum.
_READ_BYTES = 1 << 22
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")  # zip application note, section 4.3.7
_KINDS_WITHOUT_PICKLE = "?biufcUS"
_BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,  # encrypted members; NotImplementedError, an unknown compression, is one too
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One array of an archive, as its header describes it.

    Attributes:
        offset: where the values begin in the archive, None where they are compressed.
        header_crc: checksum of the NPY header, which the zip's checksum of the whole member starts with.
        holds_objects: the values are pickled Python objects and cannot be read.
    """

    key: str
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    offset: int | None
    header_bytes: int
    header_crc: int
    info: zipfile.ZipInfo

    @property
    def holds_objects(self) -> bool:
        """Whether only a pickle could restore this member."""
        return self.dtype.kind not in _KINDS_WITHOUT_PICKLE

    @property
    def nbytes(self) -> int:
        """Size of the values in memory."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


class Archive:
    """The arrays of an NPZ file, or of an NPZ inside a `.bz2`; each is read when it is asked for.

    Args:
        path: the file. Errors name it.
        cure: what to do when it turns out to be damaged.

    Raises:
        DataError: the file is missing, unreadable or no NPZ.
    """

    def __init__(self, path: Path, *, cure: str = "Copy or download it again and compare the sizes.") -> None:
        self.path = path
        self.cure = cure
        self._buffer: memoryview | None = None
        start = first_bytes(path)
        if start.startswith(b"BZh"):
            self._buffer = decompressed(path)
            start = bytes(self._buffer[:8])
        if not start.startswith(b"PK"):
            raise DataError(not_an_npz(path, start))
        with self._translated("the zip directory"), self._zip() as archive:
            self.members = dict(self._find_members(archive))

    def read(self, key: str, *, image: bool = False) -> np.ndarray:
        """Read one array that is no stack of frames, checking its checksum.

        Args:
            image: it is a reconstruction, which may be larger than other things.

        Raises:
            DataError: as `open`, or it is compressed and larger than anything but frames should be.
        """
        member = self.members[key]
        if member.offset is None and not member.holds_objects and not image:
            refuse_a_large_array(self.path.name, f"`{excerpt(key, 40)}` {member.shape}", member.nbytes)
        array = np.asarray(self.open(key)).reshape(member.shape)
        if member.offset is not None:
            checksum = self.checksum(key)
            checksum.update(array)
            checksum.verify()
        return array

    def open(self, key: str) -> np.ndarray | LazyFrames:
        """Give access to one array, with its checksum still to be checked where it is stored plain.

        What can be frames and lies plainly in a file stays there.

        Raises:
            DataError: the member is damaged, larger than this machine's memory, grows out of next to nothing,
                or is pickled.
        """
        member = self.members[key]
        if member.holds_objects:
            raise DataError(
                f"{self.path.name}: `{key}` holds pickled Python objects, which are never loaded because "
                f"unpickling runs code. Expected plain numbers; save it again with "
                f"`numpy.savez(..., {key}=numpy.asarray({key}, dtype=...))`.",
                finding="DATA-001",
            )
        with self._translated(f"`{key}`"):
            if member.offset is None:
                return self._decompress(member)
            order = "F" if member.fortran_order else "C"
            if member.nbytes == 0:
                return np.empty(member.shape, member.dtype, order=order)
            if self._buffer is not None:
                return np.ndarray(member.shape, member.dtype, self._buffer, member.offset, order=order)
            values = PlainValues(
                self.path, member.dtype, member.shape, member.offset, fortran_order=member.fortran_order
            )
            return lazily_or_read(values.begun())

    def checksum(self, key: str) -> Checksum:
        """Return a checksum to be fed with the values of a plainly stored member in file order."""
        return Checksum(self, key)

    def is_unchecked(self, key: str) -> bool:
        """Whether `open` leaves the checksum of this member to the caller."""
        return self.members[key].offset is not None

    @contextmanager
    def _zip(self) -> Iterator[zipfile.ZipFile]:
        with self._file() as file, zipfile.ZipFile(file) as archive:
            yield archive

    @contextmanager
    def _file(self) -> Iterator[io.BufferedIOBase]:
        if self._buffer is not None:
            yield io.BufferedReader(MemoryFile(self._buffer))
            return
        with open_regular(self.path) as file:
            yield cast(io.BufferedIOBase, file)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Turn whatever a damaged archive provokes into one clear line."""
        try:
            yield
        except (ConfigError, DataError):
            raise
        except MemoryError as error:
            raise DataError(f"{self.path.name}: not enough memory to read {what}.") from error
        except _BROKEN_ARCHIVE as error:
            cause = excerpt(str(error)) or type(error).__name__
            raise DataError(
                f"{self.path.name}: {excerpt(what)} cannot be read, the file is truncated or damaged "
                f"({cause}). Expected a complete NPZ archive. {self.cure}"
            ) from error

    def _find_members(self, archive: zipfile.ZipFile) -> Iterator[tuple[str, Member]]:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                key = info.filename.removesuffix(".npy")
                with self._translated(f"`{key}`"):
                    yield key, self._describe(archive, info, key)

    def _describe(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str) -> Member:
        """Read the NPY header of a member and compare what it declares with what the zip declares."""
        with _stream(archive, info) as stream:
            header = read_npy_header(stream)
        plain = info.compress_type == zipfile.ZIP_STORED
        member = Member(
            key=key,
            dtype=header.dtype,
            shape=header.shape,
            fortran_order=header.fortran_order,
            offset=self._values_begin(archive, info) + len(header.raw) if plain else None,
            header_bytes=len(header.raw),
            header_crc=zlib.crc32(header.raw),
            info=info,
        )
        if not member.holds_objects and member.nbytes + len(header.raw) != info.file_size:
            raise ValueError(
                f"its header declares {member.nbytes} bytes of {member.dtype} {member.shape}, "
                f"the archive holds {info.file_size - len(header.raw)}"
            )
        return member

    def _values_begin(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
        """Find where a plainly stored member begins: behind its local header, whose length varies."""
        if info.compress_size != info.file_size:
            raise ValueError("stored and plain size differ")
        with self._file() as file:
            file.seek(info.header_offset)
            fields = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            begin = info.header_offset + _LOCAL_HEADER.size + fields[9] + fields[10]
            end = file.seek(0, os.SEEK_END)
        if begin + info.file_size > end:
            raise ValueError(f"it should end at byte {begin + info.file_size}, the file ends at {end}")
        return begin

    def _decompress(self, member: Member) -> np.ndarray:
        what = f"`{excerpt(member.key, 40)}`"
        refuse_great_growth(self.path.name, what, member.nbytes, member.info.compress_size)
        refuse_more_than_memory(self.path, what, member.nbytes)
        flat = np.empty(member.nbytes, dtype=np.uint8)
        view = flat.data
        with self._zip() as archive, _stream(archive, member.info) as stream:
            stream.read(member.header_bytes)
            done = 0
            while done < len(view):
                n_read = stream.readinto(view[done : done + BLOCK_BYTES])
                if not n_read:
                    raise EOFError(f"{len(view) - done} bytes are missing")
                done += n_read
            stream.read(1)  # reaching the end makes zipfile compare the checksum
        return np.ndarray(member.shape, member.dtype, flat, order="F" if member.fortran_order else "C")


class Checksum:
    """The zip's checksum of one member, fed piece by piece while the values are read for another purpose."""

    def __init__(self, archive: Archive, key: str) -> None:
        member = archive.members[key]
        self._archive, self._key = archive, key
        self._value, self._expected = member.header_crc, member.info.CRC

    def update(self, values: np.ndarray) -> None:
        """Take the next values, which lie in one piece in the file."""
        in_file_order = values if values.flags.c_contiguous else values.T
        if values.size:
            self._value = zlib.crc32(in_file_order.reshape(-1).view(np.uint8).data, self._value)

    def update_together(self, frames: np.ndarray | LazyFrames, ranks: Ranks) -> None:
        """Take all frames, of which each rank reads a part; all of them call this."""
        edges = np.arange(ranks.count + 1) * frames.shape[0] // ranks.count
        first, last = int(edges[ranks.rank]), int(edges[ranks.rank + 1])

        def mine() -> list[int]:
            value, n_bytes = 0, 0
            step = max(1, _READ_BYTES * frames.shape[0] // max(1, frames.nbytes))
            for begin in range(first, last, step):
                block = np.ascontiguousarray(frames[begin : min(begin + step, last)])
                value = zlib.crc32(block.reshape(-1).view(np.uint8).data, value)
                n_bytes += block.nbytes
            return [value, n_bytes]

        for value, n_bytes in ranks.everyone(ranks.one(mine)):
            self._value = crc32_joined(self._value, value, n_bytes)

    def verify(self) -> None:
        """Raise DataError unless the values are those that were written."""
        if self._value != self._expected:
            raise DataError(
                f"{self._archive.path.name}: `{self._key}` is damaged, its checksum is {self._value:08x} and "
                f"should be {self._expected:08x}. {self._archive.cure}"
            )


def crc32_joined(first: int, second: int, n_bytes: int) -> int:
    """Return the checksum of two pieces in a row from those of each, the second of so many bytes.

    A checksum is linear in the bits: zeros behind the first piece turn it by a matrix, which is squared for
    each binary digit of their number. Source: M. Adler, `crc32_combine` of zlib.
    """
    turn = [0xEDB88320, *(1 << bit for bit in range(31))]  # by one bit that is 0
    n_bits = 8 * n_bytes
    while n_bits:
        if n_bits & 1:
            first = _turned(turn, first)
        turn, n_bits = [_turned(turn, row) for row in turn], n_bits >> 1
    return first ^ second


def _turned(matrix: list[int], bits: int) -> int:
    total = 0
    for row in matrix:
        if bits & 1:
            total ^= row
        bits >>= 1
    return total


def _stream(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> io.BufferedIOBase:
    # zipfile's stubs promise less than what it returns, a buffered reader with `readinto`.
    return cast(io.BufferedIOBase, archive.open(info))
