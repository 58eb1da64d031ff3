"""What `ptycho infer` shows and keeps besides: comparison, limits of the phase, the scan as it was imaged."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

CORE = all(importlib.util.find_spec(name) for name in ("ptycho_core_torch", "torch", "lightning"))
pytestmark = pytest.mark.skipif(not CORE, reason="the PyTorch core is not installed")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a scan with its true object, and the same scan without."""
    from dataclasses import replace

    from ptycho_config.execution import PyTorchExecutionConfig
    from ptycho_config.models import TrainingConfig
    from ptycho_core.backend import get_backend
    from ptycho_core.io import save_scan
    from ptycho_core.simulate import simulate_scan

    root = tmp_path_factory.mktemp("infer-flags")
    scan = simulate_scan(frames=30, frame_px=32, start_kind="true", photons=1e5, seed=1).scan
    execution = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
    get_backend("pytorch").train(scan, TrainingConfig(nepochs=1), execution).save(root)
    save_scan(scan, root / "known.npz")
    save_scan(replace(scan, ground_truth=None), root / "unknown.npz")
    return root


def infer(ptycho, root: Path, out: Path, *words: str, scan: str = "known.npz"):
    given = ("--model_path", str(root), "--test_data", str(root / scan), "--output_dir", str(out))
    return ptycho("infer", *given, "--torch-accelerator", "cpu", *words)


def test_a_comparison_with_the_true_object_is_drawn(ptycho, trained: Path, tmp_path: Path) -> None:
    done = infer(ptycho, trained, tmp_path, "--comparison_plot")
    assert done.code == 0, done.err
    assert (tmp_path / "comparison_plot.png").stat().st_size > 20_000
    assert "comparison_plot.png" in done.out
    assert "Object error against the true object" in done.err


def test_a_comparison_without_a_true_object_is_refused(ptycho, trained: Path, tmp_path: Path) -> None:
    done = infer(ptycho, trained, tmp_path / "out", "--comparison-plot", scan="unknown.npz")
    assert done.code == 3
    assert "holds no true object (`objectGuess`)" in done.err
    assert not (tmp_path / "out" / "reconstruction.npz").exists()


def test_the_limits_of_the_phase_change_its_picture_alone(ptycho, trained: Path, tmp_path: Path) -> None:
    assert infer(ptycho, trained, tmp_path / "own").code == 0
    done = infer(ptycho, trained, tmp_path / "set", "--phase_vmin", "-3", "--phase-vmax", "3")
    assert done.code == 0, done.err
    same = {
        name: (tmp_path / "own" / name).read_bytes() == (tmp_path / "set" / name).read_bytes()
        for name in ("reconstructed_amplitude.png", "reconstructed_phase.png")
    }
    assert same == {"reconstructed_amplitude.png": True, "reconstructed_phase.png": False}


@pytest.mark.parametrize("limits", [("2", "1"), ("1", "1"), ("nan", "1")])
def test_limits_that_are_none_are_refused(ptycho, trained: Path, tmp_path: Path, limits) -> None:
    done = infer(ptycho, trained, tmp_path / "out", "--phase-vmin", limits[0], "--phase-vmax", limits[1])
    assert done.code == 2
    assert "are no limits" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [("--debug_dump",), ("--debug-dump", "elsewhere")])
def test_the_scan_as_it_was_imaged_opens_again(ptycho, trained: Path, tmp_path: Path, words) -> None:
    from ptycho_core import open_scan

    out = tmp_path / "out"
    where = [words[0], *(str(tmp_path / word) for word in words[1:])]
    done = infer(ptycho, trained, out, *where, "--n-subsample", "12")
    assert done.code == 0, done.err
    dumped = open_scan(Path(where[1] if where[1:] else out / "debug_dump") / "frames.npz")
    whole = open_scan(trained / "known.npz")
    assert dumped.n_frames == 12
    known = {frame.tobytes() for frame in whole.amplitude(slice(None))}
    assert all(frame.tobytes() in known for frame in dumped.amplitude(slice(None)))
    assert np.isin(dumped.positions_px[:, 0], whole.positions_px[:, 0]).all()


def test_the_file_that_a_training_was_set_by_serves_inference(ptycho, trained: Path, tmp_path: Path) -> None:
    settings = tmp_path / "both.yaml"
    settings.write_text("model:\n  gridsize: 2\nnepochs: 3\nn_subsample: 12\n", encoding="utf-8")
    done = infer(ptycho, trained, tmp_path / "out", "--config", str(settings))
    assert done.code == 0, done.err
    assert "12 frames" in done.out
    settings.write_text("nepoch: 3\n", encoding="utf-8")
    done = infer(ptycho, trained, tmp_path / "out2", "--config", str(settings))
    assert done.code == 2
    assert "nepochs" in done.err
