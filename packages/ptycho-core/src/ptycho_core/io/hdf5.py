"""HDF5 files, read without trust: what they declare is checked before anything is allocated.

Frames stay in the file (`Hdf5Source`); everything else is read at once and has to be small. Files that are
still being written are opened in SWMR mode, virtual data sets only where their sources exist.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import h5py.h5o
import numpy as np

from ptycho_config.errors import DataError
from ptycho_core.io.heaps import check_global_heaps
from ptycho_core.io.recognise import one_line
from ptycho_core.io.units import energy_in_ev, length_factor

__all__ = ["Hdf5", "Hdf5Source", "opened", "translated", "without_lock"]

MOST_OBJECTS = 20_000
DEEPEST = 24
LARGEST_ARRAY_BYTES = 1 << 29  # of anything but frames
LARGEST_CHUNK_BYTES = 1 << 28
CACHE_BYTES = 1 << 24
_DEFLATE_RATIO = 1032  # zlib's greatest
_DEFLATE_CHECKED_BYTES = 1 << 18
_EMPTY_RATIO, _EMPTY_BYTES = 20_000, 1 << 30
_BROKEN = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, OverflowError, IndexError)


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


@contextmanager
def translated(name: str, what: str = "the file") -> Iterator[None]:
    """Turn whatever a damaged HDF5 file provokes into one clear line."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{name}: not enough memory to read {what}.") from error
    except (*_BROKEN, RecursionError, UnicodeError) as error:
        cause = one_line(" ".join(str(error).split()), 120) or type(error).__name__
        raise DataError(
            f"{name}: {one_line(what)} cannot be read, the HDF5 file is truncated or damaged ({cause}). Copy "
            "or export it again."
        ) from error


def _open(path: Path) -> h5py.File:
    """Open for reading; as a reader beside a writer where the file is still being written."""
    _register_filters()
    try:
        return h5py.File(path, "r", rdcc_nbytes=CACHE_BYTES, locking=_LOCKING.get())
    except OSError:
        with path.open("rb"):  # what cannot be read at all says so itself
            pass
        beside: dict[str, Any] = {"rdcc_nbytes": CACHE_BYTES, "swmr": True, "libver": "latest"}
        if _LOCKING.get() is not None:
            try:
                return h5py.File(path, "r", locking=_LOCKING.get(), **beside)
            except OSError:
                pass  # a writer in this very process wants the same lock of all
        return h5py.File(path, "r", **beside)


def _register_filters() -> None:
    """Make bitshuffle, LZ4, blosc and the other filters of detectors known, where hdf5plugin is installed."""
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        return


@contextmanager
def opened(path: Path) -> Iterator[Hdf5]:
    """Open an HDF5 file while it is looked at.

    Raises:
        DataError: it is missing, damaged or no HDF5 file.
    """
    check_global_heaps(path)
    with translated(path.name):
        file = _open(path)
    try:
        yield Hdf5(path, file)
    finally:
        file.close()


