"""A training of any core goes on from its bundle, with the settings it began with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import ConfigError
from ptycho_core import Scan
from ptycho_core.simulate import simulate_scan


@pytest.fixture(scope="module")
def bundle(core, scan: Scan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of three epochs."""
    return core.train(scan, nepochs=3, batch_size=8).save(tmp_path_factory.mktemp(core.name))


def test_it_goes_on_where_it_ended(core, bundle: Path, scan: Scan, listener) -> None:
    before = core.load(bundle)
    image = before.reconstruct(scan).object
    gone_on = core.train(scan, start=before, callbacks=[listener], nepochs=5)
    assert [row["epoch"] for row in gone_on.history] == [1, 2, 3, 4, 5]
    assert gone_on.history[:3] == before.history
    assert np.all(np.diff([row["seconds"] for row in gone_on.history]) > 0)
    assert (gone_on.training.batch_size, gone_on.training.seed) == (8, 1)
    assert gone_on.training.torch_loss_mode == before.training.torch_loss_mode
    # Its first epoch finds what three epochs have learned: less to explain than an untrained network's first.
    assert gone_on.history[3]["residual"] < before.history[0]["residual"]
    assert len(listener.epochs) == 2
    # Whoever goes on takes the weights along and leaves the network as it was.
    assert np.array_equal(before.reconstruct(scan).object, image)
    assert not np.array_equal(gone_on.reconstruct(scan).object, image)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"batch_size": 7, "seed": 5}, r"`batch_size` was 8 and is 7; `seed` was 1 and is 5"),
        ({"model": {"gridsize": 2}}, r"`gridsize` was 1 and is 2"),
        ({"model": {"architecture": "cnn"}}, r"`architecture` was 'fno' and is 'cnn'"),
    ],
    ids=["training", "groups", "architecture"],
)
def test_settings_that_differ_are_refused_by_name(core, bundle: Path, scan: Scan, given, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        core.train(scan, start=core.load(bundle), nepochs=5, **given)
    assert "leave out `--resume`" in str(refused.value)


def test_frames_of_another_size_are_refused(core, bundle: Path) -> None:
    larger = simulate_scan(frames=8, frame_px=48, start_kind="true").scan
    with pytest.raises(ConfigError, match=r"frames of 32 px and .* 48 px\. Go on with"):
        core.train(larger, start=core.load(bundle), nepochs=5)


def test_a_training_that_is_over_asks_how_long_to_go_on(core, bundle: Path, scan: Scan) -> None:
    with pytest.raises(ConfigError, match=r"All 3 epochs are done.*--nepochs 6.*--max-time 3m"):
        core.train(scan, start=core.load(bundle))


def test_a_budget_of_time_is_for_going_on_too(core, bundle: Path, scan: Scan) -> None:
    other = {"learning_rate": 1e-4}  # where and how it runs may change
    assert len(core.train(scan, start=core.load(bundle), execution=other, max_time=0.2).history) > 3
