"""One scan written in every format, by hand, as other programs write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptycho_core import Scan
from ptycho_core.io.units import HC_EV_M, JOULE_PER_EV, object_pixel_m
from ptycho_core.simulate import simulate_scan

__all__ = ["WRITERS", "Original", "Written", "original_of", "small"]

ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M = 8800.0, 2.335, 75e-6


@dataclass(frozen=True)
class Original:
    """What every file holds.

    Attributes:
        counts: (M, N, N) uint16, DC in the centre.
        pixel_m: what energy, distance and detector pixel give.
    """

    counts: np.ndarray
    positions_px: np.ndarray
    probe: np.ndarray
    bad_pixels: np.ndarray

    @property
    def pixel_m(self) -> float:
        pixel = object_pixel_m(
            energy_ev=ENERGY_EV,
            distance_m=DISTANCE_M,
            detector_pixel_m=DETECTOR_PIXEL_M,
            frame_px=self.counts.shape[-1],
        )
        assert pixel is not None
        return pixel

    @property
    def positions_m(self) -> np.ndarray:
        return self.positions_px * self.pixel_m


@dataclass(frozen=True)
class Written:
    """A file and how it is opened."""

    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    has_probe: bool = True
    has_mask: bool = False
    has_pixel: bool = True


def small() -> Original:
    """Thirty frames of 32 x 32 pixels: quick to open, no number that could be taken for another."""
    made = simulate_scan(object_kind="star", frame_px=32, frames=30, photons=1e5, seed=3)
    return original_of(made.scan)


def original_of(scan: Scan) -> Original:
    """Take the counts of a scan, with one bad pixel; its lengths are made up."""
    counts = np.rint(scan.counts()).astype(np.uint16)
    bad = np.zeros(counts.shape[1:], bool)
    bad[1, 2] = True
    return Original(counts, scan.positions_px.copy(), scan.probe.copy(), bad)


def write_npz(path: Path, o: Original) -> Written:
    path = path / "scan.npz"
    y, x = o.positions_px.T
    np.savez(path, diff3d=o.counts, xcoords=x, ycoords=y, probeGuess=o.probe)
    return Written(path, has_pixel=False)


def write_tike(path: Path, o: Original) -> Written:
    path = path / "tike.npz"
    corner = np.fft.ifftshift(o.counts, axes=(1, 2)).astype(np.float32)
    np.savez(path, data=corner[None], scan=o.positions_px[None], probe=o.probe[None, None, None])
    return Written(path, has_pixel=False)


def write_lcls(path: Path, o: Original) -> Written:
    path = path / "lcls.npz"
    y, x = o.positions_px.T
    np.savez(path, diffraction=o.counts, xcoords=x, ycoords=y, probe=o.probe)
    return Written(path, has_pixel=False)


def write_npy(path: Path, o: Original) -> Written:
    np.save(path / "frames.npy", o.counts)
    table = "\n".join(["y,x", *(f"{float(y)!r},{float(x)!r}" for y, x in o.positions_px)])
    (path / "positions.csv").write_text(table)
    np.savez(path / "probe.npz", probeGuess=o.probe)
    return Written(
        path / "frames.npy",
        {"positions_file": path / "positions.csv", "probe_file": path / "probe.npz"},
        has_pixel=False,
    )


def write_tiff(path: Path, o: Original) -> Written:
    import tifffile

    tifffile.imwrite(path / "frames.tif", o.counts, photometric="minisblack", compression="zlib")
    np.save(path / "positions.npy", o.positions_m)
    np.savez(path / "probe.npz", probeGuess=o.probe)
    lengths = {"energy_ev": ENERGY_EV, "distance_m": DISTANCE_M, "detector_pixel_m": DETECTOR_PIXEL_M}
    return Written(
        path / "frames.tif",
        {"positions_file": path / "positions.npy", "probe_file": path / "probe.npz", **lengths},
    )


def write_tiff_directory(path: Path, o: Original) -> Written:
    import tifffile

    directory = path / "frames"
    directory.mkdir()
    for number, frame in enumerate(o.counts):
        tifffile.imwrite(directory / f"frame_{number}.tif", frame, photometric="minisblack")
    np.savez(path / "more.npz", positions_px=o.positions_px, probe=o.probe)
    return Written(
        directory, {"positions_file": path / "more.npz", "probe_file": path / "more.npz"}, has_pixel=False
    )


def write_cxi(path: Path, o: Original) -> Written:
    path = path / "scan.cxi"
    y, x = o.positions_m.T
    with h5py.File(path, "w") as f:
        f["cxi_version"] = 160
        instrument = f.create_group("entry_1/instrument_1")
        near = instrument.create_group("detector_1")
        near["data"] = np.ones((len(o.counts), 48, 48), np.uint16)
        near["distance"] = 0.1
        near["description"] = "near field camera"
        far = instrument.create_group("detector_2")
        far.create_dataset("data", data=o.counts, chunks=(1, *o.counts.shape[1:]), compression="lzf")
        far["distance"] = DISTANCE_M
        far["x_pixel_size"] = far["y_pixel_size"] = DETECTOR_PIXEL_M
        # Flag 0x1000 (has signal) says nothing bad, 0x8 (dead) does.
        far["mask"] = np.where(o.bad_pixels, 0x8, 0x1000).astype(np.uint32)
        instrument["source_1/energy"] = ENERGY_EV * JOULE_PER_EV
        instrument["source_1/illumination"] = o.probe
        f["entry_1/sample_1/geometry_1/translation"] = np.stack([x, y, np.zeros_like(x)], axis=1)
        f["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_2/data")
        f["entry_1/data_1/translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
    return Written(path, has_mask=True)


def write_ptyd(path: Path, o: Original) -> Written:
    path = path / "scan.ptyd"
    with h5py.File(path, "w") as f:
        for number, rows in enumerate(np.array_split(np.arange(len(o.counts)), 3)):
            chunk = f.create_group(f"chunks/{number}")
            chunk["data"] = o.counts[rows].astype(np.int32)
            chunk["indices"] = rows
            chunk["positions"] = o.positions_m[rows]
            chunk["weights"] = np.zeros(0)
        f["meta/energy"] = ENERGY_EV / 1e3
        f["meta/distance"] = DISTANCE_M
        f["meta/psize"] = np.full(2, DETECTOR_PIXEL_M)
        f["meta/weight2d"] = (~o.bad_pixels).astype(float)
        f["info/num_frames"] = len(o.counts)
    np.savez(path.with_name("probe.npz"), probeGuess=o.probe)
    return Written(path, {"probe_file": path.with_name("probe.npz")}, has_mask=True)


def write_product(path: Path, o: Original, *, raw: bool) -> Path:
    from ptycho_core.io.product import write_product as write

    write(
        path,
        obj=np.ones((60, 80), np.complex64),
        probe=o.probe,
        positions_px=o.positions_px,
        origin_px=o.positions_px.min(axis=0) - 20,
        name="scan",
        pixel_size_m=o.pixel_m,
        energy_ev=ENERGY_EV,
        distance_m=DISTANCE_M,
    )
    if raw:
        with h5py.File(path, "a") as f:
            group = f.create_group("raw_data")
            group["diffraction"] = o.counts
            group["diffraction"].attrs["axis_canonical"] = "NHW"
            group["bad_pixels"] = o.bad_pixels
    return path


def write_ptychodus(path: Path, o: Original) -> Written:
    with h5py.File(path / "diffraction.h5", "w") as f:
        f.create_dataset("dp", data=o.counts, compression="lzf")
    product = write_product(path / "product.h5", o, raw=False)
    return Written(path / "diffraction.h5", {"positions_file": product})


def write_ptychodus_raw(path: Path, o: Original) -> Written:
    return Written(write_product(path / "both.h5", o, raw=True), has_mask=True)


def write_nexus(path: Path, o: Original) -> Written:
    path = path / "scan.nxs"
    with h5py.File(path, "w") as f:
        entry = f.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        detector = entry.create_group("instrument/detector")
        detector.attrs["NX_class"] = "NXdetector"
        frames = np.concatenate([np.full_like(o.counts[:2], 7), o.counts])
        detector.create_dataset("data", data=frames, chunks=(4, *o.counts.shape[1:]), compression="gzip")
        detector["image_key"] = np.r_[1, 2, np.zeros(len(o.counts))].astype(int)
        detector["pixel_mask"] = o.bad_pixels.astype(np.uint32)
        for key, value, unit in (
            ("distance", DISTANCE_M * 1e3, "mm"),
            ("x_pixel_size", DETECTOR_PIXEL_M * 1e6, "um"),
        ):
            detector[key] = value
            detector[key].attrs["units"] = unit
        entry["instrument/beam/incident_energy"] = ENERGY_EV / 1e3
        entry["instrument/beam/incident_energy"].attrs["units"] = "keV"
        for key, values in zip(("y", "x"), o.positions_m.T, strict=True):
            entry[f"sample/transformations/{key}"] = np.r_[0, 0, values] * 1e6
            entry[f"sample/transformations/{key}"].attrs["units"] = "um"
        entry["data/data"] = h5py.SoftLink("/entry/instrument/detector/data")
        entry["result/probe"] = o.probe
    return Written(path, has_mask=True)


def write_raster(path: Path, o: Original) -> Written:
    """A raster of rows and columns, with keys that nobody could guess."""
    path = path / "raster.h5"
    rows, columns = 2, len(o.counts) // 2
    with h5py.File(path, "w") as f:
        f["scan/images"] = o.counts.reshape(rows, columns, *o.counts.shape[1:])
        f["motors/fast"] = o.positions_px[:, 1].reshape(rows, columns)
        f["motors/slow"] = o.positions_px[:, 0].reshape(rows, columns)
        f["beam/guess"] = o.probe
    keys = {
        "frames_key": "scan/images",
        "positions_key": "motors/slow,motors/fast",
        "probe_key": "beam/guess",
    }
    return Written(path, keys, has_pixel=False)


def write_matlab(path: Path, o: Original) -> Written:
    """As MATLAB's `save -v7.3` writes (rows, columns, frames) arrays: all axes in reverse."""
    path = path / "scan.mat"
    kind = np.dtype([("real", "f4"), ("imag", "f4")])
    probe = np.zeros((1, *o.probe.shape[1:]), kind)
    probe["real"], probe["imag"] = o.probe[:1].real, o.probe[:1].imag
    with h5py.File(path, "w", userblock_size=512) as f:
        f["diffraction"] = o.counts.transpose(0, 2, 1)
        f["xcoords"] = o.positions_px[:, 1][np.newaxis]
        f["ycoords"] = o.positions_px[:, 0][np.newaxis]
        f["probe"] = probe.transpose(0, 2, 1)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    return Written(path, has_pixel=False)


