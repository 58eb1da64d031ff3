"""A training goes on where it ended, with the settings it began with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.errors import ConfigError
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core import Scan
from ptycho_core.backend import get_backend
from ptycho_core.learning import report
from ptycho_core.learning.resume import continued, joined
from ptycho_core.result.callbacks import Callback
from ptycho_core.simulate import simulate_scan

CPU = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
#: Trains in moments, for what holds whatever the network.
NARROW = ModelConfig(architecture="fno_vanilla", fno_width=8, fno_blocks=2)


def train(scan: Scan, start=None, directory=None, callbacks=(), test_scan=None, **config):
    return get_backend("pytorch").train(
        scan,
        TrainingConfig(**config),
        CPU,
        start=start,
        directory=directory,
        callbacks=callbacks,
        test_scan=test_scan,
    )


def test_it_goes_on_from_the_stored_weights(scan: Scan, tmp_path: Path) -> None:
    first = train(scan, nepochs=6, seed=3, batch_size=12, model=NARROW)
    stored = get_backend("pytorch").load(first.save(tmp_path), CPU)
    gone_on = train(scan, stored, nepochs=10)
    assert [row["epoch"] for row in gone_on.history] == list(range(1, 11))
    assert gone_on.training.batch_size == 12
    assert gone_on.training.torch_loss_mode == first.training.torch_loss_mode
    seconds = [row["seconds"] for row in gone_on.history]
    assert seconds == sorted(seconds)
    # Its first new epoch begins near where the old one ended, far below an untrained network's.
    residuals = [row["residual"] for row in gone_on.history]
    assert residuals[6] < 0.5 * (residuals[0] + residuals[5])
    assert gone_on.reconstruct(scan).data_residual < first.reconstruct(scan).data_residual


def test_the_network_that_is_gone_on_with_stays_as_it_was(scan: Scan) -> None:
    first = train(scan, nepochs=1)
    before = {name: value.clone() for name, value in first.network.state_dict().items()}
    train(scan, first, nepochs=2)
    assert all(bool((before[name] == value).all()) for name, value in first.network.state_dict().items())


def test_other_settings_are_refused_by_name(scan: Scan) -> None:
    first = train(scan, nepochs=1)
    with pytest.raises(ConfigError, match=r"`batch_size` was 24 and is 7; `seed` was None and is 5"):
        train(scan, first, nepochs=2, batch_size=7, seed=5)
    with pytest.raises(ConfigError, match=r"`gridsize` was 1 and is 2"):
        train(scan, first, nepochs=2, model=ModelConfig(gridsize=2))


@pytest.mark.parametrize("architecture", ["cnn", "fno"])
def test_another_architecture_is_refused_by_name(scan: Scan, architecture: str) -> None:
    first = train(scan, nepochs=1)
    with pytest.raises(ConfigError, match=rf"`architecture` was 'unet' and is '{architecture}'") as caught:
        train(scan, first, nepochs=2, model=ModelConfig(architecture=architecture))
    # What follows from the architecture is not held against somebody who did not say it.
    assert "input_channels" not in str(caught.value)
    assert "leave out `--resume`" in str(caught.value)


def test_a_scan_of_other_frames_is_refused_by_size(scan: Scan) -> None:
    first = train(scan, nepochs=1)
    larger = simulate_scan(frames=8, frame_px=48, start_kind="true").scan
    with pytest.raises(ConfigError, match=r"frames of 32 px and .* 48 px\. Go on with"):
        train(larger, first, nepochs=2)


def test_where_it_runs_and_how_fast_it_learns_may_change(scan: Scan) -> None:
    """What stands in the execution says nothing of what was learned."""
    first = train(scan, nepochs=1)
    other = PyTorchExecutionConfig(
        accelerator="cpu",
        logger_backend="none",
        learning_rate=1e-4,
        gradient_clip_val=0.5,
        scheduler="Exponential",
        accum_steps=2,
    )
    gone_on = get_backend("pytorch").train(scan, TrainingConfig(nepochs=2), other, start=first)
    assert len(gone_on.history) == 2
    assert (gone_on.training.gradient_clip_val, gone_on.training.scheduler) == (0.5, "Exponential")


def test_a_finished_training_asks_how_long_to_go_on(scan: Scan) -> None:
    first = train(scan, nepochs=2)
    with pytest.raises(ConfigError, match=r"All 2 epochs are done.*--nepochs 4"):
        train(scan, first)
    assert len(train(scan, first, max_time=1.5).history) > 2


@given(
    done=st.integers(0, 60),
    before=st.integers(1, 60),
    now=st.none() | st.integers(1, 60),
    time=st.none() | st.floats(1, 100),
)
def test_the_length_is_the_one_given_and_otherwise_the_earlier_one(
    done: int, before: int, now: int | None, time: float | None
) -> None:
    given_length = ({} if now is None else {"nepochs": now}) | ({} if time is None else {"max_time": time})
    wanted = before if now is None else now
    if done >= wanted and (time is None or now is not None):
        with pytest.raises(ConfigError, match="epochs are done"):
            continued(TrainingConfig(**given_length), TrainingConfig(nepochs=before), epochs_done=done)
        return
    merged = continued(TrainingConfig(**given_length), TrainingConfig(nepochs=before), epochs_done=done)
    assert merged.nepochs == wanted
    assert merged.max_time == time


def test_histories_are_joined_end_to_end() -> None:
    rows = [{"epoch": 1, "seconds": 2.0}, {"epoch": 2, "seconds": 5.0}]
    assert joined((), rows) == tuple(rows)
    assert joined(rows, rows)[2:] == ({"epoch": 3, "seconds": 7.0}, {"epoch": 4, "seconds": 10.0})


def test_the_network_is_written_on_the_way(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_SECONDS_BETWEEN_WRITES", 0.0)
    seen: list[int] = []

    class Watch(Callback):
        def on_step(self, step) -> None:
            if (tmp_path / "wts.h5.zip").exists():
                seen.append(len(get_backend("pytorch").load(tmp_path, CPU).history))

    train(scan, nepochs=3, directory=tmp_path, callbacks=[Watch()])
    assert sorted(set(seen)) == [1, 2]
    assert np.all(np.diff(seen) >= 0)


def test_training_ends_when_the_test_scan_is_explained_no_better(scan: Scan) -> None:
    stubborn = CPU.model_copy(update={"early_stop_patience": 2, "learning_rate": 1e-12})
    trained = get_backend("pytorch").train(
        scan,
        TrainingConfig(nepochs=40, model=NARROW),
        PyTorchExecutionConfig(**stubborn.model_dump()),
        test_scan=scan,
    )
    assert 3 <= len(trained.history) < 40
