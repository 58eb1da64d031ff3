"""What a file is before anything in it is read: there, readable, packed, an archive at all."""

from __future__ import annotations

import bz2
import io
from itertools import islice
from pathlib import Path

from ptycho_config.errors import ConfigError, DataError, NotRegularError
from ptycho_config.naming import nearest
from ptycho_config.plaintext import excerpt
from ptycho_config.regular import open_regular
from ptycho_core.io.bounds import refuse_great_growth
from ptycho_core.memory import in_words, memory_bytes

BLOCK_BYTES = 1 << 22
_MOST_NAMES = 1000


def first_bytes(path: Path) -> bytes:
    """Read the beginning of a regular file, or say why that is impossible."""
    shown = excerpt(str(path))
    try:
        if path.is_dir():
            raise DataError(f"{shown}: is a directory. Expected one NPZ file; name a file in it.")
        if not path.exists():
            raise DataError(
                f"{shown}: no such file.{_beside(path)} Expected an NPZ file or the name of a data set."
            )
        with open_regular(path) as file:
            return file.read(8)
    except NotRegularError as error:
        raise DataError(f"{shown}: {error.strerror}. Expected an NPZ file.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        cause = getattr(error, "strerror", None) or excerpt(str(error))
        raise DataError(f"{shown}: cannot be read ({cause}). Expected a readable NPZ file.") from error


def _beside(path: Path) -> str:
    """Name the file of the same directory that was most likely meant, among the first thousand there."""
    try:
        there = [entry.name for entry in islice(path.parent.iterdir(), _MOST_NAMES)]
    except (OSError, ValueError):
        return ""
    meant = nearest(path.name, there)
    return f" Did you mean `{excerpt(str(path.parent / meant))}`?" if meant else ""


def decompressed(path: Path) -> memoryview:
    """Decompress a whole `.bz2` into memory, growing one buffer, never holding it twice."""
    grown = io.BytesIO()
    try:
        packed_bytes = path.stat().st_size
        with bz2.open(path) as stream:
            while block := stream.read(BLOCK_BYTES):
                n_bytes = grown.tell() + len(block)
                refuse_great_growth(path.name, "its decompressed content", n_bytes, packed_bytes)
                refuse_more_than_memory(path, "its decompressed content", n_bytes)
                grown.write(block)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, ConfigError | DataError):
            raise
        raise DataError(
            f"{path.name}: the bzip2 stream is truncated or damaged ({excerpt(str(error))}). Copy or "
            "download it again."
        ) from error
    return grown.getbuffer()


def refuse_more_than_memory(path: Path, what: str, nbytes: int) -> None:
    """Refuse what this process cannot hold, before it is asked for.

    Raises:
        DataError: so it is; says how many bytes it needs and how many there are.
    """
    memory = memory_bytes()
    if memory is not None and nbytes > memory:
        raise DataError(
            f"{path.name}: {what} needs {in_words(nbytes)}, this process may have {in_words(memory)}. "
            f"Save the file with `numpy.savez` instead of `savez_compressed`; its frames are then not loaded."
        )


#: Endings of formats that are not read -> what they are, and what to do.
_ELSEWHERE = {
    ".mib": ("a Merlin (MIB) file", "hyperspy or rosettasciio"),
    ".dm3": ("a Gatan DigitalMicrograph file", "hyperspy or rosettasciio"),
    ".dm4": ("a Gatan DigitalMicrograph file", "hyperspy or rosettasciio"),
    ".mrc": ("an MRC file", "mrcfile"),
    ".ser": ("a TIA file", "hyperspy or rosettasciio"),
    ".edf": ("an ESRF data file (EDF)", "fabio"),
    ".cbf": ("a crystallographic binary file (CBF)", "fabio"),
    ".spe": ("a Princeton Instruments file (SPE)", "its own software"),
}
_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".cxi", ".nxs", ".ptyd", ".ptyr", ".mat")


def not_an_npz(path: Path, first_bytes: bytes) -> str:
    """Say what a file of no known format is, and what to type next."""
    suffix = path.suffix.lower()
    if suffix in _ELSEWHERE:
        what, reader = _ELSEWHERE[suffix]
        return (
            f"{path.name}: this is {what}, which is not read here. Convert it with {reader} and save the "
            "frames: `numpy.save('frames.npy', frames)`; then `ptycho reconstruct frames.npy "
            "--positions-file POSITIONS`, or `--scan-step STEP` for a raster."
        )
    if suffix in _HDF5_SUFFIXES and first_bytes[:1] != b"\x80":
        return f"{path.name}: {_no_hdf5(path, first_bytes)}"
    found = {
        b"": "the file is empty",
        b"\x89HDF\r\n\x1a\n": "this is an HDF5 file",
        b"\x93NUMPY\x01\x00": "this is an NPY file with a single array",
    }.get(first_bytes[:8], "this is not an NPZ archive")
    if first_bytes[:1] == b"\x80":
        found = "this looks like a Python pickle, which is never loaded because unpickling runs code"
    return (
        f"{path.name}: {found}. Expected an NPZ (`.npz` or `.npz.bz2`) with frames, positions and probe, "
        "made for instance by `numpy.savez(path, diff3d=..., xcoords=..., ycoords=..., probeGuess=...)`."
    )


def _no_hdf5(path: Path, first_bytes: bytes) -> str:
    """Say what a file with the ending of HDF5 is instead."""
    if not first_bytes:
        return "the file is empty. Copy or download it again."
    with open_regular(path) as file:
        beginning = file.read(64)
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in beginning):
        text = excerpt(beginning.decode("ascii").splitlines()[0] if beginning.strip() else "", 60)
        return (
            f'this is no HDF5 file but text, which begins with "{text}". If these are positions, give the '
            f"file with the frames and `--positions-file {path.name}`."
        )
    return (
        "this is no HDF5 file; its first bytes are of no known format. Copy or download it again and compare "
        "the sizes."
    )
