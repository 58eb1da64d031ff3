"""Settings that somebody gives and that nothing acts on: not in this version, or not beside the others.

`mae_weight` and `nll_weight` are among them for good: `torch_loss_mode` alone says which of the two losses on
the detector counts, and each is in its own unit.
"""

from __future__ import annotations

from collections.abc import Iterator

from ptycho_config.execution import NetworkExecution
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.learning.advice import flag_prefix

__all__ = ["settings_without_effect"]

_TRAINING = ("mae_weight", "nll_weight", "positions_provided")
_EXECUTION = (
    "recon_log_every_n_epochs",
    "recon_log_num_patches",
    "recon_log_fixed_indices",
    "recon_log_stitch",
    "recon_log_max_stitch_samples",
    "middle_trim",
    "pad_eval",
)
_MODEL = ("gaussian_smoothing_sigma",)
#: What only one optimiser or schedule reads.
_ONLY_WITH = {
    ("optimizer", "sgd"): ("momentum",),
    ("scheduler", "WarmupCosine"): ("lr_warmup_epochs", "lr_min_ratio"),
    ("scheduler", "ReduceLROnPlateau"): (
        "plateau_factor",
        "plateau_patience",
        "plateau_min_lr",
        "plateau_threshold",
    ),
}


def settings_without_effect(config: TrainingConfig, execution: NetworkExecution) -> list[str]:
    """List the settings that somebody chose, other than the default, and that nothing here reads.

    Args:
        config: settled, so that its optimiser and schedule are those that run.
    """
    chosen = [
        *_chosen(config, _TRAINING, "--"),
        *_chosen(config.model, _MODEL, "--"),
        *_chosen(execution, _EXECUTION, flag_prefix(execution)),
    ]
    for (name, value), readers in _ONLY_WITH.items():
        if getattr(config, name) != value:
            chosen += [f"{flag} (read with `--{name} {value}`)" for flag in _chosen(config, readers, "--")]
    return chosen


def _chosen(
    part: TrainingConfig | ModelConfig | NetworkExecution, names: tuple[str, ...], prefix: str
) -> Iterator[str]:
    fields = type(part).model_fields
    for name in names:
        if name in fields and getattr(part, name) != fields[name].get_default(call_default_factory=True):
            yield prefix + name.replace("_", "-")
