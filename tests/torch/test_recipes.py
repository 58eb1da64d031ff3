"""Optimiser, learning rate, clipping and loss are those that the settings name."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import torch
from ptycho_config.errors import ConfigError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.learning.frames import Frames
from ptycho_core.learning.recipe import clip_value_of, learning_rate_of, settled
from ptycho_core_torch import reporting
from ptycho_core_torch.clipping import clip_adaptively
from ptycho_core_torch.optimisers import optimiser_for
from ptycho_core_torch.schedules import exponential, our_course, warm_up_and_cosine
from torch import nn

CPU = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
#: Trains in moments; a recipe is the same whatever the network.
NARROW = ModelConfig(architecture="fno_vanilla", fno_width=8, fno_blocks=2)


def train(scan: Scan, test_scan: Scan | None = None, execution: dict[str, Any] | None = None, **config: Any):
    settings = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none", **(execution or {}))
    chosen = TrainingConfig(**{"model": NARROW, **config})
    return get_backend("pytorch").train(scan, chosen, settings, test_scan=test_scan)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate with which each epoch of a training begins, noted as it runs."""
    noted: list[float] = []

    class Noting(reporting.Reporter):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
            noted.append(trainer.optimizers[0].param_groups[0]["lr"])

    monkeypatch.setattr("ptycho_core_torch.training.Reporter", Noting)
    return noted


def test_exponential_takes_five_per_cent_off_after_each_epoch(scan: Scan, rates: list[float]) -> None:
    train(scan, execution={"learning_rate": 0.01}, nepochs=4, scheduler="Exponential")
    assert rates == pytest.approx([0.01, 0.0095, 0.009025, 0.00857375])


def test_a_schedule_goes_on_where_the_earlier_training_ended(scan: Scan, rates: list[float]) -> None:
    first = train(scan, execution={"learning_rate": 0.01}, nepochs=2, scheduler="Exponential")
    rate = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none", learning_rate=0.01)
    get_backend("pytorch").train(scan, TrainingConfig(nepochs=3), rate, start=first)
    assert rates == pytest.approx([0.01, 0.0095, 0.009025])


def test_warm_up_and_cosine_rise_and_fall(scan: Scan, rates: list[float]) -> None:
    settings = {"lr_warmup_epochs": 2, "lr_min_ratio": 0.2, "scheduler": "WarmupCosine"}
    train(scan, execution={"learning_rate": 0.01}, nepochs=6, **settings)
    assert rates[:3] == pytest.approx([0.0005, 0.005, 0.01])
    assert rates[4] == pytest.approx(0.01 * (0.2 + 0.8 * 0.5))
    assert rates[2] > rates[3] > rates[4] > rates[5] > 0.002


@pytest.mark.parametrize("tested", [False, True])
def test_a_plateau_of_the_loss_lowers_the_rate_as_far_as_its_floor(
    scan: Scan, rates: list[float], tested: bool
) -> None:
    settings = {
        "plateau_patience": 0,
        "plateau_threshold": 0.9,
        "plateau_factor": 0.5,
        "plateau_min_lr": 2e-4,
    }
    train(
        scan,
        test_scan=scan if tested else None,
        execution={"learning_rate": 1e-3, "scheduler": "ReduceLROnPlateau"},
        nepochs=6,
        **settings,
    )
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 2e-4, 2e-4])


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_no_course_leaves_the_range_between_nothing_and_the_first_rate(step: int, progress: float) -> None:
    config = TrainingConfig(lr_warmup_epochs=3, lr_min_ratio=0.1)
    assert 0 < our_course(step, progress) <= 1
    assert 0 < exponential(min(step / 7, 1000.0)) <= 1
    for n_epochs in (None, 2, 3, 50):
        assert 0.05 <= warm_up_and_cosine(step / 7, progress, config, n_epochs) <= 1


def test_a_cosine_ends_at_its_lowest_rate() -> None:
    config = TrainingConfig(lr_min_ratio=0.3)
    assert warm_up_and_cosine(50.0, 1.0, config, 50) == pytest.approx(0.3)
    assert our_course(1000, 1.0) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        ({"optimizer": "adam", "weight_decay": 0.1}, torch.optim.Adam, {"weight_decay": 0.1}),
        ({"optimizer": "adamw", "adam_beta1": 0.8}, torch.optim.AdamW, {"betas": (0.8, 0.999)}),
        (
            {"optimizer": "sgd", "momentum": 0.7, "weight_decay": 0.2},
            torch.optim.SGD,
            {"momentum": 0.7, "weight_decay": 0.2},
        ),
    ],
)
def test_the_optimiser_is_the_one_named(settings: dict, kind: type, expected: dict) -> None:
    optimiser = optimiser_for(TrainingConfig(**settings), [nn.Parameter(torch.ones(2))], 0.5)
    assert type(optimiser) is kind
    assert {name: optimiser.defaults[name] for name in expected} == expected
    assert optimiser.defaults["lr"] == 0.5


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimiser_learns_and_is_stored(scan: Scan, optimizer: str) -> None:
    rate = {"learning_rate": 0.05} if optimizer == "sgd" else None
    trained = train(scan, execution=rate, nepochs=6, optimizer=optimizer)
    losses = [row["train_loss"] for row in trained.history]
    assert losses[-1] < losses[0]
    assert trained.training.optimizer == optimizer


def test_with_no_optimiser_chosen_it_is_adamw_and_stays_so(scan: Scan) -> None:
    first = train(scan, nepochs=1)
    assert first.training.optimizer == "adamw"
    second = get_backend("pytorch").train(scan, TrainingConfig(nepochs=2), CPU, start=first)
    assert second.training.optimizer == "adamw"


