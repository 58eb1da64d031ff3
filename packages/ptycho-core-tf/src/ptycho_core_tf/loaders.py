"""What a training learns from, as `tf.data`: batches are gathered beside the step that runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ptycho_config.models import TrainingConfig
from ptycho_core.learning.frames import FrameBatch, Frames
from ptycho_core.learning.order import Shuffled, batches_of
from ptycho_core_tf.framework import tf

__all__ = ["Loader", "make_loader"]

#: Batches that lie ready.
_AHEAD = 2


class Loader(NamedTuple):
    """The batches of an epoch.

    Attributes:
        dataset: of dicts from the names of `Batch` to tensors (together, B, …); an element holds the batches
            of one step, one for each device.
        order: which batches; whose epoch whoever loops must set.
        n_steps: elements of an epoch.
        frames_per_batch: frames of one batch.
    """

    dataset: tf.data.Dataset
    order: Shuffled
    n_steps: int
    frames_per_batch: int


def make_loader(frames: Frames, config: TrainingConfig, seed: int, *, together: int = 1) -> Loader:
    """Load what is learned from.

    Args:
        config: settled.
        seed: of the order.
        together: batches that one step learns from; as many as there are devices.
    """
    data, shares = batches_of(frames, config, seed=seed, n_ranks=together)
    n_steps, order = len(shares), shares.of_all()

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for chosen in order:
            yield _named(data[chosen])

    example = _named(data[next(iter(shares.of_all()))])
    signature = {name: tf.TensorSpec(part.shape, tf.as_dtype(part.dtype)) for name, part in example.items()}
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    # A strategy takes the batches of a step apart again, and knows how only after `batch`.
    dataset = dataset.batch(together, drop_remainder=True).prefetch(_AHEAD)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(n_steps))
    return Loader(dataset, order, n_steps, len(example["counts"]))


def _named(batch: FrameBatch) -> dict[str, np.ndarray]:
    return {name: part for name, part in batch._asdict().items() if part is not None}
