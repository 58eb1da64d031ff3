"""`ptycho export`, and `ptycho infer` of what it wrote: the image of the core, and no framework."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Reconstruction
from ptycho_core.io import save_scan

NEEDED = ("ptycho_core_torch", "torch", "lightning", "onnx", "onnxscript", "onnxruntime")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed")

#: The command line where no framework can be imported; it says which ones were.
WITHOUT_FRAMEWORKS = """
import sys
sys.modules.update(dict.fromkeys(("torch", "lightning", "tensorflow", "keras", "onnx", "onnxscript")))
from ptycho_dispatch.cli import main
sys.exit(main(sys.argv[1:]))
"""


def bundle_of(model: ModelConfig, scan, folder: Path) -> None:
    """Write a bundle as if a network had been trained: its weights are drawn, those of the last layer too."""
    import torch
    from ptycho_config.execution import PyTorchExecutionConfig
    from ptycho_core.bundle import Scaling
    from ptycho_core.learning.frames import Frames
    from ptycho_core_torch.network import Batch, PtychoNetwork
    from ptycho_core_torch.trained import TrainedNetwork

    frames = Frames(scan)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = PtychoNetwork(model, scan.probe, frames.intensity_scale)
        for name, weight in network.network.named_parameters():
            if name.startswith("output"):
                torch.nn.init.normal_(weight, std=0.02)
    network.calibrate(Batch.of(frames.batch(np.arange(8))).amplitude)
    scaling = Scaling(
        gauge="power",
        probe_scale=4.0,
        intensity_scale=frames.intensity_scale,
        alpha=frames.alpha,
        nphotons=frames.nphotons,
        mean_counts=frames.mean_counts,
        mask=None,
        patch_weighting="probe",
        anchor="first",
        pixel_convention="index",
    )
    TrainedNetwork(
        network=network,
        training=TrainingConfig(model=model),
        execution=PyTorchExecutionConfig(accelerator="cpu", logger_backend="none"),
        scaling=scaling,
        probe_given=scan.probe,
        provenance={"backend": "pytorch"},
    ).save(folder)


@pytest.fixture(scope="module")
def folder(run_command, simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, what was exported of it, and scans: with its probe, with another one, of another size."""
    root = tmp_path_factory.mktemp("exported")
    scan = simulated(frames=30, frame_px=32, start_kind="true", seed=1).scan
    bundle_of(ModelConfig(N=32), scan, root)
    save_scan(scan, root / "scan.npz")
    save_scan(simulated(frames=40, frame_px=32, probe_kind="gaussian", seed=2).scan, root / "other.npz")
    save_scan(simulated(frames=30, frame_px=48, start_kind="true", seed=1).scan, root / "large.npz")
    assert run_command("export", root) == 0
    return root


def infer(ptycho, folder: Path, out: Path, *words: object, scan: str = "scan.npz"):
    return ptycho("infer", *words, "--test-data", folder / scan, "--output-dir", out)


def image(directory: Path) -> np.ndarray:
    return Reconstruction.load(directory / "reconstruction.npz").object


def by_core(ptycho, folder: Path, out: Path, scan: str) -> np.ndarray:
    done = infer(ptycho, folder, out, folder, "--torch-accelerator", "cpu", scan=scan)
    assert done.code == 0, done.err
    return image(out)


@pytest.mark.parametrize("scan", ["scan.npz", "other.npz"])
@pytest.mark.parametrize("runtime", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_a_runtime_gives_the_image_of_the_core(
    ptycho, folder: Path, tmp_path: Path, runtime: str, scan: str
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    expected = by_core(ptycho, folder, tmp_path / "core", scan)
    given = (folder / "network.onnx", "--runtime", runtime, "--runtime-threads", 1)
    done = infer(ptycho, folder, tmp_path / "file", *given, scan=scan)
    assert done.code == 0, done.err
    found = image(tmp_path / "file")
    assert np.abs(expected - 1).max() > 0.1  # a network that shows something
    np.testing.assert_allclose(found, expected, atol=1e-4)
    record = json.loads((tmp_path / "file" / "run.json").read_text("utf-8"))
    assert record["runtime"] == runtime
    assert record["execution"]["resolved"] == "cpu"


def test_it_runs_where_there_is_no_framework(ptycho, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "network.onnx", tmp_path / "net.onnx")
    words = ["infer", "net.onnx", str(folder / "scan.npz"), "--output-dir", "out"]
    command = [sys.executable, "-c", WITHOUT_FRAMEWORKS, *words]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run(command, check=False, env=dict(os.environ), **options)
    assert done.returncode == 0, done.stderr
    assert "ONNX Runtime runs the network on the CPU in float32" in done.stderr
    assert "POLICY-001" not in done.stderr
    expected = by_core(ptycho, folder, tmp_path / "core", "scan.npz")
    np.testing.assert_allclose(image(tmp_path / "out"), expected, atol=1e-4)


@pytest.mark.slow
def test_groups_of_a_classic_network(run_command, ptycho, simulated, tmp_path: Path) -> None:
    scan = simulated(frames=30, frame_px=32, start_kind="true", seed=1).scan
    bundle_of(ModelConfig(N=32, architecture="cnn", gridsize=2, n_filters_scale=1), scan, tmp_path)
    save_scan(scan, tmp_path / "scan.npz")
    assert run_command("export", tmp_path) == 0
    expected = by_core(ptycho, tmp_path, tmp_path / "core", "scan.npz")
    done = infer(ptycho, tmp_path, tmp_path / "file", tmp_path, "--runtime", "onnx")
    assert done.code == 0, done.err
    np.testing.assert_allclose(image(tmp_path / "file"), expected, atol=1e-4)


def test_the_file_is_one_graph_that_tells_nothing_of_this_host(folder: Path) -> None:
    import onnx

    content = (folder / "network.onnx").read_bytes()
    assert b".py" not in content and str(Path.home()).encode() not in content
    model = onnx.load_from_string(content)
    assert [one.name for one in model.graph.input] == ["counts", "mean_counts"]
    assert [one.name for one in model.graph.output] == ["patch"]
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"DFT", "STFT", "Loop", "If", "Scan"}


# What is refused, before anything is written.


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"unet_passes": 3}, "`unet_passes` 3 is not exported"),
        ({"architecture": "fno", "fno_modes": 4, "fno_width": 4}, "`fno` is not exported"),
        ({"architecture": "cnn", "gridsize": 2, "object_big": False}, "`object_big` off"),
    ],
)
def test_a_network_that_has_no_such_graph_is_refused(ptycho, simulated, tmp_path, settings, said) -> None:
    scan = simulated(frames=30, frame_px=32, start_kind="true", seed=1).scan
    bundle_of(ModelConfig(N=32, **settings), scan, tmp_path)
    done = ptycho("export", tmp_path)
    assert (done.code, list(tmp_path.glob("*.onnx"))) == (2, [])
    assert said in done.err


