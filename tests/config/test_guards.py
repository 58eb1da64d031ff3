"""Accumulation is refused where it would not do what was asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.errors import PolicyError, TrainingError
from ptycho_config.guards import (
    COLLAPSED,
    accumulation_allowed,
    accumulation_fits,
    check_accumulation,
    check_accumulation_fits,
    check_collapse,
)


class Module:
    """A module that does not say how it optimises."""


class Automatic(Module):
    automatic_optimization = True


class Manual(Module):
    automatic_optimization = False


@pytest.mark.finding("EXEC-ACCUM-001")
@given(automatic=st.booleans(), accum_steps=st.integers(1, 64))
def test_only_manual_modules_may_not_accumulate(automatic: bool, accum_steps: int) -> None:
    assert accumulation_allowed(automatic, accum_steps) == (automatic or accum_steps == 1)


@pytest.mark.finding("EXEC-ACCUM-001")
@pytest.mark.parametrize(
    ("automatic", "accum_steps", "allowed"),
    [
        (True, 1, True),
        (True, 2, True),
        (True, 64, True),
        (False, 1, True),
        (False, 2, False),
        (False, 64, False),
    ],
)
def test_the_truth_table_of_accumulation(automatic: bool, accum_steps: int, allowed: bool) -> None:
    assert accumulation_allowed(automatic, accum_steps) is allowed


@pytest.mark.finding("EXEC-ACCUM-001")
def test_manual_optimisation_is_refused_with_the_way_out() -> None:
    with pytest.raises(PolicyError) as caught:
        check_accumulation(Manual(), 2)
    assert str(caught.value) == (
        "EXEC-ACCUM-001: `accum_steps` is 2, but Manual optimises manually "
        "(`automatic_optimization` is False), where it would have no effect. Use `--torch-accum-steps 1`."
    )


@pytest.mark.finding("EXEC-ACCUM-002")
@pytest.mark.parametrize(
    ("n_batches", "batches", "most"),
    [(0, "0 batches", 1), (1, "1 batch", 1), (2, "2 batches", 2), (3, "3 batches", 3)],
)
def test_too_much_accumulation_is_refused_with_the_way_out(n_batches: int, batches: str, most: int) -> None:
    with pytest.raises(PolicyError) as caught:
        check_accumulation_fits(4, n_batches)
    assert str(caught.value) == (
        f"EXEC-ACCUM-002: `accum_steps` is 4, but an epoch has only {batches}. "
        f"Use `--torch-accum-steps {most}` or less, or a smaller `--batch-size`."
    )


@pytest.mark.finding("TRAIN-COLLAPSE-001")
def test_a_collapse_is_said_with_what_to_try() -> None:
    check_collapse(COLLAPSED)
    with pytest.raises(TrainingError) as caught:
        check_collapse(COLLAPSED * 0.999)
    assert caught.value.finding == "TRAIN-COLLAPSE-001"
    assert str(caught.value) == (
        "TRAIN-COLLAPSE-001: The network gives the same patch for every frame. Use a lower "
        "`--torch-learning-rate`, or `--torch-loss-mode mae`, and train again."
    )
    advice = r"lower `--tensorflow-learning-rate`, or `--torch-loss-mode mae`"
    with pytest.raises(TrainingError, match=advice):
        check_collapse(0.0, flags="--tensorflow-")


@pytest.mark.finding("EXEC-ACCUM-001")
@pytest.mark.parametrize(
    "module", [Module(), Automatic(), Manual()], ids=lambda module: type(module).__name__
)
@given(accum_steps=st.integers(1, 64))
def test_the_guard_fires_exactly_for_manual_modules_that_accumulate(module: Module, accum_steps: int) -> None:
    if isinstance(module, Manual) and accum_steps > 1:
        with pytest.raises(PolicyError, match=r"EXEC-ACCUM-001: .*Manual optimises manually") as caught:
            check_accumulation(module, accum_steps)
        assert caught.value.finding == "EXEC-ACCUM-001"
    else:
        check_accumulation(module, accum_steps)


@pytest.mark.finding("EXEC-ACCUM-002")
@given(accum_steps=st.integers(1, 64), n_batches=st.integers(0, 64))
def test_an_epoch_must_hold_one_whole_accumulation(accum_steps: int, n_batches: int) -> None:
    assert accumulation_fits(accum_steps, n_batches) == (accum_steps <= n_batches)
    if accum_steps <= n_batches:
        check_accumulation_fits(accum_steps, n_batches)
    else:
        with pytest.raises(PolicyError, match=f"EXEC-ACCUM-002: `accum_steps` is {accum_steps}") as caught:
            check_accumulation_fits(accum_steps, n_batches)
        assert caught.value.finding == "EXEC-ACCUM-002"


@pytest.mark.finding("TRAIN-COLLAPSE-001")
@given(st.floats(0, 10, allow_nan=False))
def test_a_network_that_always_says_the_same_is_stopped(spread: float) -> None:
    if spread < COLLAPSED:
        with pytest.raises(TrainingError, match="TRAIN-COLLAPSE-001"):
            check_collapse(spread)
    else:
        check_collapse(spread)
