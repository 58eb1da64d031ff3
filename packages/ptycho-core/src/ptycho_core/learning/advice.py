"""Advice on settings: what to try where something gave out, and what has no effect here.

`mae_weight` and `nll_weight` are without effect for good: `torch_loss_mode` alone says which of the two
losses on the detector counts, and each is in its own unit.
"""

from __future__ import annotations

from collections.abc import Iterator

from ptycho_config.errors import TrainingError
from ptycho_config.execution import (
    InferenceExecution,
    NetworkExecution,
    PyTorchExecutionConfig,
    RuntimeExecutionConfig,
)
from ptycho_config.models import ModelConfig, TrainingConfig

__all__ = [
    "check_scale",
    "flag_prefix",
    "gradients_not_finite_advice",
    "not_finite_advice",
    "settings_without_effect",
    "smaller_batch_advice",
    "smaller_inference_advice",
]

#: Of the logarithm of a scale whose square is still a number in float32.
_LARGEST_LOG_SCALE = 44.0


def flag_prefix(execution: InferenceExecution) -> str:
    """Return how the flags of an execution begin on the command line."""
    if isinstance(execution, RuntimeExecutionConfig):
        return "--runtime-"
    return "--torch-" if isinstance(execution, PyTorchExecutionConfig) else "--tensorflow-"


def smaller_batch_advice(batch_size: int, execution: NetworkExecution) -> str:
    """Say how large the batches of a training were and what to try next."""
    flags = flag_prefix(execution)
    if batch_size == 1:
        return (
            f"Out of memory with one frame or group a batch. Try `{flags}precision bf16-mixed`, or "
            f"`{flags}accelerator cpu`."
        )
    return f"Out of memory with `--batch-size {batch_size}`. Try `--batch-size {batch_size // 2}`."


def smaller_inference_advice(batch_size: int, execution: InferenceExecution) -> str:
    """Say how many frames or groups one step of inference had, and what to try next."""
    flags = flag_prefix(execution)
    if batch_size == 1 and isinstance(execution, RuntimeExecutionConfig):
        return "Out of memory with one frame or group at a time. Close what else holds memory here."
    if batch_size == 1:
        return f"Out of memory with one frame or group at a time. Try `{flags}accelerator cpu`."
    flag = f"{flags}inference-batch-size"
    return f"Out of memory with `{flag} {batch_size}`. Try `{flag} {batch_size // 2}`."


def not_finite_advice(
    step: int, execution: NetworkExecution, *, weights_finite: bool, patches_finite: bool
) -> str:
    """Say at which step the loss was not finite, where that began, and what to try next.

    Args:
        weights_finite: whether the weights still are, before the step.
        patches_finite: whether what the network made of its input is.
    """
    flags = flag_prefix(execution)
    calmer = f"lower `{flags}learning-rate`, or set `--gradient-clip-val 1`"
    if not weights_finite:
        cause, cure = "the step before left weights that are not", calmer
    elif patches_finite:
        cause, cure = "the patches are, and what the detector would see of them is not", calmer
    elif execution.precision != "32-true":
        cause, cure = "the network overflows in half precision", f"use `{flags}precision 32-true`"
    else:
        cause, cure = "the network overflows", calmer
    return f"The loss is not finite at step {step}: {cause}; {cure}."


def gradients_not_finite_advice(step: int, execution: NetworkExecution) -> str:
    """Say that the gradients of a finite loss overflow in half precision, however small it is made."""
    return (
        f"The gradients are not finite at step {step}, however small the loss is made: the network overflows "
        f"in half precision; use `{flag_prefix(execution)}precision 32-true`."
    )


def check_scale(log_scale: float, step: int, execution: NetworkExecution) -> None:
    """Stop a training whose scale of the counts has left what numbers can hold.

    Args:
        step: that was the last one.
    Raises:
        TrainingError: the loss of the next step cannot be finite; says what to try.
    """
    if not abs(log_scale) <= _LARGEST_LOG_SCALE:  # not a number is no less
        raise TrainingError(not_finite_advice(step + 1, execution, weights_finite=False, patches_finite=True))


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
    """List the settings that were chosen, other than the default, and that nothing here reads.

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
