"""The HDF5 product file: metres and pixels, what is unknown, and other programs' layouts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import DataError
from ptycho_core.io.product import read_product, write_product
from ptycho_core.physics.variations import ProbeVariations


def fields(height: int = 30, width: int = 40, modes: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    return {
        "obj": (rng.normal(size=(height, width)) + 1j).astype(np.complex64),
        "probe": (rng.normal(size=(modes, 16, 16)) - 2j).astype(np.complex64),
        "positions_px": rng.uniform(-50, 50, size=(7, 2)),
        "origin_px": np.array([-58.0, -60.0]),
        "name": "star",
    }


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(20, 41),
    width=st.integers(20, 41),
    modes=st.integers(1, 3),
    pixel_m=st.one_of(st.none(), st.floats(1e-11, 1e-6)),
    energy=st.one_of(st.none(), st.floats(1, 1e6)),
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    modes: int,
    pixel_m: float | None,
    energy: float | None,
) -> None:
    written = fields(height, width, modes)
    path = tmp_path_factory.mktemp("product") / "product.h5"
    write_product(path, **written, losses=[0.3, 0.2], pixel_size_m=pixel_m, energy_ev=energy, distance_m=1.5)
    product = read_product(path)
    np.testing.assert_array_equal(product.obj, written["obj"])
    np.testing.assert_array_equal(product.probe, written["probe"])
    np.testing.assert_allclose(product.positions_px, written["positions_px"], rtol=1e-12)
    np.testing.assert_allclose(product.origin_px, written["origin_px"], atol=1e-9)
    assert product.losses == (0.3, 0.2)
    assert product.pixel_size_m == (None if pixel_m is None else pytest.approx(pixel_m))
    assert (product.energy_ev, product.distance_m, product.name) == (energy, 1.5, "star")


@settings(max_examples=25, deadline=None)
@given(modes=st.integers(1, 3), variations=st.integers(0, 3), flickers=st.booleans(), seed=st.integers(0, 99))
def test_a_probe_that_varies_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, modes: int, variations: int, flickers: bool, seed: int
) -> None:
    random, written = np.random.default_rng(seed), fields(modes=modes)
    frames, shape = len(written["positions_px"]), (modes, variations, 16, 16)
    intensity = random.uniform(0.2, 2, frames)
    varied: dict[str, Any] = {"frame_intensity": intensity / intensity.mean()} if flickers else {}
    if variations:
        shapes = (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)
        varied["variations"] = ProbeVariations(shapes, random.normal(size=(frames, variations)))
    path = tmp_path_factory.mktemp("product") / "product.h5"
    product = read_product(write_product(path, **written, **varied))
    np.testing.assert_allclose(product.probe, written["probe"], rtol=1e-6)
    if flickers:
        np.testing.assert_allclose(product.frame_intensity, varied["frame_intensity"], rtol=1e-12)
    else:
        assert product.frame_intensity is None
    if variations:
        assert product.variations is not None
        np.testing.assert_allclose(product.variations.shapes, varied["variations"].shapes, rtol=1e-6)
        np.testing.assert_allclose(product.variations.weights, varied["variations"].weights, rtol=1e-12)
    else:
        assert product.variations is None


def test_in_files_of_other_programs_the_first_incoherent_mode_alone_varies(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    probe = (random.normal(size=(3, 2, 16, 16)) + 1j).astype(np.complex64)
    weights = random.uniform(0.5, 1.5, (7, 3)).astype(np.float32)
    path = write_product(tmp_path / "product.h5", **fields())
    with h5py.File(path, "r+") as file:
        del file["probe"]
        file["probe"], file["opr_weights"] = probe, weights
    product = read_product(path)
    assert product.variations is not None
    assert product.frame_intensity is not None
    varied = product.probe[0] + np.tensordot(product.variations.weights, product.variations.shapes[0], axes=1)
    composed = varied * np.sqrt(product.frame_intensity)[:, None, None]
    np.testing.assert_allclose(composed, np.tensordot(weights, probe[:, 0], axes=1), rtol=1e-5)
    np.testing.assert_array_equal(product.probe[1], probe[0, 1])
    assert not product.variations.shapes[1].any()


def test_a_first_mode_that_is_not_always_there_varies(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    path = write_product(tmp_path / "product.h5", **fields())
    probe = (random.normal(size=(3, 2, 16, 16)) + 1j).astype(np.complex64)
    weights = random.normal(size=(7, 3))
    weights[2, 0] = 0
    with h5py.File(path, "r+") as file:
        del file["probe"]
        file["probe"], file["opr_weights"] = probe, weights
    product = read_product(path)
    assert product.frame_intensity is None
    assert product.variations is not None
    shapes, ours = product.variations.shapes, product.variations.weights
    found = product.probe + np.einsum("fl,plyx->fpyx", ours, shapes)
    np.testing.assert_allclose(found[:, 0], np.einsum("fl,lyx->fyx", weights, probe[:, 0]), atol=1e-4)
    np.testing.assert_allclose(found[:, 1], np.broadcast_to(probe[0, 1], (7, 16, 16)), rtol=1e-6)


def test_coherent_modes_without_weights_are_left_out(tmp_path: Path) -> None:
    path = write_product(tmp_path / "product.h5", **fields())
    probe = np.stack([fields()["probe"]] * 3)
    with h5py.File(path, "r+") as file:
        del file["probe"]
        file["probe"] = probe
    product = read_product(path)
    np.testing.assert_array_equal(product.probe, probe[0])
    assert product.variations is None


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.ones((6, 3)), "Expected \\(7, 3\\) finite weights"),
        (np.ones((7, 2)), "Expected \\(7, 3\\) finite weights"),
        (np.full((7, 3), np.nan), "finite weights"),
        (np.zeros((7, 3)), "not all above 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, weights: np.ndarray, said: str) -> None:
    shapes = np.zeros((2, 2, 16, 16), np.complex64)
    varied = ProbeVariations(shapes, np.ones((7, 2)))
    path = write_product(tmp_path / "product.h5", **fields(), variations=varied)
    with h5py.File(path, "r+") as file:
        del file["opr_weights"]
        file["opr_weights"] = weights
    with pytest.raises(DataError, match=said):
        read_product(path)


def test_metres_follow_the_formula_of_the_format(tmp_path: Path) -> None:
    written = fields()
    path = write_product(tmp_path / "product.h5", **written, pixel_size_m=2e-9, energy_ev=8e3, distance_m=2.0)
    with h5py.File(path) as file:
        attributes = file["object"].attrs
        x_px = (file["probe_position_x_m"][:] - attributes["center_x_m"]) / attributes[
            "pixel_width_m"
        ] + 40 / 2
        y_px = (file["probe_position_y_m"][:] - attributes["center_y_m"]) / attributes[
            "pixel_height_m"
        ] + 30 / 2
        assert file.attrs["probe_energy_eV"] == 8e3
        assert file.attrs["detector_object_distance_m"] == 2.0
        assert file.attrs["comments"] == ""
        np.testing.assert_array_equal(file["probe_position_indexes"], np.arange(7))
        assert file["object_layer_spacing_m"].shape == (0,)
    # Counted from the corner of the canvas, as cutting a patch needs them.
    on_canvas = written["positions_px"] - written["origin_px"]
    np.testing.assert_allclose(np.stack([y_px, x_px], axis=1), on_canvas, atol=1e-9)


def test_unknown_quantities_are_placeholders_and_said_so(tmp_path: Path) -> None:
    path = write_product(tmp_path / "product.h5", **fields(), comments="made by hand")
    with h5py.File(path) as file:
        assert file["object"].attrs["pixel_width_m"] == 1e-9
        assert file.attrs["probe_energy_eV"] == 0
        said = file.attrs["comments"]
    assert said.startswith("made by hand The pixel size is unknown; 1e-09 m stands for one pixel.")
    assert said.endswith("Unknown, written as 0: photon energy, distance.")
    product = read_product(path)
    assert (product.pixel_size_m, product.energy_ev, product.distance_m) == (None, None, None)


@pytest.mark.parametrize("probe_shape", [(16, 16), (3, 16, 16), (2, 3, 16, 16)])
@pytest.mark.parametrize("object_shape", [(30, 40), (1, 30, 40)])
def test_layouts_of_other_programs_are_read(
    probe_shape: tuple[int, ...], object_shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = write_product(tmp_path / "product.h5", **fields(), pixel_size_m=1e-9)
    with h5py.File(path, "a") as file:
        attributes = dict(file["object"].attrs)
        for key, shape in (("probe", probe_shape), ("object", object_shape)):
            del file[key]
            file[key] = np.ones(shape, np.complex128)
        file["object"].attrs.update(attributes)
        del file["loss_values"], file["loss_epochs"], file.attrs["pixel_size_is_known"]
        file["costs"] = [3.0, 2.0]
    product = read_product(path)
    assert product.obj.shape == (30, 40)
    assert product.probe.shape == (1 if len(probe_shape) == 2 else 3, 16, 16)
    assert product.losses == (3.0, 2.0)
    assert product.pixel_size_m == pytest.approx(1e-9)


@pytest.mark.parametrize("key", ["object", "probe", "probe_position_x_m"])
def test_products_without_a_key_are_refused(key: str, tmp_path: Path) -> None:
    path = write_product(tmp_path / "product.h5", **fields())
    with h5py.File(path, "a") as file:
        del file[key]
    with pytest.raises(DataError, match=r"product\.h5: .*Expected an HDF5 product file with `object`"):
        read_product(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_product(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(DataError, match=r"text\.h5: the file cannot be read, the HDF5 file is"):
        read_product(tmp_path / "text.h5")
    path = write_product(tmp_path / "thick.h5", **fields())
    with h5py.File(path, "a") as file:
        attributes = dict(file["object"].attrs)
        del file["object"]
        file["object"] = np.ones((4, 30, 40), np.complex64)
        file["object"].attrs.update(attributes)
    with pytest.raises(DataError, match="Expected one object layer"):
        read_product(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="cannot be read"):
        read_product(path)


LARGE = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
import h5py
import numpy as np
from ptycho_core.io.product import write_product
from ptycho_core.result.exports import write_mat
kind, directory = sys.argv[1], Path(sys.argv[2])
obj = np.memmap(directory / "canvas", np.complex64, "w+", shape=(3000, 5000))
obj[...] = np.arange(3000)[:, None] + 1j * np.arange(5000)
probe, positions = np.ones((1, 8, 8), np.complex64), np.ones((3, 2))
[line] = [line for line in open("/proc/self/status") if line.startswith("VmData")]
most = 1024 * int(line.split()[1]) + (90 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
if kind == "h5":
    write_product(directory / "x.h5", obj=obj, probe=probe, positions_px=positions, origin_px=np.zeros(2),
        name="x", pixel_size_m=2e-9)
else:
    write_mat(SimpleNamespace(object=obj, probe=probe, positions_px=positions, origin_px=np.zeros(2),
        pixel_size_m=2e-9, pixel_aspect=1.0, data_residual=0.1), directory)
resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a subprocess as Linux does")
@pytest.mark.parametrize(("kind", "name"), [("h5", "x.h5"), ("mat", "reconstruction.mat")])
def test_a_canvas_that_lies_in_a_file_is_written_without_a_copy_in_memory(
    kind: str, name: str, tmp_path: Path
) -> None:
    # The canvas has 114 MiB, the process is given 90.
    done = subprocess.run([sys.executable, "-c", LARGE, kind, str(tmp_path)], check=False)
    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["canvas", name])
    wanted = np.memmap(tmp_path / "canvas", np.complex64, "r", shape=(3000, 5000))
    with h5py.File(tmp_path / name) as file:
        found = file["object"]
        for rows in (slice(0, 3), slice(1500, 1510), slice(2990, 3000)):
            if kind == "h5":
                assert np.array_equal(found[rows], wanted[rows])
            else:
                assert np.array_equal(found[rows]["real"] + 1j * found[rows]["imag"], wanted[:, rows].T)
        assert ("center_x_m" if kind == "h5" else "MATLAB_class") in found.attrs
