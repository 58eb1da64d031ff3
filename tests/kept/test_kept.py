"""What earlier versions wrote opens in this one, with what was in it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import BundleError
from ptycho_core import Reconstruction, open_scan
from ptycho_core.backend import discover_backends
from ptycho_core.bundle import read_bundle, write_bundle
from ptycho_core.learning.stored import read_stored
from ptycho_core.physics.residual import data_residual

HERE = Path(__file__).resolve().parent
RELEASES = sorted(path.parent.name for path in HERE.glob("*/expected.json"))
BACKENDS = sorted(discover_backends())
#: Commands that are to be quick: what they find is not judged here.
QUICK = ("--diagnose", "off", "--prior", "none", "--frc", "false", "--arrays", "numpy")

each_release = pytest.mark.parametrize("release", RELEASES)


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """The script that made the files, and knows how their contents are told."""
    spec = importlib.util.spec_from_file_location("make_kept_files", HERE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def expected(release: str) -> dict[str, Any]:
    return json.loads((HERE / release / "expected.json").read_text("utf-8"))


def working(name: str) -> Any:
    """The core of that name on a CPU; skips where it cannot work."""
    from ptycho_config.execution import PyTorchExecutionConfig, TensorFlowExecutionConfig

    backend = discover_backends()[name]
    if not backend.availability().installed:
        pytest.skip(f"{name} cannot work here")
    execution = {"pytorch": PyTorchExecutionConfig, "tensorflow": TensorFlowExecutionConfig}[name]
    return lambda bundle: backend.load(bundle, execution(accelerator="cpu", logger_backend="none"))


def assert_sees(result: Reconstruction, kept: dict[str, Any]) -> None:
    """An image that is computed anew is that of before, within rounding."""
    points = np.array(kept["real"]) + 1j * np.array(kept["imaginary"])
    assert np.abs(result.object[4::9, 4::9] - points).max() <= 1e-3 * np.abs(points).max()
    assert np.ptp(np.abs(points)) > 1e-3  # a network that says nothing would agree with anything
    assert result.data_residual == pytest.approx(kept["data_residual"], rel=1e-3)


def test_there_are_files_of_every_version_before_this_one() -> None:
    changes = (HERE.parents[1] / "CHANGELOG.md").read_text("utf-8")
    _, *before = re.findall(r"^## \[(\d+\.\d+)\.0\]", changes, re.MULTILINE)
    assert set(before) <= set(RELEASES)
    assert before
    for release in RELEASES:
        sizes = [path.stat().st_size for path in (HERE / release).rglob("*") if path.is_file()]
        assert sum(sizes) < 400 * 1024


@each_release
@pytest.mark.parametrize("kind", ["result", "state", "tiles"])
def test_a_result_is_what_was_saved(release: str, kind: str, make: ModuleType) -> None:
    found = make.contents_of(Reconstruction.load(HERE / release / kind))
    kept = expected(release)[kind]
    assert found["arrays"].keys() >= kept["arrays"].keys()
    for name, array in kept["arrays"].items():
        assert found["arrays"][name] == array, name
    assert {name: found[name] for name in kept} | {"arrays": None} == kept | {"arrays": None}


@each_release
def test_its_residual_is_found_again(release: str) -> None:
    folder = HERE / release
    saved = Reconstruction.load(folder / "result")
    scan = open_scan(folder / "scan.npz", exclude_frames="5")
    again = data_residual(
        saved.object,
        saved.probe,
        saved.positions_on_canvas_px()[saved.frames_used],
        scan,
        frame_intensity=None if saved.frame_intensity is None else saved.frame_intensity[saved.frames_used],
    )
    assert again.value == pytest.approx(saved.data_residual, rel=1e-4)


@each_release
def test_a_product_holds_the_same_image(release: str) -> None:
    folder = HERE / release / "result"
    product, result = (Reconstruction.load(folder / f"reconstruction.{kind}") for kind in ("h5", "npz"))
    assert np.array_equal(product.object, result.object)
    assert np.array_equal(product.probe, result.probe)
    used = result.positions_px[result.frames_used]
    assert np.allclose(product.positions_px, used, rtol=0, atol=1e-3)
    assert product.pixel_size_m == pytest.approx(result.pixel_size_m)


@each_release
@pytest.mark.parametrize("start", ["result", "result/reconstruction.h5", "tiles"])
def test_a_run_starts_from_it(release: str, start: str, ptycho: Any, tmp_path: Path) -> None:
    folder = HERE / release
    before = Reconstruction.load(folder / start)
    done = ptycho(
        *("reconstruct", folder / "scan.npz", "--start", folder / start, "--solver-epochs", "2"),
        *(*QUICK, "--output-dir", "out"),
    )
    assert done.code == 0, done.err
    result = Reconstruction.load(tmp_path / "out")
    assert result.probe.shape == before.probe.shape
    assert result.data_residual < 0.5


@each_release
@pytest.mark.parametrize("kind", ["state", "tiles"])
def test_a_run_that_was_killed_goes_on(release: str, kind: str, ptycho: Any, tmp_path: Path) -> None:
    folder = HERE / release
    shutil.copytree(folder / kind, tmp_path / "run")
    done = ptycho(
        *("reconstruct", folder / "scan.npz", "--resume", "--solver-epochs", "2", "--final-size", "16"),
        *(*QUICK, "--output-dir", "run"),
    )
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "run").glob("*tile*")) == []
    result = Reconstruction.load(tmp_path / "run")
    assert not result.interrupted
    assert result.data_residual < 1.1 * expected(release)[kind]["data_residual"]


@each_release
@pytest.mark.parametrize("command", ["reconstruct", "train", "infer"])
@pytest.mark.filterwarnings("ignore:.*n_images:DeprecationWarning")
def test_a_file_of_settings_says_the_same(release: str, command: str, make: ModuleType) -> None:
    found = make.settings_of(command, HERE / release / f"{command}.yaml")
    assert found == expected(release)["settings"][command]


@each_release
@pytest.mark.parametrize("kept_by", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bundle_gives_the_same_image(
    release: str, kept_by: str, backend: str, ptycho: Any, tmp_path: Path
) -> None:
    working(backend)
    folder = HERE / release
    bundle = ("--model-path", folder / kept_by, "--test-data", folder / "scan.npz")
    prefix = "--torch" if backend == "pytorch" else "--tensorflow"
    how = ("--backend", backend, f"{prefix}-accelerator", "cpu", "--output-dir", "out")
    done = ptycho("infer", *bundle, *how)
    assert done.code == 0, done.err
    assert_sees(Reconstruction.load(tmp_path / "out"), expected(release)["images"][kept_by])


@each_release
@pytest.mark.parametrize("architecture", ["unet", "cnn"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_of_a_large_network_have_their_names_and_see_the_same(
    release: str, architecture: str, backend: str, make: ModuleType, tmp_path: Path
) -> None:
    load, kept = working(backend), expected(release)["networks"][architecture]
    weights = make.patterned(kept["shapes"], kept["scalars"])
    bundle = replace(
        read_bundle(HERE / release / "pytorch"),
        architecture=architecture,
        model=kept["model"],
        weights=weights,
    )
    trained = load(write_bundle(tmp_path, bundle))
    assert_sees(trained.reconstruct(open_scan(HERE / release / "scan.npz")), kept["image"])


@pytest.mark.parametrize("where", ["model", "training"])
def test_a_setting_of_a_newer_version_is_named(where: str, tmp_path: Path) -> None:
    bundle = read_bundle(HERE / RELEASES[-1] / "pytorch")
    newer = replace(bundle, **{where: {**getattr(bundle, where), "lens_count": 3}})
    said = (
        r"wts\.h5\.zip: it was trained with `lens_count`, which .* Type `pip install --upgrade ptycho-core`"
    )
    with pytest.raises(BundleError, match=said):
        read_stored(write_bundle(tmp_path, newer))


@each_release
def test_a_training_goes_on(release: str, make: ModuleType, ptycho: Any, tmp_path: Path) -> None:
    if "pytorch" not in BACKENDS:
        pytest.skip("the PyTorch core is not installed")
    working("pytorch")
    folder = HERE / release
    shutil.copytree(folder / "pytorch", tmp_path / "trained")
    before = read_bundle(tmp_path / "trained")
    done = ptycho(
        *("train", "--train-data-file", folder / "scan.npz", "--resume", "--output-dir", "trained"),
        *(*make.small_network(), "--batch-size", "5", "--seed", "1", "--nepochs", "4"),
        *("--torch-accelerator", "cpu", "--torch-logger-backend", "none"),
    )
    assert done.code == 0, done.err
    after = read_bundle(tmp_path / "trained")
    assert [row["epoch"] for row in after.history] == [1, 2, 3, 4]
    assert after.history[:3] == before.history


@each_release
def test_a_finished_run_becomes_a_page(release: str, ptycho: Any, tmp_path: Path) -> None:
    shutil.copytree(HERE / release / "result", tmp_path / "run")
    done = ptycho("report", "run", "--frames", "0")
    assert done.code == 0, done.err
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    record = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert record["versions"]["ptycho-core"] in page
    assert record["verdict"]["grade"] in page


@each_release
@pytest.mark.parametrize("run", ["pytorch", "tensorflow"])
def test_a_finished_training_is_audited(release: str, run: str, ptycho: Any, tmp_path: Path) -> None:
    shutil.copytree(HERE / release / run, tmp_path / "run")
    done = ptycho("audit", "run")
    assert done.code == 0, done.out + done.err
