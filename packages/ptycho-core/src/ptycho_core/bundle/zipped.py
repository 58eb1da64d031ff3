"""Zip archives: written with equal bytes for equal content, read without trust in what they declare."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ptycho_config.errors import BundleError
from ptycho_core.bundle.refusal import refused

__all__ = ["ZippedMembers", "pack"]

_END = struct.Struct("<4s4H2LH")  # end of central directory, zip application note 4.3.16
_END64_LOCATOR_BYTES, _END64 = 20, struct.Struct("<4sQ2H2L4Q")
_DIRECTORY_BYTES = 1 << 20  # ours takes some 500
_ENCRYPTED = 0x2041  # flag bits 0, 6 and 13
_SMALL_BYTES, _RATIO = 1 << 20, 200
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,  # NotImplementedError, an unknown feature, is one too
    ValueError,
)


def pack(file: io.BufferedIOBase, members: Mapping[str, bytes]) -> None:
    """Write members into a zip, plainly stored, without the time or the system that made it."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)  # dated 1980
            info.create_system = 3  # Unix, so that the permissions mean something
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)


class ZippedMembers:
    """The members of a zip, checked one by one before anything is decompressed.

    Args:
        source: how messages call the archive.
        file: the archive, from its first byte to its last.

    Attributes:
        names: as declared, in their order, with whatever comes twice.
        sizes: bytes of each after decompression, as declared.

    Raises:
        BundleError: it is damaged, or holds an encrypted, linked or suspiciously compressed member.
    """

    def __init__(self, source: str, file: io.BufferedIOBase) -> None:
        self._source = source
        with self._translated("the zip directory"):
            self._check_directory_size(file)
            self._archive = zipfile.ZipFile(file)
            infos = self._archive.infolist()
        self.names = [info.orig_filename for info in infos]
        self._infos = dict(zip(self.names, infos, strict=True))
        for name, info in self._infos.items():
            self._check(name, info)
        self.sizes = {name: info.file_size for name, info in self._infos.items()}

    def read(self, name: str) -> bytes:
        """Read one member: never more than it declares; the zip's own checksum is compared."""
        info = self._infos[name]
        with self._translated(f"`{name}`"), self._archive.open(info) as stream:
            content = stream.read(info.file_size + 1)
            if len(content) != info.file_size:
                raise EOFError(f"{len(content)} of {info.file_size} bytes are there")
            return content

    def _check(self, name: str, info: zipfile.ZipInfo) -> None:
        if info.flag_bits & _ENCRYPTED:
            raise refused(self._source, f"the member `{name}` is encrypted", "members that anyone can check")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            what = "a symbolic link" if kind == stat.S_IFLNK else "no regular file"
            raise refused(self._source, f"the member `{name}` is {what}", "regular files only")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            found = f"the member `{name}` is packed by method {info.compress_type}"
            raise refused(self._source, found, "0 (stored) or 8 (deflate)")
        if info.file_size > max(_SMALL_BYTES, _RATIO * info.compress_size):
            raise refused(
                self._source,
                f"the member `{name}` would grow from {info.compress_size} to {info.file_size} bytes",
                f"at most {_RATIO} times its packed size",
            )

    @staticmethod
    def _check_directory_size(file: io.BufferedIOBase) -> None:
        """Bound the list of members, which zipfile reads whole before one can look at it."""
        end = file.seek(0, io.SEEK_END)
        file.seek(max(0, end - _END.size))
        tail = file.read(_END.size)
        if not tail.startswith(b"PK\5\6") or len(tail) != _END.size:
            raise EOFError("it does not end where a zip ends")
        size = _END.unpack(tail)[5]
        before = end - _END.size - _END64_LOCATOR_BYTES - _END64.size
        if before >= 0:
            file.seek(before)
            large, locator = file.read(_END64.size), file.read(4)
            if locator == b"PK\6\7":
                size = max(size if size != 0xFFFFFFFF else 0, _END64.unpack(large)[8])
        if size > _DIRECTORY_BYTES:
            raise ValueError(f"its list of members claims {size} bytes")

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Turn whatever a damaged archive provokes into one clear line."""
        try:
            yield
        except BundleError:
            raise
        except MemoryError as error:
            raise refused(self._source, f"not enough memory to read {what}", "more free memory") from error
        except _BROKEN as error:
            cause = str(error) or type(error).__name__
            found = f"{what} cannot be read, the archive is truncated or damaged ({cause})"
            raise refused(self._source, found, "a complete zip") from error
