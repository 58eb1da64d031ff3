"""Names that settings had on older command lines and in older YAML files, in one table."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KNOWN_ELSEWHERE", "LEGACY_NAMES", "LegacyName"]


@dataclass(frozen=True)
class LegacyName:
    """An older name of one or more settings.

    Attributes:
        old: the name, with underscores.
        new: names of today; the value goes to each of them that the command has.
        value: what a flag without a value means; None for a flag that takes one.
        deprecated: whether its use is answered with a DeprecationWarning.
        shown: whether the help text names it.
    """

    old: str
    new: tuple[str, ...]
    value: str | None = None
    deprecated: bool = False
    shown: bool = False

    def advice(self) -> str:
        """Say what to write instead."""
        flag = "--" + self.new[0].replace("_", "-")
        return f"{flag} {self.value}" if self.value is not None else flag


LEGACY_NAMES: tuple[LegacyName, ...] = (
    # A shorter one for the command line.
    LegacyName("probe", ("probe_file",), shown=True),
    # The name by which the field knows it: orthogonal probe relaxation.
    LegacyName("opr_modes", ("probe_variations",), shown=True),
    # Commands before the prefix `torch_` had these.
    LegacyName("accelerator", ("torch_accelerator", "tensorflow_accelerator")),
    LegacyName("deterministic", ("torch_deterministic", "tensorflow_deterministic")),
    LegacyName("no_deterministic", ("torch_deterministic", "tensorflow_deterministic"), value="false"),
    LegacyName("num_workers", ("torch_num_workers",)),
    LegacyName("learning_rate", ("torch_learning_rate", "tensorflow_learning_rate")),
    LegacyName("accumulate_grad_batches", ("torch_accum_steps",)),
    LegacyName("logger", ("torch_logger_backend", "tensorflow_logger_backend")),
    LegacyName("enable_checkpointing", ("torch_enable_checkpointing", "tensorflow_enable_checkpointing")),
    LegacyName(
        "disable_checkpointing",
        ("torch_enable_checkpointing", "tensorflow_enable_checkpointing"),
        value="false",
    ),
    LegacyName("checkpoint_save_top_k", ("torch_checkpoint_save_top_k", "tensorflow_checkpoint_save_top_k")),
    LegacyName(
        "checkpoint_monitor",
        ("torch_checkpoint_monitor_metric", "tensorflow_checkpoint_monitor_metric"),
    ),
    LegacyName("checkpoint_mode", ("torch_checkpoint_mode", "tensorflow_checkpoint_mode")),
    LegacyName("early_stop_patience", ("torch_early_stop_patience", "tensorflow_early_stop_patience")),
    LegacyName("inference_batch_size", ("torch_inference_batch_size", "tensorflow_inference_batch_size")),
    # Those with the prefix had other words behind it.
    LegacyName("torch_logger", ("torch_logger_backend",)),
    LegacyName("torch_accumulate_grad_batches", ("torch_accum_steps",)),
    LegacyName("torch_checkpoint_monitor", ("torch_checkpoint_monitor_metric",)),
    LegacyName("torch_plateau_factor", ("plateau_factor",)),
    LegacyName("torch_plateau_patience", ("plateau_patience",)),
    LegacyName("torch_plateau_min_lr", ("plateau_min_lr",)),
    LegacyName("torch_plateau_threshold", ("plateau_threshold",)),
    LegacyName("max_epochs", ("nepochs",)),
    LegacyName("test_data", ("test_data_file",)),
    LegacyName("no_probe_mask", ("probe_mask",), value="false"),
    LegacyName("quiet", ("console_level",), value="WARNING", shown=True),
    LegacyName("verbose", ("console_level",), value="DEBUG", shown=True),
    LegacyName("n_images", ("n_groups",), deprecated=True),
    LegacyName("device", ("torch_accelerator",), deprecated=True),
    LegacyName("disable_mlflow", ("torch_logger_backend",), value="none", deprecated=True),
)

KNOWN_ELSEWHERE = frozenset({"learning_rate", "stitch_crop_size"})
"""YAML keys that older programs read beside the configs; kept in `Loaded.elsewhere`, never an error."""
