"""What other programs write, and what their users hand over by mistake."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptycho_config import SolverConfig
from ptycho_config.errors import DataError, PolicyWarning
from ptycho_core import Reconstruction, open_scan, solve
from ptycho_core.io.product import read_product
from ptycho_core.simulate import simulate_scan


def write_ptyr(path: Path, result: Reconstruction, *, pixel_m: float, shift_px: float, scale: float) -> Path:
    """As PtyPy writes a result: storages with pixel and origin in metres, the probe in units of its own."""
    with h5py.File(path, "w") as f:
        for kind, data in (("obj", result.object[None]), ("probe", scale * result.probe)):
            store = f.create_group(f"content/{kind}/Sscan00G00")
            store["data"], store["_psize"] = data, np.full(2, pixel_m)
            store["_origin"] = (result.origin_px + shift_px) * pixel_m
            store["_energy"] = 8.8
        f["content/positions/Sscan00G00"] = (result.positions_px + shift_px) * pixel_m
    return path


@pytest.fixture(scope="module")
def solved() -> tuple[Any, Reconstruction]:
    scan = simulate_scan(frames=40, frame_px=32, overlap=0.75, seed=6).scan
    return scan, solve(scan, SolverConfig(effort="fast"))


@pytest.mark.parametrize("kind", ["ptyr", "product"])
def test_a_result_of_another_program_starts_a_run(solved: Any, kind: str, tmp_path: Path) -> None:
    scan, result = solved
    path = tmp_path / f"result.{kind if kind == 'ptyr' else 'h5'}"
    if kind == "ptyr":
        write_ptyr(path, result, pixel_m=1e-8, shift_px=123.25, scale=1e-3)
    else:
        result.save(tmp_path, figures=False)
        path = tmp_path / "reconstruction.h5"
    start = Reconstruction.load(path)
    assert np.isnan(start.data_residual) and not start.image_reliable
    np.testing.assert_array_equal(start.object, result.object)
    once = SolverConfig(epochs=1, effort="fast")
    ours, theirs, none = (solve(scan, once, start=one) for one in (result, start, None))
    # Scale and origin of the other program make no difference.
    assert theirs.data_residual == pytest.approx(ours.data_residual, rel=1e-3)
    assert theirs.data_residual < 0.9 * none.data_residual


def test_a_ptyr_is_no_scan_but_gives_its_probe(solved: Any, tmp_path: Path) -> None:
    _, result = solved
    path = write_ptyr(tmp_path / "result.ptyr", result, pixel_m=1e-8, shift_px=0.0, scale=1.0)
    with pytest.raises(
        DataError, match=r"is a result of PtyPy.*--start result.ptyr.*--probe-file result.ptyr"
    ):
        open_scan(path)
    product = read_product(path)
    assert product.energy_ev == pytest.approx(8800)
    assert product.pixel_size_m == pytest.approx(1e-8)
    np.testing.assert_allclose(product.probe, result.probe)


def test_a_product_without_its_place_names_what_is_missing(tmp_path: Path, solved: Any) -> None:
    solved[1].save(tmp_path, figures=False)
    with h5py.File(tmp_path / "reconstruction.h5", "a") as f:
        del f["object"].attrs["center_y_m"]
    with pytest.raises(DataError, match="the attribute `center_y_m` of `object` is missing"):
        read_product(tmp_path / "reconstruction.h5")


def test_oblong_detector_pixels_are_oblong_object_pixels(original: Any, tmp_path: Path, writers: Any) -> None:
    """Pixels of 75 x 50 um: x in metres as before, y by a pixel that is half as high again."""
    path = writers["cxi"](tmp_path, original).path
    square = open_scan(shutil.copy(path, tmp_path / "square.cxi"))
    with h5py.File(path, "a") as f:
        detector = f["entry_1/instrument_1/detector_2"]
        del detector["y_pixel_size"]
        detector["y_pixel_size"] = 50e-6
    scan = open_scan(path)
    assert scan.pixel_size_m == square.pixel_size_m
    assert scan.pixel_aspect == pytest.approx(1.5)
    np.testing.assert_allclose(scan.positions_px[:, 1], square.positions_px[:, 1])
    np.testing.assert_allclose(scan.positions_px[:, 0], square.positions_px[:, 0] / 1.5)
    turned = open_scan(path, frames_orientation="transpose")
    assert turned.pixel_aspect == pytest.approx(1 / 1.5)
    result = solve(scan, SolverConfig(effort="fast", epochs=1))
    result.save(tmp_path / "out", tiff=True, mat=True)
    assert Reconstruction.load(tmp_path / "out").pixel_aspect == pytest.approx(1.5)
    product = read_product(tmp_path / "out" / "reconstruction.h5")
    assert product.pixel_aspect == pytest.approx(1.5)
    np.testing.assert_allclose(product.positions_px, scan.positions_px)


@pytest.mark.parametrize(
    ("degrees", "mirrored", "rows_first"), [(0, 1, True), (37, 1, False), (-120, -1, True)]
)
def test_basis_vectors_turn_the_sample_s_translation_to_the_detector(
    original: Any, tmp_path: Path, writers: Any, degrees: float, mirrored: int, rows_first: bool
) -> None:
    """The detector turned about the beam, and seen from behind: the positions on it are the same."""
    path = writers["cxi"](tmp_path, original).path
    plain = open_scan(shutil.copy(path, tmp_path / "plain.cxi"))
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    # A step to the next row, then to the next column; as (x, y, z) along the beam.
    directions = np.array([[sine, -cosine, 0.0], [-cosine, -sine, 0.0]]) * [[1], [mirrored]]
    with h5py.File(path, "a") as f:
        translation = f["entry_1/sample_1/geometry_1/translation"]
        rows_m, columns_m = translation[:, 1], translation[:, 0]
        translation[...] = -np.outer(rows_m, directions[0]) - np.outer(columns_m, directions[1])
        steps = directions * np.array([[50e-6], [75e-6]])
        f["entry_1/instrument_1/detector_2/basis_vectors"] = steps if rows_first else steps.T
    scan = open_scan(path)
    assert scan.pixel_size_m == pytest.approx(plain.pixel_size_m)
    assert scan.pixel_aspect == pytest.approx(1.5)
    np.testing.assert_allclose(scan.positions_px[:, 0], plain.positions_px[:, 0] / 1.5, atol=1e-6)
    np.testing.assert_allclose(scan.positions_px[:, 1], plain.positions_px[:, 1], atol=1e-6)
    assert any("turned to the axes of the detector" in note for note in scan.notes)


def test_a_usual_detector_reads_alike_with_basis_vectors_and_without(
    original: Any, tmp_path: Path, writers: Any
) -> None:
    path = writers["cxi"](tmp_path, original).path
    plain = open_scan(shutil.copy(path, tmp_path / "plain.cxi"))
    with h5py.File(path, "a") as f:
        f["entry_1/instrument_1/detector_2/basis_vectors"] = [[0, -75e-6, 0], [-75e-6, 0, 0]]
    np.testing.assert_array_equal(open_scan(path).positions_px, plain.positions_px)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ([[0, -75e-6, 0], [-75e-6, 5e-6, 0]], "rows and columns meet at 86.2 degrees"),
        ([[0, -75e-6, 0], [-50e-6, 0, 50e-6]], "tilted against the beam by 45 degrees"),
        ([[0, 0, 0], [-75e-6, 0, 0]], "zero or not finite"),
        ([[0, np.nan, 0], [-75e-6, 0, 0]], "zero or not finite"),
        ([0.0, 75e-6], r"shape \(2,\).*\(2, 3\) or \(3, 2\)"),
    ],
)
def test_basis_vectors_that_are_no_plane_of_pixels_are_refused(
    original: Any, tmp_path: Path, writers: Any, vectors: Any, said: str
) -> None:
    path = writers["cxi"](tmp_path, original).path
    with h5py.File(path, "a") as f:
        f["entry_1/instrument_1/detector_2/basis_vectors"] = np.asarray(vectors)
    with pytest.raises(DataError, match=said):
        open_scan(path)


def test_a_raster_by_its_two_axes(original: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "axes.h5", "w") as f:
        f["entry/data/data"] = original.counts.reshape(5, 6, *original.counts.shape[1:])
        f["entry/data/y"], f["entry/data/x"] = np.arange(5) * 3.0, np.arange(6) * 4.0
    scan = open_scan(tmp_path / "axes.h5")
    np.testing.assert_array_equal(scan.positions_px[:8, 0], [0, 0, 0, 0, 0, 0, 3, 3])
    np.testing.assert_array_equal(scan.positions_px[:8, 1], [0, 4, 8, 12, 16, 20, 0, 4])


@pytest.mark.parametrize("name", ["dp", "intensities", "counts"])
def test_names_that_mean_intensity_decide_counts(original: Any, tmp_path: Path, name: str) -> None:
    y, x = original.positions_px.T
    np.savez(tmp_path / "scan.npz", **{name: original.counts / 3.7}, xcoords=x, ycoords=y)
    with h5py.File(tmp_path / "scan.h5", "w") as f:
        f[name], f["xcoords"], f["ycoords"] = original.counts / 3.7, x, y
    for path in (tmp_path / "scan.npz", tmp_path / "scan.h5"):
        with pytest.warns(UserWarning, match=r"whole multiples of 0\.27027"):
            scan = open_scan(path)
        assert scan.measurement == "counts"
        assert scan.counts_per_photon == pytest.approx(1 / 3.7)
        assert any(f"the name `{name}` says so" in note for note in scan.notes)


def test_lengths_of_electrons_are_angstrom(original: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as f:
        f["dp"] = original.counts
        f["ppY"], f["ppX"] = original.positions_px.T * 0.25
        f["lambda"], f["dx"] = 0.0197, 0.25
    scan = open_scan(tmp_path / "scan.h5")
    assert scan.pixel_size_m == pytest.approx(0.25e-10)
    np.testing.assert_allclose(scan.positions_px, original.positions_px, atol=1e-6)


def test_frames_of_one_file_each_have_to_be_alike(original: Any, tmp_path: Path) -> None:
    directory = tmp_path / "frames"
    directory.mkdir()
    for number, frame in enumerate(original.counts):
        np.save(directory / f"f{number}.npy", frame if number != 7 else frame[:20])
    np.save(directory / "positions.npy", original.positions_px)
    with pytest.raises(DataError, match=r"f7.npy: it holds \(1, 20, 32\), the first file \(1, 32, 32\)"):
        open_scan(directory)


def test_zarr_is_read_like_hdf5(original: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: ptycho-core[zarr]")
    root = zarr.open_group(tmp_path / "scan.zarr", mode="w")
    root.create_array("entry/dp", data=original.counts, chunks=(4, 32, 32))
    root.create_array("entry/positions", data=original.positions_m)
    root["entry/positions"].attrs["units"] = "m"
    root.create_array("probe", data=original.probe)
    scan = open_scan(tmp_path / "scan.zarr", pixel_size_m=original.pixel_m)
    np.testing.assert_array_equal(scan.counts(), original.counts)
    np.testing.assert_array_equal(scan.select(slice(3, 20, 5)).counts(), original.counts[3:20:5])
    np.testing.assert_allclose(scan.positions_px, original.positions_px, atol=1e-6)
    np.testing.assert_array_equal(scan.probe, original.probe)
    (tmp_path / "scan.zarr" / "entry" / "dp" / "zarr.json").write_text("{")
    with pytest.raises(DataError, match=r"scan.zarr: "):
        open_scan(tmp_path / "scan.zarr", pixel_size_m=original.pixel_m)


def test_names_of_a_zarr_store_imply_their_unit(original: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: ptycho-core[zarr]")
    root = zarr.open_group(tmp_path / "scan.zarr", mode="w")
    root.create_array("dp", data=original.counts, chunks=(4, 32, 32))
    for key, values in zip(("ppY", "ppX"), original.positions_m.T, strict=True):
        root.create_array(key, data=np.ascontiguousarray(values))
    scan = open_scan(tmp_path / "scan.zarr", pixel_size_m=original.pixel_m)
    np.testing.assert_allclose(scan.positions_px, original.positions_px, atol=1e-6)


def test_a_raster_in_zarr(original: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: ptycho-core[zarr]")
    counts = original.counts.reshape(5, 6, 32, 32)
    zarr.create_array(tmp_path / "raster.zarr", data=counts, chunks=(1, 6, 32, 32))
    scan = open_scan(tmp_path / "raster.zarr", scan_step="3", bad_frames="off")
    np.testing.assert_array_equal(scan.counts(), original.counts)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("table.h5", b"# frame x y\n1 2 3\n", r'no HDF5 file but text, which begins with "# frame x y"'),
        ("noise.cxi", b"\x01\x02\x03\x80" * 9, "no HDF5 file; its first bytes"),
        ("empty.nxs", b"", "the file is empty"),
        (
            "old.mat",
            b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + b" " * 600,
            r"the MATLAB file is truncated or damaged",
        ),
        (
            "scan.mib",
            b"MQ1,000001",
            r"a Merlin \(MIB\) file, which is not read here. Convert it with hyperspy",
        ),
        ("scan.dm4", b"\0\0\0\4", "a Gatan DigitalMicrograph file"),
    ],
)
def test_what_is_no_scan_is_named_with_what_to_do(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        open_scan(tmp_path / name)


def test_a_master_file_names_the_file_that_is_not_there(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "master.h5", "w") as f:
        f["entry/data/data_000001"] = h5py.ExternalLink("scan_data_000001.h5", "/entry/data/data")
    with pytest.raises(
        DataError, match=r"data_000001` to `scan_data_000001.h5:/entry/data/data`. Copy the linked"
    ):
        open_scan(tmp_path / "master.h5")


@pytest.mark.parametrize(("dx", "pixel_m"), [(75e-6, 1.55e-10 * 2.0 / (32 * 75e-6)), (6.5e-8, 6.5e-8)])
def test_the_pixel_of_fold_slice_may_be_that_of_the_detector(
    original: Any, tmp_path: Path, dx: float, pixel_m: float
) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as f:
        f["dp"], f["lambda"], f["z"], f["dx"] = original.counts, 1.55e-10, 2.0, dx
        f["ppY"], f["ppX"] = original.positions_px.T * 6.5e-8
    scan = open_scan(tmp_path / "scan.h5", bad_frames="off")
    assert scan.pixel_size_m == pytest.approx(pixel_m)


def test_positions_within_a_pixel_are_doubted(original: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", original.counts)
    np.save(tmp_path / "where.npy", original.positions_px / 100)
    with pytest.warns(PolicyWarning, match="Is their unit, the distance or the pixel size wrong"):
        open_scan(tmp_path / "frames.npy", positions_file=tmp_path / "where.npy", bad_frames="off")


def test_only_what_calls_itself_nexus_is_called_so(original: Any, tmp_path: Path) -> None:
    for marked, name in ((False, "HDF5, laid out as NeXus"), (True, "NeXus")):
        with h5py.File(tmp_path / f"{marked}.h5", "w") as f:
            f["entry/data/data"], f["entry/data/positions"] = original.counts, original.positions_px
            if marked:
                f["entry"].attrs["NX_class"] = "NXentry"
        assert f"The file is {name}." in open_scan(tmp_path / f"{marked}.h5", bad_frames="off").notes


def test_an_inverted_mask_is_recognised_and_turned_round(original: Any, tmp_path: Path, writers: Any) -> None:
    path = writers["cxi"](tmp_path, original).path
    with h5py.File(path, "a") as f:
        mask = f["entry_1/instrument_1/detector_2/mask"]
        mask[...] = np.where(original.bad_pixels, 0, 0x8)
    with pytest.warns(PolicyWarning, match="so it looks inverted; `--mask-invert true` turns it round"):
        open_scan(path)
    scan = open_scan(path, mask_invert=True)
    np.testing.assert_array_equal(scan.bad_pixels, original.bad_pixels)
