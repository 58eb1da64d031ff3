"""The weights to go back to where a training fails."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["LastGood"]

Weights = TypeVar("Weights")


class LastGood(Generic[Weights]):
    """Holds the weights of an epoch, which count as good once the loss of a step from them was finite.

    The last step of an epoch may be the one that spoils them, and only the next one tells.

    Attributes:
        weights: the last good ones; those that the training began with where no epoch has given any.
        n_epochs: epochs of this run that had ended with them.
    """

    def __init__(self, first: Weights) -> None:
        self.weights, self.n_epochs = first, 0
        self._untried: tuple[Weights, int] | None = None

    def end_epoch(self, weights: Weights, n_epochs: int) -> None:
        """Keep the weights that an epoch ended with."""
        self._untried = (weights, n_epochs)

    def end_step(self) -> None:
        """Note that the loss of a step was finite."""
        if self._untried is not None:
            (self.weights, self.n_epochs), self._untried = self._untried, None
