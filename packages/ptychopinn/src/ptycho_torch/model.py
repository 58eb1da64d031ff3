"""The network of the PyTorch side under its legacy path, as the client opens and trains it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

from ptycho import _work
from ptycho._network import PtychoModel as Network

__all__ = ["PtychoPINN_Lightning"]

_LOG = logging.getLogger("ptychopinn-torch")


class PtychoPINN_Lightning:
    """A network that is trained or was opened; the training itself is that of the PyTorch core.

    Attributes:
        network: what was trained or opened; None before.
        loss_name, val_loss_name: names of the losses in `callback_metrics`.
    """

    loss_name: ClassVar[str] = "train_loss"
    val_loss_name: ClassVar[str] = "val_loss"

    def __init__(self, **configs: Any) -> None:
        """Take the configs, by `model_config` and so on."""
        self.configs = configs
        self.network: Network | None = None

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **configs: Any) -> PtychoPINN_Lightning:
        """Open a checkpoint on the device that this host has, whichever it was trained on.

        Raises:
            BundleError: it is missing, damaged, or of another program.
            BackendUnavailableError: PyTorch cannot work here; with how to install it.
        """
        model = cls(**configs)
        model.network = _work.open_network(checkpoint_path, backend="pytorch", log=_LOG).model
        return model
