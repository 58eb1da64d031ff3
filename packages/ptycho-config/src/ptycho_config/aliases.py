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
    """

    old: str
    new: tuple[str, ...]
    value: str | None = None
    deprecated: bool = False

    def advice(self) -> str:
        """Say what to write instead."""
        flag = "--" + self.new[0].replace("_", "-")
        return f"{flag} {self.value}" if self.value is not None else flag


LEGACY_NAMES: tuple[LegacyName, ...] = (
    LegacyName("torch_logger", ("torch_logger_backend",)),
    LegacyName("torch_accumulate_grad_batches", ("torch_accum_steps",)),
    LegacyName("torch_checkpoint_monitor", ("torch_checkpoint_monitor_metric",)),
    LegacyName("torch_plateau_factor", ("plateau_factor",)),
    LegacyName("torch_plateau_patience", ("plateau_patience",)),
    LegacyName("torch_plateau_min_lr", ("plateau_min_lr",)),
    LegacyName("torch_plateau_threshold", ("plateau_threshold",)),
    LegacyName("learning_rate", ("torch_learning_rate", "tensorflow_learning_rate")),
    LegacyName("max_epochs", ("nepochs",)),
    LegacyName("test_data", ("test_data_file",)),
    LegacyName("quiet", ("console_level",), value="WARNING"),
    LegacyName("verbose", ("console_level",), value="DEBUG"),
    LegacyName("n_images", ("n_groups",), deprecated=True),
    LegacyName("device", ("torch_accelerator",), deprecated=True),
    LegacyName("disable_mlflow", ("torch_logger_backend",), value="none", deprecated=True),
)

KNOWN_ELSEWHERE = frozenset({"learning_rate", "stitch_crop_size"})
"""YAML keys that older programs read beside the configs; kept in `Loaded.elsewhere`, never an error."""