def write_ptylab(path: Path, o: Original) -> Written:
    """The frames mirrored, as `orientation` then says."""
    with h5py.File(path / "ptylab.hdf5", "w") as f:
        f["ptychogram"] = np.roll(o.counts[:, :, ::-1], 1, axis=2)
        f["encoder"] = o.positions_m
        f["wavelength"] = HC_EV_M / ENERGY_EV
        f["zo"], f["dxd"], f["orientation"] = DISTANCE_M, DETECTOR_PIXEL_M, 1
        f["probe"] = o.probe
    return Written(path / "ptylab.hdf5", {"probe_key": "probe"})


def write_xptycho(path: Path, o: Original) -> Written:
    with h5py.File(path / "xptycho.h5", "w") as f:
        group = f.create_group("scan")
        group.create_dataset("frames", data=o.counts, chunks=(1, *o.counts.shape[1:]), compression="gzip")
        group["positions"] = o.positions_m
        group["positions"].attrs["units"] = "m"
        group.attrs["wavelength"] = HC_EV_M / ENERGY_EV
        group.attrs["detector_distance"], group.attrs["detector_pitch"] = DISTANCE_M, DETECTOR_PIXEL_M
        f["sample/probe"] = o.probe
    return Written(path / "xptycho.h5", {"probe_key": "sample/probe"})


