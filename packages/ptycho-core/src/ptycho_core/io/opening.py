"""`open_scan` and `scan_from_arrays`: a scan from a file, a named data set, or arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ptycho_config.errors import DataError
from ptycho_config.plaintext import plain
from ptycho_config.values import Orientation
from ptycho_core import datasets
from ptycho_core.files import expanded
from ptycho_core.given import expect, expect_reading
from ptycho_core.io.checked_scan import admit
from ptycho_core.io.formats import npz
from ptycho_core.io.formats.reading import read_scan_file
from ptycho_core.io.npz import Archive
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.raster import as_raster
from ptycho_core.io.raw_scan import RawScan, RequestedKeys
from ptycho_core.ranks import ALONE, Ranks
from ptycho_core.scan import Scan
from ptycho_core.scan.held import held
from ptycho_core.scan.lazy import LazyFrames
from ptycho_core.scan.source_file import SourceFile

__all__ = ["open_scan", "read_raw_scan", "read_scan", "scan_from_arrays"]


def open_scan(
    source: str | Path,
    *,
    measurement: Literal["auto", "amplitude", "counts"] = "auto",
    dc: Literal["auto", "center", "corner"] = "auto",
    probe_file: str | Path | None = None,
    probe_start: Literal["given", "estimated", "conjugate"] = "given",
    pixel_size_m: float | None = None,
    energy_ev: float | None = None,
    electrons: float | str | None = None,
    distance_m: float | None = None,
    detector_pixel_m: float | None = None,
    frames_key: str | None = None,
    positions_key: str | None = None,
    probe_key: str | None = None,
    positions_file: str | Path | None = None,
    positions_unit: Literal["auto", "px", "m", "mm", "um", "nm"] = "auto",
    scan_step: str | None = None,
    scan_shape: tuple[int, ...] | None = None,
    positions_orientation: Orientation = "as-is",
    positions_scale: tuple[float, ...] = (1.0,),
    positions_turn_deg: float = 0.0,
    frames_orientation: Orientation = "as-is",
    crop_px: int | None = None,
    beam_center_px: tuple[int, ...] | None = None,
    rebin: int = 1,
    dark: str | Path | np.ndarray | None = None,
    flat: str | Path | np.ndarray | None = None,
    counts_per_photon: float | None = None,
    bad_pixels: Literal["auto", "file", "off"] = "auto",
    mask: str | Path | np.ndarray | None = None,
    mask_invert: bool = False,
    bad_frames: Literal["auto", "off"] = "auto",
    frames: str | None = None,
    exclude_frames: str | Sequence[int] | None = None,
    region: str | None = None,
    missing_positions: Literal["drop", "interpolate"] = "drop",
) -> Scan:
    """Open a scan and check it once.

    Args:
        source: a file of a known format (NPZ, `.npz.bz2`, NPY, TIFF or a directory of them, MATLAB, and
            HDF5 as CXI, NeXus, PtyPy or Ptychodus write it), or the name of a data set such as
            "siemens-star", which is fetched when it is not here yet.
        measurement: what the values are; "auto" decides by the rules of
            docs/reference/physics.md, "Counts or amplitude".
        dc: where the zero frequency is; "auto" looks where the mean pattern is bright.
        probe_file: an NPZ or a product file (`.h5`) whose probe replaces the scan's.
        probe_start: start from that probe, from one that is estimated from the frames instead, or from the
            complex conjugate, whose defocus has the other sign.
        pixel_size_m, energy_ev, distance_m, detector_pixel_m: override what the file says.
        electrons: volts that accelerate electrons, in the place of photons; a number, or text such as
            "80kV".
        frames_key, positions_key, probe_key: names in the file, before those that its format knows.
            Positions are (y, x) pairs, or two names joined by a comma, that of y first.
        positions_file: where the positions are, if not in `source`: a table, NPY, NPZ, HDF5 or a product.
        positions_unit: what the positions are counted in; "auto" goes by the file.
        scan_step: "DY,DX" of a raster, or one step for both, in object pixels or with a unit such as
            "31.25A"; it takes the place of positions.
        scan_shape: rows and columns of that raster; as the frames are stored when None.
        positions_orientation, frames_orientation: one of eight ways to turn them.
        positions_scale: factor on the positions behind that, or two, those of y and of x.
        positions_turn_deg: angle by which they are then turned about the origin, from y to x.
        crop_px: side of the square that is kept around the beam, in pixels as stored.
        beam_center_px: (y, x) pixel of the beam, as stored; found when None.
        rebin: so many pixels along either axis become one.
        dark: frame to subtract, an array or `FILE[:KEY]`. flat: response of each pixel to divide by.
        counts_per_photon: what the detector gives for a photon, by which the frames are divided; found from
            mean and variance, with a warning, where the frames can be no photons.
        bad_pixels: "auto" leaves out what is not data beside the file's own mask; "file" only the mask;
            "off" neither.
        mask: an array or `FILE[:KEY]` (NPY, NPZ, HDF5, CXI, TIFF) that marks bad pixels by any value but 0;
            a key called `mask` in an NPZ marks good ones. It is joined with what else is bad.
        mask_invert: 0 marks bad pixels there instead; without `mask`, in the file's own mask.
        bad_frames: "auto" leaves out frames that are empty, far brighter or darker than all others, not
            finite, or stored twice; "off" keeps them.
        frames: use only these frames of the file, "START:STOP:STEP".
        exclude_frames: numbers, or text such as "3,17,40:45", or a file that lists them.
        region: use only frames whose position lies in "Y0:Y1,X0:X1", in the unit of the positions.
        missing_positions: leave out frames without a position, or put them between their neighbours in time.

    Returns:
        The scan, its frames read from the file in blocks. `Scan.notes` says what was decided.

    Raises:
        DataError: the file is missing, damaged or no scan; one line says what to do.
        ConfigError: an option has an impossible value.
        TypeError: the source is no path, or an option is of another type.

    Example:
        >>> scan = open_scan("siemens-star")
        >>> scan.n_frames, scan.frame_px
        (516, 128)
    """
    options = ReadOptions(
        measurement=measurement,
        dc=dc,
        probe_file=probe_file,
        probe_start=probe_start,
        pixel_size_m=pixel_size_m,
        energy_ev=energy_ev,
        electrons=electrons,
        distance_m=distance_m,
        detector_pixel_m=detector_pixel_m,
        frames_key=frames_key,
        positions_key=positions_key,
        probe_key=probe_key,
        positions_file=positions_file,
        positions_unit=positions_unit,
        scan_step=scan_step,
        scan_shape=scan_shape,
        positions_orientation=positions_orientation,
        positions_scale=positions_scale,
        positions_turn_deg=positions_turn_deg,
        frames_orientation=frames_orientation,
        crop_px=crop_px,
        beam_center_px=beam_center_px,
        rebin=rebin,
        dark=dark,
        flat=flat,
        counts_per_photon=counts_per_photon,
        bad_pixels=bad_pixels,
        mask=mask,
        mask_invert=mask_invert,
        bad_frames=bad_frames,
        frames=frames,
        exclude_frames=exclude_frames,
        region=region,
        missing_positions=missing_positions,
    )
    expect(source, (str, Path), "open_scan", "the path of a scan or the name of a data set")
    expect_reading("open_scan", vars(options))
    return read_scan(source, options)


def read_scan(source: str | Path, options: ReadOptions, *, ranks: Ranks = ALONE) -> Scan:
    """Do what `open_scan` does, with its keywords in one value.

    Args:
        ranks: that open the scan together; each reads its own frames, as far as the format lets it
            (docs/how-to/cluster.md). All of them call this.

    Raises:
        DataError, ConfigError: as for `open_scan`.
    """
    scan = admit(read_raw_scan(source, options), options, ranks)
    if scan.origin is not None and scan.known_sha256 is None:
        scan.origin.begin_checksum()
    return scan


def read_raw_scan(source: str | Path, options: ReadOptions) -> RawScan:
    """Read what a file offers, and the positions from their own file where there is one.

    Raises:
        DataError: a file is missing, damaged, of no known format, or holds no scan.
    """
    elsewhere = options.scan_step is not None
    raw = _read_frames_file(source, RequestedKeys.of(options, positions_elsewhere=elsewhere))
    raw = as_raster(replace(raw, frames=held(raw.frames)), options)
    where = options.positions_file
    if where is None and raw.positions_px is None and not elsewhere:
        where = _positions_inside(source)
    if where is None:
        return raw
    from ptycho_core.io.positions import with_positions

    return with_positions(raw, expanded(where), options.positions_key)


def _positions_inside(source: str | Path) -> Path | None:
    """Return the one file `positions.*` in a directory of frames."""
    path = expanded(source)
    found = sorted(path.glob("positions.*")) if path.is_dir() else []
    return found[0] if len(found) == 1 else None


def _read_frames_file(source: str | Path, keys: RequestedKeys) -> RawScan:
    data_set = _data_set(source)
    if data_set is not None:
        path = datasets.fetch(data_set.name)
        # Its content was right when it was stored, so damage means that what is here now has to go.
        cure = f"Remove {path} and type `ptycho data fetch {data_set.name}`."
        origin = SourceFile.of(path)
        raw = npz.read(Archive(path, cure=cure), data_set.name, keys)
        return replace(raw, known_sha256=data_set.sha256, origin=origin)
    path = expanded(source)
    near = datasets.nearest_name(str(path))
    if near is not None and not path.exists():
        raise DataError(
            f"{path}: no such file, and no data set of that name. Did you mean `{near}`? Data sets: "
            f"{', '.join(datasets.DATASETS)}."
        )
    origin = SourceFile.of(path)  # opened first: what is read is not older
    raw = read_scan_file(path, _scan_name(path), keys)
    return replace(raw, origin=origin or SourceFile.of(raw.source))


def _data_set(source: str | Path) -> datasets.DataSet | None:
    """Recognise the name of a data set; a file of that name comes first, a directory does not."""
    data_set = datasets.DATASETS.get(str(source))
    return None if data_set is None or Path(source).is_file() else data_set


def _scan_name(path: Path) -> str:
    """Return the file's name without the endings that scans have, as plain text."""
    return plain(path.name.removesuffix(".bz2").removesuffix(".npz") or path.name)