@dataclass(frozen=True, eq=False)
class Hdf5:
    """An open HDF5 file: objects by their path, values with their units.

    Attributes:
        growing: somebody is still writing it.
    """

    path: Path
    file: h5py.File

    @property
    def growing(self) -> bool:
        return bool(self.file.swmr_mode)

    def group(self, key: str) -> h5py.Group | None:
        """Return a group, None where there is none."""
        found = self._get(key)
        return found if isinstance(found, h5py.Group) else None

    def dataset(self, key: str) -> h5py.Dataset | None:
        """Return a data set, None where there is none.

        Raises:
            DataError: the name is there but leads nowhere.
        """
        found = self._get(key)
        return found if isinstance(found, h5py.Dataset) else None

    def required(self, key: str) -> h5py.Dataset:
        """Return a data set that somebody asked for.

        Raises:
            DataError: there is none; lists what is there.
        """
        found = self.dataset(key)
        if found is None:
            raise DataError(f"{self.path.name}: there is no data set `{one_line(key, 80)}`. {self.listing()}")
        return found

    def _get(self, key: str) -> Any:  # Any: h5py's objects
        with translated(self.path.name, f"`{key}`"):
            found = self.file.get(key)
            if found is None:
                link = self._link(key)
                if link is not None:
                    raise DataError(
                        f"{self.path.name}: `{one_line(key, 80)}` is a link to `{one_line(link, 80)}`, which "
                        "leads nowhere. Copy the linked file beside this one, or name another with "
                        "`--frames-key`."
                    )
            return found

    def _link(self, key: str) -> str | None:
        try:
            link = self.file.get(key, getlink=True)
        except (KeyError, RuntimeError, ValueError):
            return None
        if isinstance(link, h5py.SoftLink):
            return str(link.path)
        if isinstance(link, h5py.ExternalLink):
            return f"{link.filename}:{link.path}"
        return None

    def datasets(self) -> dict[str, h5py.Dataset]:
        """Return every data set by its path, each once, links that lead nowhere left out.

        Raises:
            DataError: there are too many.
        """
        found: dict[str, h5py.Dataset] = {}
        seen: set[tuple[int, int]] = set()
        waiting: list[tuple[str, h5py.Group, int]] = [("", self.file, 0)]
        n_links = 0
        with translated(self.path.name, "its tree"):
            while waiting:
                where, group, depth = waiting.pop(0)
                for key in group:
                    n_links += 1
                    if n_links > MOST_OBJECTS:
                        raise DataError(
                            f"{self.path.name}: it holds more than {MOST_OBJECTS} objects. Name the data set "
                            "with `--frames-key`."
                        )
                    try:
                        item = group.get(key)
                    except _BROKEN:
                        continue
                    if not isinstance(item, h5py.Group | h5py.Dataset):
                        continue
                    info = h5py.h5o.get_info(item.id)
                    if (info.fileno, info.addr) in seen:
                        continue
                    seen.add((info.fileno, info.addr))
                    path = f"{where}/{key}".lstrip("/")
                    if isinstance(item, h5py.Dataset):
                        found[path] = item
                    elif depth < DEEPEST:
                        waiting.append((path, item, depth + 1))
        return found

    def listing(self) -> str:
        """Say what is in the file, the larger data sets first, and how to name them."""
        arrays = sorted(
            (
                (item.size or 0, f"`{one_line(key, 60)}` {item.shape}")
                for key, item in self.datasets().items()
                if item.shape
            ),
            reverse=True,
        )
        shown = ", ".join(text for _, text in arrays[:8]) or "no arrays"
        more = f" and {len(arrays) - 8} more" if len(arrays) > 8 else ""
        return f"Found {shown}{more}. Name them with `--frames-key`, `--positions-key` and `--probe-key`."

    def read(self, item: h5py.Dataset) -> np.ndarray:
        """Read a whole data set that is no stack of frames; MATLAB's complex numbers become NumPy's.

        Raises:
            DataError: it is larger than anything but frames should be, or damaged.
        """
        what = f"`{item.name}`"
        with translated(self.path.name, what):
            if item.shape is None or item.dtype.hasobject:
                raise DataError(
                    f"{self.path.name}: {one_line(what)} holds no plain numbers. Name another data set."
                )
            if item.nbytes > LARGEST_ARRAY_BYTES:
                raise DataError(
                    f"{self.path.name}: {one_line(what)} {item.shape} needs {item.nbytes / 2**30:.1f} GiB. "
                    f"Expected at most {LARGEST_ARRAY_BYTES / 2**30:.1f} GiB for anything but frames."
                )
            require_sound_storage(item, self.path)
            return _complex(np.asarray(item[()]))

    def array(self, key: str) -> np.ndarray | None:
        """Read a data set by its path, None where there is none."""
        item = self.dataset(key)
        return None if item is None else self.read(item)

    def number(self, *keys: str) -> tuple[float, str | None] | None:
        """Read the first of these scalars that is there, with the unit that stands beside it."""
        for key in keys:
            item = self.dataset(key)
            if item is None or item.dtype.kind not in "iuf" or not 1 <= (item.size or 0) <= 1 << 20:
                continue
            values = self.read(item).reshape(-1)
            return float(values[0]), unit_of(item)
        return None

    def length_m(self, *keys: str) -> float | None:
        """Read a length in metres; numbers without a unit are metres."""
        found = self.number(*keys)
        if found is None:
            return None
        return _positive(found[0] * (length_factor(found[1]) or 1.0))

    def energy_ev(self, *keys: str) -> float | None:
        """Read a photon energy in electronvolts."""
        found = self.number(*keys)
        return None if found is None else _positive(energy_in_ev(*found))

    def frames(self, item: h5py.Dataset) -> Hdf5Source:
        """Leave the frames of a data set where they are.

        Raises:
            DataError: it has the wrong rank, or declares what it does not hold.
        """
        with translated(self.path.name, f"`{item.name}`"):
            return _source(self.path, item)