def test_what_the_execution_settings_say_wins(scan: Scan) -> None:
    frames = Frames(scan)
    config = TrainingConfig(gradient_clip_val=2.0, gradient_clip_algorithm="value", scheduler="Exponential")
    silent = settled(config, CPU, frames)
    assert (silent.gradient_clip_val, silent.gradient_clip_algorithm) == (2.0, "value")
    assert silent.scheduler == "Exponential"
    said = PyTorchExecutionConfig(accelerator="cpu", gradient_clip_val=3.0, scheduler="Default")
    won = settled(config, said, frames)
    assert (won.gradient_clip_val, won.gradient_clip_algorithm) == (3.0, "value")
    assert won.scheduler == "Default"


def test_unet_has_a_rate_and_a_limit_of_its_own_by_default() -> None:
    unet, cnn = TrainingConfig(), TrainingConfig(model=ModelConfig(architecture="cnn"))
    assert (learning_rate_of(unet, CPU), learning_rate_of(cnn, CPU)) == (2e-3, 1e-3)
    chosen = PyTorchExecutionConfig(accelerator="cpu", learning_rate=1e-3)
    assert learning_rate_of(unet, chosen) == 1e-3
    assert (clip_value_of(unet), clip_value_of(cnn)) == (1.0, None)
    assert clip_value_of(TrainingConfig(gradient_clip_algorithm="agc")) == 0.01
    assert clip_value_of(TrainingConfig(gradient_clip_val=0)) == 0


def test_adaptive_clipping_holds_each_unit_against_its_weights() -> None:
    """Against a loop over units in float64."""
    random = torch.Generator().manual_seed(0)
    parameters = [
        nn.Parameter(torch.randn(shape, generator=random, dtype=dtype))
        for shape in ((5, 3, 2, 2), (4, 7), (6,), ())
        for dtype in (torch.float32, torch.complex64)
    ]
    parameters.append(nn.Parameter(torch.zeros(3, 2)))  # no weight yet: held against 1e-3
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=random, dtype=parameter.dtype)
    parameters.append(nn.Parameter(torch.ones(2)))  # without a gradient
    given_gradients = [None if p.grad is None else p.grad.numpy().copy() for p in parameters]
    clip_adaptively(parameters, 0.3)
    for parameter, gradient in zip(parameters[:-1], given_gradients, strict=False):
        weights = parameter.detach().numpy()
        units = range(len(weights)) if weights.ndim > 1 else [...]
        for unit in units:
            allowed = 0.3 * max(np.linalg.norm(np.ravel(weights[unit])), 1e-3)
            found = np.linalg.norm(np.ravel(gradient[unit]))
            expected = gradient[unit] * min(1.0, allowed / found)
            assert parameter.grad.numpy()[unit] == pytest.approx(expected, rel=1e-5)
    assert parameters[-1].grad is None


@pytest.mark.parametrize("algorithm", ["norm", "value", "agc"])
def test_a_limit_near_zero_keeps_the_weights_where_they_were(scan: Scan, algorithm: str) -> None:
    """By SGD, whose steps are as long as the gradients are."""

    def moved(limit: float) -> float:
        clip = {"gradient_clip_val": limit, "gradient_clip_algorithm": algorithm, "learning_rate": 0.05}
        start = train(scan, execution={"learning_rate": 1e-12}, nepochs=1, optimizer="sgd")
        end = train(scan, execution=clip, nepochs=1, optimizer="sgd")
        pairs = zip(start.network.parameters(), end.network.parameters(), strict=True)
        return max(float((a - b).detach().abs().max()) for a, b in pairs)

    assert moved(1e-7) < 1e-5 < moved(1.0)


def test_the_true_object_may_take_part_in_the_loss(scan: Scan) -> None:
    alone = train(scan, nepochs=6)
    guided = train(scan, nepochs=6, realspace_weight=1.0, realspace_mae_weight=1.0)
    assert scan.ground_truth is not None or scan.patch_truth is not None
    assert guided.history[0]["train_loss"] > alone.history[0]["train_loss"]
    assert guided.history[-1]["train_loss"] < guided.history[0]["train_loss"]


@pytest.mark.finding("DATA-SUP-001")
def test_a_real_space_loss_needs_its_factor_and_a_truth(scan: Scan) -> None:
    from dataclasses import replace

    with pytest.raises(ConfigError, match=r"multiplied by `--realspace-weight`, which is 0"):
        train(scan, nepochs=1, realspace_mae_weight=1.0)
    bare = replace(scan, ground_truth=None, patch_truth=None)
    with pytest.raises(ConfigError, match=r"DATA-SUP-001.*Leave `--realspace-mae-weight` out"):
        train(bare, nepochs=1, realspace_mae_weight=1.0, realspace_weight=1.0)
    with pytest.raises(ConfigError, match=r"DATA-SUP-001.*without a ground truth"):
        train(scan, test_scan=bare, nepochs=1, model=ModelConfig(model_type="supervised"))


def test_a_progress_bar_is_drawn_where_it_is_asked_for(
    scan: Scan, capsys: pytest.CaptureFixture[str]
) -> None:
    train(scan, nepochs=1)
    assert "Epoch" not in "".join(capsys.readouterr())
    train(scan, execution={"enable_progress_bar": True}, nepochs=1)
    assert "Epoch 0" in "".join(capsys.readouterr())
