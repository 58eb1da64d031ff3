"""`open_scan`: the front door for files and named data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ptycho_config.errors import DataError
from ptycho_core import datasets  # the module, not its names: it writes files, so it imports this package
from ptycho_core.io.door import Arrays, admit
from ptycho_core.io.keys import collect, find_probe
from ptycho_core.io.npz import Archive
from ptycho_core.scan import Scan


def open_scan(
    source: str | Path,
    *,
    measurement: Literal["auto", "amplitude", "counts"] = "auto",
    dc: Literal["auto", "center", "corner"] = "auto",
    probe_file: str | Path | None = None,
    pixel_size_m: float | None = None,
    energy_ev: float | None = None,
    distance_m: float | None = None,
) -> Scan:
    """Open a scan and check it once.

    Args:
        source: an NPZ file (`.npz`, `.npz.bz2`), or the name of a data set such as "siemens-star", which is
            fetched when it is not here yet.
        measurement: what the values are; "auto" decides by the rules of physics.md, section 1.
        dc: where the zero frequency is; "auto" looks where the mean pattern is bright.
        probe_file: an NPZ or a product file (`.h5`) whose probe replaces the scan's.
        pixel_size_m, energy_ev, distance_m: override what the file's metadata says.

    Returns:
        The scan, its frames memory-mapped where the file allows. `Scan.notes` says what was decided.

    Raises:
        DataError: the file is missing, damaged or no scan; one line says what to do.
        ConfigError: an option has an impossible value.

    Example:
        >>> scan = open_scan("siemens-star")
        >>> scan.n_frames, scan.frame_px
        (516, 128)
    """
    given = {"pixel_size_m": pixel_size_m, "energy_ev": energy_ev, "distance_m": distance_m}
    changes: dict[str, Any] = {  # Any: fields of `Arrays`, of several types
        key: value for key, value in given.items() if value is not None
    }
    if probe_file is not None:
        path = expanded(probe_file)
        changes |= {"probe": read_probe(path), "probe_source": "given"}
        changes["notes"] = (f"The start probe was read from {path.name}.",)
    data_set = _data_set(source)
    if data_set is None:
        path = expanded(source)
        return admit(replace(_read(path, scan_name(path)), **changes), measurement=measurement, dc=dc)
    path = datasets.fetch(data_set.name)
    changes["known_sha256"] = data_set.sha256
    # Its content was right when it was stored, so damage means that what is here now has to go.
    cure = f"Remove {path} and type `ptycho data fetch {data_set.name}`."
    arrays = collect(Archive(path, cure=cure), data_set.name)
    return admit(replace(arrays, **changes), measurement=measurement, dc=dc)


def expanded(path: str | Path) -> Path:
    """Replace a leading `~` by the home directory, where there is one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the system knows no such user
        return Path(path)


def scan_name(path: Path) -> str:
    """Return the file's name without the endings that scans have."""
    return path.name.removesuffix(".bz2").removesuffix(".npz") or path.name


def read_probe(path: Path) -> np.ndarray:
    """Read a probe from a scan file, a result (`reconstruction.npz`) or a product file.

    Raises:
        DataError: the file is missing or damaged, or holds no probe.
    """
    if path.suffix in (".h5", ".hdf5"):
        from ptycho_core.io.product import read_product

        return read_product(path).probe
    return find_probe(Archive(path))


def _data_set(source: str | Path) -> datasets.DataSet | None:
    """Recognise the name of a data set; a file of that name comes first, a directory does not."""
    data_set = datasets.DATASETS.get(str(source))
    return None if data_set is None or Path(source).is_file() else data_set


def _read(path: Path, name: str) -> Arrays:
    near = datasets.nearest_name(str(path))
    if near is not None and not path.exists():
        raise DataError(
            f"{path}: no such file, and no data set of that name. Did you mean `{near}`? Data sets: "
            f"{', '.join(datasets.DATASETS)}."
        )
    return collect(Archive(path), name)
