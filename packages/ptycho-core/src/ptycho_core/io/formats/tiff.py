"""TIFF: the pages of one file, or the files of a directory in the order of their numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import excerpt
from ptycho_config.regular import require_regular
from ptycho_core.io.packed import lzma_bytes, zlib_bytes, zstd_bytes
from ptycho_core.io.raw_scan import RawScan
from ptycho_core.scan.lazy import ChainedSource, FrameSource, LazyFrames
from ptycho_core.scan.plain import PlainSource, PlainValues

__all__ = ["in_natural_order", "read"]

_LARGEST_PAGE_BYTES = 1 << 28
_MOST_FILES = 1_000_000
#: Compression, by its number in the file -> how much it can grow at most, and how many bytes come of it.
_PACKED: dict[int, tuple[int, Callable[[bytes, int], int]]] = {
    8: (1032, zlib_bytes),
    32946: (1032, zlib_bytes),
    34925: (10_000, lzma_bytes),
    34926: (32_768, zstd_bytes),
    50000: (32_768, zstd_bytes),
}
_HARMLESS = 64
_PLAIN = 1


def read(path: Path, name: str) -> RawScan:
    """Leave the frames of a TIFF file, or of a directory of them, where they are.

    Raises:
        DataError: no TIFF, or pages of several sizes.
    """
    files = [path]
    if path.is_dir():
        files = in_natural_order(f for f in path.iterdir() if f.suffix.lower() in (".tif", ".tiff"))
        if len(files) > _MOST_FILES:
            raise DataError(f"{path.name}: more than {_MOST_FILES} TIFF files. Put them into one HDF5 file.")
    sources = tuple(_source(file) for file in files)
    first = sources[0]
    odd = next((s for s in sources if s.shape[1:] != first.shape[1:]), None)
    if odd is not None:
        raise DataError(
            f"{path.name}: {odd.path.name} has pages of {odd.shape[1:]} pixels, {first.path.name} of "
            f"{first.shape[1:]}. Expected one size."
        )
    joined: FrameSource = ChainedSource(sources) if len(sources) > 1 else first
    note = (
        f"{joined.shape[0]} pages of {len(files)} TIFF file{'s' if len(files) > 1 else ''}, in their order."
    )
    return RawScan(
        name=name, format="TIFF", frames=LazyFrames(joined), positions_px=None, source=files[0], notes=(note,)
    )


@dataclass(frozen=True, eq=False)
class TiffSource:
    """The pages of a TIFF file."""

    path: Path
    stored_shape: tuple[int, int, int]
    stored_dtype: np.dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.stored_shape

    @property
    def dtype(self) -> np.dtype:
        return self.stored_dtype

    def read(self, chosen: np.ndarray) -> np.ndarray:
        def pages(tiff: Any) -> np.ndarray:
            block = np.empty((chosen.size, *self.stored_shape[1:]), self.stored_dtype)
            if len(tiff.pages) == self.stored_shape[0]:
                for row, number in enumerate(chosen):
                    page = tiff.pages[int(number)]
                    _require_bounded(tiff, page)
                    block[row] = _unpacked(tiff, page).reshape(self.stored_shape[1:])
                return block
            # ImageJ's and others' hyperstacks: one page in the file, many frames behind it.
            series = tiff.series[0]
            if series.dataoffset is None:
                return series.asarray().reshape(self.stored_shape)[chosen]
            stored = self.stored_dtype.newbyteorder(tiff.byteorder)
            values = PlainValues(self.path, stored, self.stored_shape, series.dataoffset)
            return PlainSource(values).read(chosen).astype(self.stored_dtype, copy=False)

        return _with_tiff(self.path, pages)

    def frames_first(self) -> TiffSource:
        raise DataError(
            f"{self.path.name}: its {self.stored_shape[0]} pages of {self.stored_shape[1:]} pixels do not "
            "fit the number of positions. Expected one page per position.",
            finding="FORMAT-001",
        )


def _source(path: Path) -> TiffSource:
    def look(tiff: Any) -> TiffSource:
        series = tiff.series[0]
        shape = tuple(int(n) for n in series.shape)
        dtype = np.dtype(series.dtype)
        if len(shape) < 2 or dtype.kind not in "biuf" or 0 in shape:
            raise ValueError(f"its pages are {dtype} {shape}, not grey values")
        frames = (int(np.prod(shape[:-2], dtype=object)), shape[-2], shape[-1])
        n_pages = len(tiff.pages)
        frame_bytes = int(np.prod(shape[-2:], dtype=object)) * dtype.itemsize
        if frame_bytes > _LARGEST_PAGE_BYTES:
            raise ValueError(f"a page needs {frame_bytes / 2**20:.0f} MiB")
        if n_pages == frames[0]:
            for page in (tiff.pages[0], tiff.pages[n_pages - 1]):
                if page.shape[-2:] != shape[-2:] or page.dtype != dtype:
                    raise ValueError("its pages have several sizes")
        elif tiff.pages[0].compression != _PLAIN or frames[0] * frame_bytes > path.stat().st_size:
            raise ValueError(f"it declares {frames[0]} frames and has {n_pages} pages")
        return TiffSource(path, frames, dtype)

    return _with_tiff(path, look)


def _require_bounded(tiff: Any, page: Any) -> None:
    """Refuse a page that unpacks to more than it should, or is stored plainly with less.

    What it unpacks to is looked at only where that could be much. Of a plain page that is stored short,
    whatever follows in the file would be taken for its rest.

    Raises:
        ValueError: it does, or is.
    """
    growth, bytes_of = _PACKED.get(int(page.compression), (0, zlib_bytes))
    page_bytes, stored = int(page.nbytes), sum(page.databytecounts)
    whole_bytes = page.bitspersample == 8 * page.dtype.itemsize
    if page.compression == _PLAIN and whole_bytes and 0 < stored < page_bytes:
        raise ValueError(f"page {page.index} is stored in {stored} of {page_bytes} bytes")
    for offset, stored_bytes in zip(page.dataoffsets, page.databytecounts, strict=False):
        if stored_bytes * growth <= _HARMLESS * max(page_bytes, 1 << 20):
            continue
        tiff.filehandle.seek(offset)
        # What is damaged says so itself, when it is read.
        with suppress(EOFError):
            if bytes_of(tiff.filehandle.read(stored_bytes), page_bytes) > page_bytes:
                raise ValueError(f"a page expands to more than the {page_bytes} bytes that it should have")


def _unpacked(tiff: Any, page: Any) -> np.ndarray:
    """Read a page.

    Raises:
        ImportError: a package is missing that unpacks it.
        ValueError: it is damaged, as can be seen without that package for some kinds of packing.
    """
    try:
        return page.asarray()
    except (ImportError, KeyError) as error:
        if not isinstance(error, ImportError) and "imagecodecs" not in str(error):
            raise
        bytes_of = _PACKED.get(int(page.compression), (0, None))[1]
        if bytes_of is not None:
            _require_whole(tiff, page, bytes_of)
        raise ImportError(getattr(page.compression, "name", f"no. {page.compression}")) from error


def _require_whole(tiff: Any, page: Any, bytes_of: Callable[[bytes, int], int]) -> None:
    """Refuse a packed page whose blocks do not follow one another to its end."""
    for offset, stored_bytes in zip(page.dataoffsets, page.databytecounts, strict=False):
        tiff.filehandle.seek(offset)
        try:
            bytes_of(tiff.filehandle.read(stored_bytes), int(page.nbytes))
        except EOFError as error:
            raise ValueError(f"page {page.index} is damaged") from error


def _with_tiff(path: Path, work: Any) -> Any:
    """Open a TIFF file for a moment and turn what damage provokes into one line.

    Three kinds of TIFF name other files. These are not followed: each file is read for its own pages.
    """
    import logging

    import tifffile

    quiet = logging.getLogger("tifffile")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)  # it reports damage at length before it raises
    try:
        require_regular(path)
        with tifffile.TiffFile(path, is_ome=False, is_mmstack=False, is_ndtiff=False) as tiff:
            return work(tiff)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path.name}: not enough memory to read it as TIFF.") from error
    except ImportError as error:
        raise DataError(
            f"{path.name}: its pages are packed ({excerpt(str(error), 40)}) in a way that another package "
            "unpacks. Type `pip install imagecodecs`."
        ) from error
    except Exception as error:  # every compression has errors of its own
        cause = excerpt(" ".join(str(error).split()), 120) or type(error).__name__
        raise DataError(
            f"{path.name}: cannot be read as TIFF ({cause}). Expected grey pages of one size; copy or export "
            "it again."
        ) from error
    finally:
        quiet.setLevel(level)


def in_natural_order(files: Iterable[Path]) -> list[Path]:
    """Sort files so that `frame_2` stands before `frame_10`."""
    return sorted(files, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[bool, int, str]], str]:
    """Order `frame_2` before `frame_10`."""
    parts = re.split(r"(\d+)", path.name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts], path.name
