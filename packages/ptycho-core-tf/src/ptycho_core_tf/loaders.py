"""What a training learns from, as `tf.data`: batches are gathered beside the step that runs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, repeat

import numpy as np

from ptycho_config.models import TrainingConfig
from ptycho_core.learning.frames import FrameBatch, Frames
from ptycho_core.learning.order import GroupBatches, Neighbourhoods, Shuffled, batches_of
from ptycho_core_tf.framework import tf

__all__ = ["Loader", "make_loader"]

#: Batches that lie ready.
_AHEAD = 2


class Loader:
    """The batches of a training, epoch after epoch.

    Attributes:
        dataset: of dicts from the names of `Batch` to tensors (together, B, …); an element holds the batches
            of one step, one for each device. It has no end: an epoch that begins anew costs Keras two
            iterators, which on a CPU take as long as several steps.
        n_steps: elements of an epoch.
        frames_per_batch: frames of one batch.
    """

    def __init__(
        self, data: Neighbourhoods | GroupBatches, order: Shuffled, *, n_steps: int, together: int
    ) -> None:
        self._data, self._order, self._begun = data, order, False
        # Frames may be thinned anew each time that they are gathered: this batch is the first to learn from.
        first = next(iter(order))
        self._first: dict[str, np.ndarray] | None = _named(data[first])
        self.n_steps, self.frames_per_batch = n_steps, len(self._first["counts"])
        signature = {
            name: tf.TensorSpec(part.shape, tf.as_dtype(part.dtype)) for name, part in self._first.items()
        }
        dataset = tf.data.Dataset.from_generator(self._batches, output_signature=signature)
        # A strategy takes the batches of a step apart again, and knows how only after `batch`.
        dataset = dataset.batch(together, drop_remainder=True).prefetch(_AHEAD)
        # Nothing is left to tune. The thread that would do so can miss that its iterator ends; then whoever
        # ends it, the garbage collector for one, stands still until it looks again, a minute later at worst.
        options = tf.data.Options()
        options.autotune.enabled = False
        self.dataset = dataset.with_options(options)

    def begin(self) -> None:
        """Let the next iteration gather batches; those before it see the first batch over and over."""
        self._begun = True

    def _batches(self) -> Iterator[dict[str, np.ndarray]]:
        if not self._begun and self._first is not None:
            # Keras looks at a batch before it begins, and tf.data gathers ahead for it.
            yield from repeat(self._first)
        for epoch in count():
            self._order.set_epoch(epoch)
            for chosen in self._order:
                first, self._first = self._first, None
                yield _named(self._data[chosen]) if first is None else first


def make_loader(frames: Frames, config: TrainingConfig, seed: int, *, together: int = 1) -> Loader:
    """Load what is learned from.

    Args:
        config: settled.
        seed: of the order.
        together: batches that one step learns from; as many as there are devices.
    """
    data, shares = batches_of(frames, config, seed=seed, n_ranks=together)
    return Loader(data, shares.of_all(), n_steps=len(shares), together=together)


def _named(batch: FrameBatch) -> dict[str, np.ndarray]:
    return {name: part for name, part in batch._asdict().items() if part is not None}
