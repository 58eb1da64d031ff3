"""Half precision and the GPU: the same networks, the same images within what the precision allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torch
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core_torch.overlap import add_scattered, add_slices
from ptycho_core_torch.trained import TrainedNetwork

ARCHITECTURES = ("unet", "cnn", "fno", "fno_vanilla", "ffno")
#: What every run of the suite trains of the classic networks has few channels.
NARROW = {"fno_vanilla": {"fno_width": 8, "fno_blocks": 2}}


def execution(accelerator: str = "cpu", **more: object) -> PyTorchExecutionConfig:
    return PyTorchExecutionConfig(accelerator=accelerator, logger_backend="none", **more)


def train(
    scan: Scan, where: PyTorchExecutionConfig, architecture: str = "unet", epochs: int = 6, **model: int
):
    config = TrainingConfig(nepochs=epochs, model=ModelConfig(architecture=architecture, **model))
    return get_backend("pytorch").train(scan, config, where)


@pytest.fixture(scope="module")
def scan(simulated) -> Scan:
    return simulated(frames=60, frame_px=32, start_kind="true", photons=1e5, seed=1).scan


@pytest.fixture(scope="module")
def in_full_precision(scan: Scan) -> Callable[[str], TrainedNetwork]:
    """A network of an architecture, trained once in full precision."""
    return cache(lambda architecture: train(scan, execution(), architecture, **NARROW.get(architecture, {})))


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=() if name == "fno_vanilla" else pytest.mark.slow) for name in ARCHITECTURES],
)
def test_half_precision_learns_as_full_precision_does(
    scan: Scan, in_full_precision: Callable[[str], TrainedNetwork], architecture: str
) -> None:
    """Weights stay float32; bfloat16 keeps eight bits, which moves R by a few per cent of itself."""
    full = in_full_precision(architecture)
    half = train(scan, execution(precision="bf16-mixed"), architecture, **NARROW.get(architecture, {}))
    assert {weight.dtype for weight in half.network.parameters()} == {torch.float32}
    assert half.reconstruct(scan).data_residual == pytest.approx(
        full.reconstruct(scan).data_residual, rel=0.1
    )


def test_half_precision_is_used_at_inference_and_changes_little(scan: Scan, tmp_path) -> None:
    train(scan, execution(), epochs=2).save(tmp_path)
    images = [
        get_backend("pytorch").load(tmp_path, execution(precision=precision)).reconstruct(scan).object
        for precision in ("32-true", "bf16-mixed")
    ]
    assert not np.array_equal(*images)
    assert np.abs(images[0] - images[1]).max() < 0.1


@settings(max_examples=20, deadline=None)
@given(
    corners=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_scatter_adds_what_slices_add(corners, seed) -> None:
    random = torch.Generator().manual_seed(seed)
    patches = torch.randn((len(corners), 8, 8), dtype=torch.complex64, generator=random)
    canvases = [torch.zeros((20, 17), dtype=torch.complex64) for _ in range(2)]
    add_slices(canvases[0], patches, torch.tensor(corners))
    add_scattered(canvases[1], patches, torch.tensor(corners))
    torch.testing.assert_close(*canvases)


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_gpu_images_what_the_cpu_images(scan: Scan, architecture: str, tmp_path) -> None:
    train(scan, execution(), architecture).save(tmp_path)
    images = [
        get_backend("pytorch").load(tmp_path, execution(where)).reconstruct(scan).object
        for where in ("cpu", "cuda")
    ]
    # Convolutions on a GPU may round their inputs to TF32, ten bits.
    assert np.abs(images[0] - images[1]).max() < 2e-2


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_the_gpu_learns_what_the_cpu_learns(scan: Scan, precision: str) -> None:
    on_cpu = train(scan, execution()).reconstruct(scan).data_residual
    on_gpu = train(scan, execution("cuda", precision=precision)).reconstruct(scan).data_residual
    assert on_gpu == pytest.approx(on_cpu, rel=0.15)


@pytest.mark.gpu
def test_thinned_training_runs_on_the_gpu(scan: Scan) -> None:
    config = TrainingConfig(nepochs=3, thin_to=1000.0)
    trained = get_backend("pytorch").train(scan, config, execution("cuda"))
    assert np.isfinite(trained.reconstruct(scan).object).all()
