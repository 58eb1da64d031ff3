"""How a training ends early: at SIGTERM, between two steps; or by failing, back at its last good weights."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Generic, TypeVar

__all__ = ["LastGood", "Termination"]

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


class Termination:
    """Hears the signal during a training, and passes it on to the handler that was there before.

    Attributes:
        heard: this process was asked to end.
    """

    def __init__(self) -> None:
        self.heard = False
        self._before = signal.getsignal(signal.SIGTERM)

    def listen(self) -> None:
        """Begin; only the main thread may, others hear nothing."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hear)

    def end(self) -> None:
        """Put the former handler back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        if callable(self._before):
            self._before(number, frame)