def test_a_file_that_gives_other_patches_gets_no_name(
    ptycho, folder: Path, simulated, tmp_path: Path, monkeypatch
) -> None:
    import onnx

    from ptycho_core_torch import exporting

    scan = simulated(frames=40, frame_px=32, probe_kind="gaussian", seed=2).scan
    bundle_of(ModelConfig(N=32), scan, tmp_path / "other")
    # The graph of the network with the other probe.
    model = onnx.load(folder / "network.onnx")
    del model.metadata_props[:]
    monkeypatch.setattr(exporting, "_graph", lambda network: model.SerializeToString())
    done = ptycho("export", tmp_path / "other", "--output", tmp_path / "net.onnx")
    assert done.code == 3
    assert "differ from those of the network" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_runtime_that_is_missing_is_named(ptycho, folder, tmp_path, monkeypatch, runtime: str) -> None:
    package = {"onnx": "onnxruntime", "openvino": "openvino"}[runtime]
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    done = infer(ptycho, folder, tmp_path / "out", folder / "network.onnx", "--runtime", runtime)
    assert done.code == 4
    assert f"pip install 'ptycho-dispatch[{runtime}]'" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_an_exporter_that_is_missing_is_named(ptycho, folder, tmp_path, monkeypatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = ptycho("export", folder, "--output", tmp_path / "net.onnx")
    assert done.code == 4
    assert f"needs {package}" in done.err
    assert "pip install 'ptycho-dispatch[export]'" in done.err
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_are_refused(ptycho, folder: Path, tmp_path: Path) -> None:
    done = infer(ptycho, folder, tmp_path / "out", folder / "network.onnx", scan="large.npz")
    assert done.code == 2
    assert "trained on frames of 32 px" in done.err


def test_a_graph_that_the_runtime_does_not_take_is_refused(ptycho, folder: Path, tmp_path: Path) -> None:
    from ptycho_core.bundle import encode_onnx, read_onnx

    whole = read_onnx(folder / "network.onnx")
    known = {"output_scale": 1.0, "back_projection_std": 1.0, "n_parameters": 1, "bundle_sha256": None}
    path = tmp_path / "net.onnx"
    path.write_bytes(encode_onnx("here", b"\x08\x0a\x3a\x03abc", replace(whole.bundle), **known))
    done = infer(ptycho, folder, tmp_path / "out", path)
    assert done.code == 3
    assert "ONNX Runtime cannot take it" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, 100, 100_000])
def test_a_part_of_a_file_is_refused(ptycho, folder: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes((folder / "network.onnx").read_bytes()[:size])
    done = infer(ptycho, folder, tmp_path / "out", path)
    assert done.code == 3
    assert "ptycho export" in done.err
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_was_trained_on_is_not_the_one_that_was_exported(
    ptycho, folder: Path, simulated, tmp_path: Path
) -> None:
    scan = simulated(frames=40, frame_px=32, probe_kind="gaussian", seed=2).scan
    bundle_of(ModelConfig(N=32), scan, tmp_path)
    shutil.copy(folder / "network.onnx", tmp_path)
    done = infer(ptycho, folder, tmp_path / "out", tmp_path, "--runtime", "onnx")
    assert done.code == 3
    assert f"ptycho export {tmp_path}" in done.err
    (tmp_path / "network.onnx").unlink()
    done = infer(ptycho, folder, tmp_path / "out", tmp_path, "--runtime", "onnx")
    assert done.code == 3
    assert "holds no `network.onnx`" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--backend", "pytorch"), "exclude each other"),
        (("--model-path", "elsewhere"), "Leave one of them out"),
        (("--runtime-precision", "bfloat16"), "in float32 on CPUs"),
        (("--runtime", "tensorrt"), "onnx"),
    ],
)
def test_what_contradicts_itself_is_refused(ptycho, folder, tmp_path, words, said: str) -> None:
    done = infer(ptycho, folder, tmp_path / "out", folder / "network.onnx", *words)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_what_is_no_bundle_is_not_exported(ptycho, folder: Path, tmp_path: Path) -> None:
    for words in (("nowhere",), (folder / "network.onnx",), (folder, "--output", "net.zip")):
        done = ptycho("export", *words)
        assert done.code in (2, 3), done.err
    assert list(tmp_path.iterdir()) == []