def unit_of(item: h5py.Dataset) -> str | None:
    """Return the `units` attribute of a data set, None where there is none."""
    try:
        said = item.attrs.get("units")
    except _BROKEN:
        return None
    if isinstance(said, np.ndarray) and said.size == 1:
        said = said.reshape(-1)[0]
    if isinstance(said, bytes):
        said = said.decode("utf-8", "replace")
    return said if isinstance(said, str) and said.strip() else None


def text_of(value: Any) -> str:  # Any: what h5py returns for an attribute
    """Return an attribute as text, empty where it is none."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _positive(value: float) -> float | None:
    return value if np.isfinite(value) and value > 0 else None


def _complex(values: np.ndarray) -> np.ndarray:
    """Join the two fields by which MATLAB and others store complex numbers."""
    names = values.dtype.names
    if names is None or len(names) != 2:
        return values
    real, imaginary = values[names[0]], values[names[1]]
    if {names[0][:1].lower(), names[1][:1].lower()} != {"r", "i"}:
        return values
    if names[0][:1].lower() == "i":
        real, imaginary = imaginary, real
    joined = np.empty(values.shape, np.result_type(real.dtype, np.complex64))
    joined.real, joined.imag = real, imaginary
    return joined


@dataclass(frozen=True, eq=False)
class Hdf5Source:
    """Frames of an HDF5 data set of rank 3, or 4 for a raster of (rows, columns) frames.

    Attributes:
        frame_axis_last: the frames are stored as (H, W, M).
        leading: how many axes of length 1 stand before the others.
    """

    path: Path
    key: str
    stored_shape: tuple[int, ...]
    stored_dtype: np.dtype
    leading: int = 0
    trailing: int = 0
    frame_axis_last: bool = False
    _open: dict[int, tuple[h5py.File, h5py.Dataset]] = field(default_factory=dict, repr=False)

    @property
    def _inner(self) -> tuple[int, ...]:
        return self.stored_shape[self.leading : len(self.stored_shape) - self.trailing]

    @property
    def shape(self) -> tuple[int, int, int]:
        if len(self._inner) == 4:
            rows, columns, height, width = self._inner
            return rows * columns, height, width
        first, second, third = self._inner
        return (third, first, second) if self.frame_axis_last else (first, second, third)

    @property
    def dtype(self) -> np.dtype:
        return self.stored_dtype

    def frames_first(self) -> Hdf5Source:
        return replace(self, frame_axis_last=True, _open={})

    def read(self, chosen: np.ndarray) -> np.ndarray:
        with translated(self.path.name, f"`{self.key}`"):
            return self._read(self._dataset(), chosen)

    def _read(self, item: h5py.Dataset, chosen: np.ndarray) -> np.ndarray:
        lead = (0,) * self.leading
        trail = (0,) * self.trailing
        if len(self._inner) == 4:
            row, column = np.divmod(chosen, self._inner[1])
            blocks = [item[(*lead, int(r), _selection(column[row == r]))] for r in np.unique(row)]
            return np.concatenate(blocks)
        if self.frame_axis_last:
            block = item[(*lead, slice(None), slice(None), _selection(chosen), *trail)]
            return np.ascontiguousarray(np.moveaxis(block, 2, 0))
        return item[(*lead, _selection(chosen), slice(None), slice(None), *trail)]

    def _dataset(self) -> h5py.Dataset:
        """Open the file once in each process: a handle does not survive a fork or a pickle."""
        held = self._open.get(os.getpid())
        if held is None:
            file = _open(self.path)
            item = file[self.key]
            if not isinstance(item, h5py.Dataset):
                raise DataError(f"{self.path.name}: `{one_line(self.key, 80)}` is no data set any more.")
            held = self._open[os.getpid()] = (file, item)
        return held[1]

    def close(self) -> None:
        """Let the file go; the next read opens it again."""
        held = self._open.pop(os.getpid(), None)
        if held is not None:
            held[0].close()

    def __getstate__(self) -> dict[str, Any]:  # Any: the fields
        return {**self.__dict__, "_open": {}}


def _selection(numbers: np.ndarray) -> slice | np.ndarray:
    """Consecutive frames as a slice, for which HDF5 is much faster."""
    steps = np.diff(numbers)
    if steps.size == 0 or np.all(steps == 1):
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers


def _source(path: Path, item: h5py.Dataset) -> Hdf5Source:
    shape, name = item.shape, f"{path.name}: `{one_line(str(item.name), 80)}`"
    if shape is None or item.dtype.kind not in "biuf":
        kind = "complex" if item.dtype.kind == "c" else item.dtype
        raise DataError(
            f"{name} is {kind}. Expected real numbers, one pattern per position.", finding="DATA-001"
        )
    leading = trailing = 0
    while len(shape) - leading > 3 and shape[leading] == 1:
        leading += 1
    while len(shape) - leading - trailing > 3 and shape[-1 - trailing] == 1:
        trailing += 1
    inner = shape[leading : len(shape) - trailing]
    if len(inner) not in (3, 4) or (len(inner) == 4 and trailing) or 0 in inner:
        raise DataError(
            f"{name} has shape {shape}. Expected (frames, H, W), or a raster (rows, columns, H, W).",
            finding="DATA-001",
        )
    require_sound_storage(item, path)
    # Behind an external link it is another file, in which the data set has another name.
    return Hdf5Source(Path(item.file.filename), str(item.name), shape, item.dtype, leading, trailing)


def require_sound_storage(item: h5py.Dataset, path: Path) -> None:
    """Refuse a data set that declares more than it holds, whose sources are missing, or that expands too far.

    Raises:
        DataError: says which.
    """
    name = f"{path.name}: `{one_line(str(item.name), 80)}`"
    if item.is_virtual:
        _require_sources(item, name)
        return
    if item.external:
        raise DataError(f"{name} keeps its values as raw bytes in another file, which is not followed.")
    stored = item.id.get_storage_size()
    if item.nbytes > _EMPTY_BYTES and stored < item.nbytes / _EMPTY_RATIO:
        raise DataError(
            f"{name} declares {item.nbytes / 2**30:.1f} GiB and holds {stored} bytes; most of it was never "
            "written. Expected frames; was the scan aborted?"
        )
    if item.chunks is None:
        return
    chunk_bytes = int(np.prod(item.chunks, dtype=object)) * item.dtype.itemsize
    if chunk_bytes > LARGEST_CHUNK_BYTES:
        raise DataError(
            f"{name} is stored in blocks of {chunk_bytes / 2**20:.0f} MiB. Expected at most "
            f"{LARGEST_CHUNK_BYTES / 2**20:.0f}; rechunk it, for instance with `h5repack -l CHUNK=1xHxW`."
        )
    _require_filters(item, name)
    if item.compression == "gzip":
        _require_bounded_chunks(item, chunk_bytes, name)


def _require_sources(item: h5py.Dataset, name: str) -> None:
    """A virtual data set whose source is missing reads as zeros, without a word."""
    for source in item.virtual_sources():
        if source.file_name != "." and "%" not in source.file_name:
            file = Path(item.file.filename).parent / source.file_name
            if not file.is_file():
                raise DataError(
                    f"{name} is put together from other files, and `{one_line(source.file_name, 80)}` is not "
                    "there. Copy it beside this one."
                )


def _require_filters(item: h5py.Dataset, name: str) -> None:
    plist = item.id.get_create_plist()
    for index in range(plist.get_nfilters()):
        code, _, _, said = plist.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            raise DataError(
                f"{name} is compressed with `{one_line(said.decode('utf-8', 'replace'), 40)}` ({code}), "
                "which HDF5 does not know here. Type `pip install hdf5plugin`."
            )


def _require_bounded_chunks(item: h5py.Dataset, chunk_bytes: int, name: str) -> None:
    """HDF5 inflates a chunk to whatever size it claims; look first where that could be much."""
    suspects: list[tuple[int, ...]] = []
    harmless = 64 * max(chunk_bytes, 1 << 20)

    def look(chunk: Any) -> None:  # Any: h5py's StoreInfo
        if chunk.size > _DEFLATE_CHECKED_BYTES or chunk.size * _DEFLATE_RATIO > harmless:
            suspects.append(chunk.chunk_offset)

    item.id.chunk_iter(look)
    for offset in suspects:
        mask, raw = item.id.read_direct_chunk(offset)
        if mask:
            continue
        stream, size = zlib.decompressobj(), 0
        while raw and not stream.eof:
            size += len(stream.decompress(raw, 1 << 20))
            raw = stream.unconsumed_tail
            if size > chunk_bytes:
                raise DataError(
                    f"{name}: a block at {offset} expands to more than the {chunk_bytes} bytes that it "
                    "should have. Copy or export the file again."
                )


_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def numbered(keys: list[str]) -> list[str] | None:
    """Order names such as `data_000001`, `data_000002`; None unless they differ in their number only."""
    matches = [_NUMBERED.match(key) for key in keys]
    if any(match is None for match in matches):
        return None
    stems = {match.group(1) for match in matches if match}
    if len(stems) != 1:
        return None
    return sorted(keys, key=lambda key: int(_NUMBERED.match(key).group(2)))  # type: ignore[union-attr]
