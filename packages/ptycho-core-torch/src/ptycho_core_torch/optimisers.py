"""The optimiser that a configuration names."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ptycho_config.models import TrainingConfig
from torch import nn

__all__ = ["optimiser_for"]


def optimiser_for(
    config: TrainingConfig, parameters: Iterable[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """Return the optimiser of a configuration.

    `adam` and `sgd` add the decay of the weights to the gradient, `adamw` takes it off the weights.

    Source:
        Kingma and Ba, arXiv:1412.6980; `adamw`: Loshchilov and Hutter, arXiv:1711.05101.
    """
    decay = config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=config.momentum, weight_decay=decay)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    betas = (config.adam_beta1, config.adam_beta2)
    return kind(parameters, lr=learning_rate, betas=betas, weight_decay=decay)
