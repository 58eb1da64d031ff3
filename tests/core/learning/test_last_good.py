"""Weights count as good once a finite loss came from them, and no scale may leave what numbers can hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.errors import TrainingError
from ptycho_config.execution import PyTorchExecutionConfig, TensorFlowExecutionConfig
from ptycho_core.learning.advice import check_scale
from ptycho_core.learning.ending import LastGood


def test_an_epoch_counts_when_the_step_after_it_was_finite() -> None:
    good = LastGood("first")
    good.end_step()
    assert (good.weights, good.n_epochs) == ("first", 0)
    good.end_epoch("one", 1)
    assert (good.weights, good.n_epochs) == ("first", 0)
    good.end_step()
    assert (good.weights, good.n_epochs) == ("one", 1)


@given(st.lists(st.booleans()))
def test_it_lags_behind_the_last_epoch_by_the_step_that_proves_it(ends_of_epochs: list[bool]) -> None:
    """Each step is finite, and some of them end an epoch whose weights are its number."""
    good, n_epochs = LastGood(0), 0
    for ends in ends_of_epochs:
        good.end_step()
        assert good.weights == good.n_epochs == n_epochs
        if ends:
            n_epochs += 1
            good.end_epoch(n_epochs, n_epochs)
            assert good.weights == good.n_epochs == n_epochs - 1


@pytest.mark.parametrize("log_scale", [0.0, -20.0, 43.9, -43.9])
def test_a_scale_that_numbers_hold_is_fine(log_scale: float) -> None:
    check_scale(log_scale, 3, PyTorchExecutionConfig(accelerator="cpu"))


@pytest.mark.parametrize("log_scale", [45.0, -1e30, float("inf"), float("nan")])
def test_a_scale_that_left_all_numbers_ends_the_training(log_scale: float) -> None:
    with pytest.raises(TrainingError, match=r"not finite at step 4: .*lower `--tensorflow-learning-rate`"):
        check_scale(log_scale, 3, TensorFlowExecutionConfig())