def scan_from_arrays(
    frames: np.ndarray | LazyFrames,
    positions_px: np.ndarray,
    probe: np.ndarray | None = None,
    *,
    measurement: Literal["auto", "amplitude", "counts"] = "auto",
    dc: Literal["auto", "center", "corner"] = "auto",
    bad_pixels: np.ndarray | None = None,
    bad_frames: Literal["auto", "off"] = "auto",
    name: str = "scan",
    probe_source: Literal["file", "given"] = "given",
    position_convention: Literal["index", "center"] = "index",
    ground_truth: np.ndarray | None = None,
    patch_truth: np.ndarray | None = None,
    pixel_size_m: float | None = None,
    energy_ev: float | None = None,
    distance_m: float | None = None,
    nphotons: float | None = None,
    counts_per_photon: float | None = None,
    metadata: Mapping[str, Any] | None = None,  # Any: whatever JSON the caller chose
    notes: tuple[str, ...] = (),
) -> Scan:
    """Check arrays in memory exactly as `open_scan` checks a file, and make a scan of them.

    Args:
        frames: (M, N, N), or another layout that `open_scan` knows, such as (N, N, M).
        positions_px: (M, 2) in the order (y, x).
        probe: (N, N), (N, N, 1) or (P, N, N); estimated from the mean pattern when None.
        bad_pixels: (N, N) or (M, N, N), True = bad, DC in the same place as in `frames`.
        bad_frames: "auto" leaves out frames that are no data, as `open_scan` does; "off" keeps all.
        counts_per_photon: as for `open_scan`; 1 keeps counts in the unit in which they are given.
        position_convention: "center" adds half a pixel, see
            docs/reference/physics.md, "Pixel convention".

    Raises:
        DataError: the arrays do not make a scan; the message says which and why.
        TypeError: a keyword has another type.
    """
    reading: dict[str, Any] = {"measurement": measurement, "dc": dc, "bad_frames": bad_frames}
    lengths = {"pixel_size_m": pixel_size_m, "energy_ev": energy_ev, "distance_m": distance_m}
    reading["counts_per_photon"] = counts_per_photon
    expect_reading("scan_from_arrays", {**reading, **lengths})
    expect(name, str, "scan_from_arrays", "text as `name`")
    if nphotons is not None:
        expect(nphotons, Real, "scan_from_arrays", "a number as `nphotons`")
    if metadata is not None:
        expect(metadata, Mapping, "scan_from_arrays", "a mapping as `metadata`")
    raw = RawScan(
        name=plain(name),
        frames=frames,
        positions_px=positions_px,
        probe=probe,
        probe_source=probe_source,
        bad_pixels=bad_pixels,
        position_convention=position_convention,
        ground_truth=ground_truth,
        patch_truth=patch_truth,
        pixel_size_m=pixel_size_m,
        energy_ev=energy_ev,
        distance_m=distance_m,
        nphotons=nphotons,
        metadata={} if metadata is None else dict(metadata),
        notes=notes,
    )
    options = ReadOptions(
        measurement=measurement, dc=dc, bad_frames=bad_frames, counts_per_photon=counts_per_photon
    )
    return admit(raw, options)
