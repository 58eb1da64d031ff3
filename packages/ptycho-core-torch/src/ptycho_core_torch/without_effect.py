"""Settings that older scripts may give and that this version does not act on; each use is said."""

from __future__ import annotations

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import TrainingConfig

__all__ = ["settings_without_effect"]

_TRAINING = (
    "mae_weight",
    "nll_weight",
    "realspace_mae_weight",
    "positions_provided",
    "probe_trainable",
    "optimizer",
    "momentum",
    "scheduler",
    "lr_warmup_epochs",
    "lr_min_ratio",
    "plateau_factor",
    "plateau_patience",
    "plateau_min_lr",
    "plateau_threshold",
)
_EXECUTION = (
    "scheduler",
    "enable_progress_bar",
    "checkpoint_save_top_k",
    "checkpoint_monitor_metric",
    "checkpoint_mode",
    "recon_log_every_n_epochs",
    "recon_log_num_patches",
    "recon_log_fixed_indices",
    "recon_log_stitch",
    "recon_log_max_stitch_samples",
    "middle_trim",
    "pad_eval",
)
_MODEL = ("gaussian_smoothing_sigma",)


def settings_without_effect(config: TrainingConfig, execution: PyTorchExecutionConfig) -> list[str]:
    """List the settings that somebody chose, other than the default, and that nothing here reads."""
    chosen = []
    for part, names, prefix in (
        (config, _TRAINING, ""),
        (config.model, _MODEL, ""),
        (execution, _EXECUTION, "torch_"),
    ):
        for name in names:
            if getattr(part, name) != type(part).model_fields[name].get_default(call_default_factory=True):
                chosen.append(f"--{prefix}{name}".replace("_", "-"))
    return chosen
