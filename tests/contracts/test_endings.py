"""However a training ends, what it learned is kept, and where it failed the message says what to do."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import TrainingError
from ptycho_core import Scan


def is_usable(trained, scan: Scan) -> bool:
    result = trained.reconstruct(scan)
    return bool(np.isfinite(result.object).all() and np.isfinite(result.data_residual))


def test_a_run_that_is_asked_to_stop_keeps_its_work(core, scan: Scan, listener) -> None:
    listener.stop_after = 4
    trained = core.train(scan, callbacks=[listener], nepochs=50, batch_size=8)
    assert trained.interrupted
    assert len(listener.steps) == 4
    # Three steps are an epoch; the one that was cut short is told like any other.
    assert [row["epoch"] for row in trained.history] == [1, 2]
    assert [epoch.epoch for epoch in listener.epochs] == [1, 2]
    assert listener.messages("stopped") == ["Stopped on request; the weights reached so far are kept."]
    assert listener.ends == [False]
    assert is_usable(trained, scan)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signals_end_a_run_and_are_heard_again_afterwards(core, scan: Scan, listener, number) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    listener.on_step = lambda step: signal.raise_signal(number)
    try:
        trained = core.train(scan, callbacks=[listener], nepochs=50, batch_size=8)
    except KeyboardInterrupt:
        assert number == signal.SIGINT
    else:
        assert number == signal.SIGTERM
        assert trained.interrupted
        assert is_usable(trained, scan)
    assert {one: signal.getsignal(one) for one in before} == before


def test_a_callback_that_fails_ends_the_run_with_its_own_error(core, scan: Scan, listener) -> None:
    def fail(step) -> None:
        raise LookupError("of the embedding program")

    listener.on_step = fail
    with pytest.raises(LookupError, match="of the embedding program"):
        core.train(scan, callbacks=[listener], nepochs=2)
    assert listener.ends == [True]


def test_a_time_budget_ends_the_run(core, scan: Scan) -> None:
    trained = core.train(scan, max_time=0.5)
    assert not trained.interrupted
    assert trained.history
    assert is_usable(trained, scan)


def test_the_shorter_of_epochs_and_time_holds(core, scan: Scan) -> None:
    assert len(core.train(scan, max_time=3600.0, nepochs=2).history) == 2


def test_imaging_that_is_asked_to_stop_says_so(core, scan: Scan, listener) -> None:
    trained = core.train(scan, nepochs=1)
    listener.stop_after = 1
    by_three = replace(trained, execution=core.execution(inference_batch_size=3))
    result = by_three.reconstruct(scan, callbacks=[listener])
    assert result.interrupted
    assert len(listener.steps) == 1
    assert listener.ends == [False]
    assert 0 < np.count_nonzero(result.object != 1) < result.object.size


def test_a_learning_rate_that_is_far_too_large_ends_at_the_last_good_weights(
    core, scan: Scan, tmp_path: Path
) -> None:
    """Gradient descent without anything that clips it: each step overshoots by more than the one before."""
    wild = {"execution": {"learning_rate": 10.0}, "optimizer": "sgd", "gradient_clip_val": 0}
    with pytest.raises(TrainingError) as failed:
        core.train(scan, directory=tmp_path, nepochs=50, batch_size=24, **wild)
    found = re.fullmatch(
        r"The loss is not finite at step (\d+): (?P<cause>.+); "
        rf"lower `{core.flags}learning-rate`, or set `--gradient-clip-val 1`\. "
        r"The last good weights are in (?P<bundle>.+)\.",
        str(failed.value),
    )
    assert found, str(failed.value)
    assert found["cause"] in ("the step before left weights that are not", "the network overflows")
    kept = core.load(Path(found["bundle"]))
    # A step is an epoch. The weights after the last but one gave the last finite loss.
    assert len(kept.history) == int(found[1]) - 2 > 0
    assert is_usable(kept, scan)


def test_a_run_that_fails_before_it_learned_anything_leaves_an_earlier_network_alone(
    core, scan: Scan, tmp_path: Path
) -> None:
    (tmp_path / "wts.h5.zip").write_bytes(b"what was there before")
    wild = {"execution": {"learning_rate": 1e30}, "gradient_clip_val": 0}
    with pytest.raises(TrainingError, match=r"not finite at step 2: .+`--gradient-clip-val 1`\.$"):
        core.train(scan, directory=tmp_path, nepochs=5, batch_size=24, **wild)
    assert (tmp_path / "wts.h5.zip").read_bytes() == b"what was there before"


@pytest.mark.finding("TRAIN-COLLAPSE-001")
def test_a_network_that_always_answers_the_same_is_stopped(core, scan: Scan, tmp_path: Path) -> None:
    """Where every frame is the same there is nothing else that a network could answer."""
    alike = replace(scan, frames=np.repeat(scan.frames[:1], scan.n_frames, axis=0))
    with pytest.raises(TrainingError, match=r"^TRAIN-COLLAPSE-001: .*same patch.*weights are in") as failed:
        core.train(alike, directory=tmp_path, nepochs=30, batch_size=2)
    assert f"Use a lower `{core.flags}learning-rate`" in str(failed.value)
    # Twelve steps an epoch, and 200 of patience: the seventeenth epoch is the first that is judged.
    kept = core.load(tmp_path)
    assert len(kept.history) == 16
    assert is_usable(kept, scan)


def greedy(monkeypatch: pytest.MonkeyPatch, core, owner: object, name: str) -> None:
    """Let what a function returns cost more memory than there is, and the core's framework say so."""
    real, too_much = getattr(owner, name), core.asking_for_too_much

    def asking(*given: object) -> object:
        return too_much(real(*given))

    monkeypatch.setattr(owner, name, asking)


def test_where_memory_gives_out_in_training_half_the_batch_is_advised(
    core, scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy(monkeypatch, core, core.network(), "detector_intensity")
    with pytest.raises(TrainingError, match=r"^Out of memory with `--batch-size 8`\. Try `.*4`\.$"):
        core.train(scan, directory=tmp_path, nepochs=1, batch_size=8)
    assert not (tmp_path / "wts.h5.zip").exists()


def test_where_memory_gives_out_in_imaging_half_as_many_frames_are_advised(
    core, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = core.train(scan, nepochs=1)
    greedy(monkeypatch, core, core.network().PtychoNetwork, "patches")
    advice = f"Out of memory with `{core.flags}inference-batch-size 32`. "
    with pytest.raises(TrainingError, match=rf"^{advice}Try `{core.flags}inference-batch-size 16`\.$"):
        trained.reconstruct(scan)