def write_fold_slice(path: Path, o: Original) -> Written:
    """Frames in one file, positions and lengths in the one beside it."""
    with h5py.File(path / "data_roi0_dp.hdf5", "w") as f:
        f["dp"] = o.counts.astype(np.float32)
        f["probe"] = o.probe
    with h5py.File(path / "data_roi0_para.hdf5", "w") as f:
        f["ppY"], f["ppX"] = o.positions_m.T
        f["lambda"], f["z"] = HC_EV_M / ENERGY_EV, DISTANCE_M
    return Written(path / "data_roi0_dp.hdf5", {"detector_pixel_m": DETECTOR_PIXEL_M})


def write_npy_directory(path: Path, o: Original) -> Written:
    directory = path / "one_by_one"
    directory.mkdir()
    for number, frame in enumerate(o.counts):
        np.save(directory / f"frame_{number}.npy", frame)
    np.save(directory / "positions.npy", o.positions_px)
    np.savez(path / "probe.npz", probeGuess=o.probe)
    return Written(directory, {"probe_file": path / "probe.npz"}, has_pixel=False)


def write_hdf5_directory(path: Path, o: Original) -> Written:
    """Five frames a file, as some detectors write them."""
    directory = path / "by_five"
    directory.mkdir()
    for number, frames in enumerate(np.split(o.counts, len(o.counts) // 5 if len(o.counts) % 5 == 0 else 1)):
        with h5py.File(directory / f"part_{number}.h5", "w") as f:
            f["entry/data/data"] = frames
    np.savez(path / "more.npz", positions_px=o.positions_px, probe=o.probe)
    return Written(
        directory, {"positions_file": path / "more.npz", "probe_file": path / "more.npz"}, has_pixel=False
    )


WRITERS: dict[str, Callable[[Path, Original], Written]] = {
    name.removeprefix("write_"): function
    for name, function in list(globals().items())
    if name.startswith("write_") and name != "write_product"
}
