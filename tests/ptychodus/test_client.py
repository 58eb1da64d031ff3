"""Ptychodus 1.7.0 itself, unmodified, on the real scan: train, save, load, reconstruct, write the product
file.

By default on 64 frames for two epochs. `nox -s ptychodus` sets `PTYCHO_CLIENT=whole`: all 516 frames at the
client's own settings, the whole list of faults, and the program with its files. What the client relies on
call by call is checked in `tests/facade`, without it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core.backend import discover_backends
from ptycho_core.io.product import read_product, write_product
from ptycho_core.physics.variations import ProbeVariations

DRIVE = Path(__file__).with_name("drive.py")
WHOLE = os.environ.get("PTYCHO_CLIENT") == "whole"
ROUTES = [("ptychopinn", "pytorch"), ("ptychopinn", "tensorflow"), ("ptychopinn-torch", "pytorch")]

each_route = pytest.mark.parametrize(
    ("library", "backend"), ROUTES, ids=["-".join(route) for route in ROUTES]
)
whole_only = pytest.mark.skipif(not WHOLE, reason="takes minutes; run by `nox -s ptychodus`")


def drive(task: str, folder: Path, library: str, backend: str, *options: str) -> dict[str, Any]:
    """Run the client in a process of its own."""
    core = discover_backends().get(backend)
    if core is None or not core.availability().installed:
        pytest.skip(f"{backend}: {core.availability().reason if core else 'not installed'}")
    command = [sys.executable, str(DRIVE), task, str(folder), "--library", library, *options]
    environment = {**os.environ, "PTYCHO_BACKEND": backend}
    for variable in [name for name in environment if name.endswith("_THREADS")]:
        del environment[variable]  # the tests' own limit of one thread is not the client's
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_client_finds_both_libraries_and_the_version() -> None:
    assert find_spec("ptycho")
    assert find_spec("ptycho_torch")
    assert version("ptychopinn") == version("ptycho-core")


LOADS_PRODUCT = """
import sys
import numpy
from pathlib import Path
from ptychodus.api.io import load_product, save_product
product = load_product(Path(sys.argv[1]))
probes = product.probes
numpy.save(sys.argv[2], numpy.stack([probes[frame].get_array() for frame in range(len(probes))]))
save_product(Path(sys.argv[3]), product)
"""


def test_the_client_composes_a_probe_that_varies_as_we_do(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    probe, shapes = (
        (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)
        for shape in ((2, 16, 16), (2, 3, 16, 16))
    )
    intensity = random.uniform(0.5, 1.5, 7)
    varied, intensity = ProbeVariations(shapes, random.normal(size=(7, 3))), intensity / intensity.mean()
    path = write_product(
        tmp_path / "product.h5",
        obj=np.ones((40, 40), np.complex64),
        probe=probe,
        positions_px=random.uniform(10, 30, (7, 2)),
        origin_px=np.zeros(2),
        name="varies",
        variations=varied,
        frame_intensity=intensity,
    )
    found, saved = tmp_path / "found.npy", tmp_path / "saved.h5"
    subprocess.run([sys.executable, "-c", LOADS_PRODUCT, path, found, saved], check=True, timeout=600)
    composed = probe[0] + np.tensordot(varied.weights, shapes[0], axes=1)
    theirs = np.load(found)
    np.testing.assert_allclose(theirs[:, 0], composed * np.sqrt(intensity)[:, None, None], rtol=1e-5)
    # It knows OPR of the first incoherent mode only.
    np.testing.assert_allclose(theirs[:, 1], np.broadcast_to(probe[1], (7, 16, 16)), rtol=1e-6)
    ours, again = read_product(path), read_product(saved)
    assert ours.variations is not None
    assert again.variations is not None
    np.testing.assert_array_equal(ours.variations.shapes, shapes)
    np.testing.assert_array_equal(again.variations.shapes[0], shapes[0])
    assert not again.variations.shapes[1].any()
    np.testing.assert_array_equal(again.variations.weights, ours.variations.weights)
    np.testing.assert_array_equal(again.frame_intensity, ours.frame_intensity)


@each_route
def test_training_saving_loading_and_reconstructing(library: str, backend: str, tmp_path: Path) -> None:
    if not WHOLE:
        pytest.skip("takes minutes in all; run by `nox -s ptychodus`")
    options = ["--frames", "516"]
    found = drive("whole", tmp_path, library, backend, *options)
    print({key: value for key, value in found.items() if key != "heard"})  # noqa: T201 - shown with `-s` or `-rA`
    assert found["finite"]
    assert found["shape"] == found["input_shape"]
    assert found["routes_differ_by"] < 1e-3
    assert found["npz_unchanged"]
    assert found["R"] < found["R_flat"]
    model = {"ptychopinn": "wts.h5.zip", "ptychopinn-torch": "model.ckpt"}[library]
    assert found["files"] == sorted([model, "test_data.npz", "train_data.npz"])
    channels = [text for channel, text in found["heard"] if channel == library]
    assert any(text.startswith("Epoch 1 of ") and "frames/s" in text for text in channels)
    if library == "ptychopinn-torch":
        epochs = [epoch for epoch, _ in found["losses"]]
        assert epochs == list(range(len(epochs)))
        assert epochs == [epoch for epoch, _ in found["validation"]]
    assert found["R_flat"] == pytest.approx(0.268, abs=0.002)
    assert found["R"] <= 0.20


#: What goes wrong -> what the user must be able to read.
FAULTS = {
    "settings": {
        "ptychopinn": "`nll_weight` and `mae_weight` are both 0",
        "ptychopinn-torch": "`loss_function` is",
    },
    "no light": "all frames are zero",
    "killed": "was killed before it was done",
    "no training data": {"ptychopinn": "no such file", "ptychopinn-torch": "holds no `*.npz`"},
    "unreadable bundle": "BUNDLE-001",
    "bundle of another program": "unpickling runs code|pickle of another program",
    "wrong N": {"ptychopinn": "`N` is 64 here and 128", "ptychopinn-torch": "`N` (model size) is 64"},
    "full disk": "cannot be written",
}
ALWAYS = ("no light",)


@pytest.mark.parametrize("library", ["ptychopinn", "ptychopinn-torch"])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_failure_ends_the_call_with_our_message(library: str, kind: str, tmp_path: Path) -> None:
    if not WHOLE and (kind not in ALWAYS or library == "ptychopinn-torch"):
        pytest.skip("takes minutes in all; run by `nox -s ptychodus`")
    seen = drive("fault", tmp_path, library, "pytorch", "--kind", kind)["seen"]
    expected = FAULTS[kind][library] if isinstance(FAULTS[kind], dict) else FAULTS[kind]
    assert seen is not None
    assert seen.startswith("ChildError: Subprocess raised")
    assert any(text in seen for text in expected.split("|")), seen


@whole_only
@each_route
def test_the_program_trains_and_reconstructs(library: str, backend: str, tmp_path: Path) -> None:
    found = drive("batch", tmp_path, library, backend, "--frames", "64", "--epochs", "2")
    assert found["codes"] == [0, 0], found["errors"]
    assert found["products"]
    assert found["finite"]
    assert found["shape"] == found["input_shape"]


@whole_only
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_other_types_of_counts_go_the_same_way(dtype: str, tmp_path: Path) -> None:
    options = ["--frames", "36", "--epochs", "1", "--dtype", dtype]
    found = drive("whole", tmp_path, "ptychopinn", "pytorch", *options)
    assert found["finite"]
    assert found["R"] < found["R_flat"]
