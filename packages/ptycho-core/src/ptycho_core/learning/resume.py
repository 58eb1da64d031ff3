"""Go on with a training: which settings may change, and where its epochs begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ptycho_config.errors import ConfigError
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_core.scan import Scan

__all__ = ["check_frame_size", "continued", "joined"]

#: How long to train, and where data and results lie.
_FREE = frozenset({"model", "nepochs", "max_time", "output_dir", "train_data_file", "test_data_file"})


def check_frame_size(scan: Scan, trained_px: int) -> None:
    """Refuse to go on with a scan whose frames have another size.

    Raises:
        ConfigError: names both sizes.
    """
    if scan.frame_px != trained_px:
        raise ConfigError(
            f"The network was trained on frames of {trained_px} px and {scan.name} has frames of "
            f"{scan.frame_px} px. Go on with a scan of {trained_px} px frames, or leave out `--resume` to "
            "train anew."
        )


def continued(config: TrainingConfig, before: TrainingConfig, *, epochs_done: int) -> TrainingConfig:
    """Return the settings of the earlier training with the length and the places of the new one.

    Raises:
        ConfigError: a setting was given that differs from that of the earlier training; names all of them.
            Or all epochs are done.
    """
    changed = _changed(config, before, _FREE) + _changed(config.model, before.model, frozenset())
    if changed:
        raise ConfigError(
            f"The network was trained with other settings: {'; '.join(changed)}. "
            "Leave them out to go on with it, or leave out `--resume` to train anew."
        )
    free = {name: getattr(config, name) for name in _FREE - {"model"} if name in config.model_fields_set}
    merged = before.model_copy(update=free | {"max_time": config.max_time})
    by_epochs = config.max_time is None or "nepochs" in free
    if by_epochs and epochs_done >= merged.nepochs:
        raise ConfigError(
            f"All {merged.nepochs} epochs are done. Say how many there shall be in all, such as "
            f"`--nepochs {2 * epochs_done}`, or how long to go on: `--max-time 3m`."
        )
    return merged


def _changed(
    now: TrainingConfig | ModelConfig, before: TrainingConfig | ModelConfig, free: frozenset[str]
) -> list[str]:
    return [
        f"`{name}` was {getattr(before, name)!r} and is {getattr(now, name)!r}"
        for name in sorted(now.model_fields_set - free)
        if getattr(now, name) != getattr(before, name)
    ]


def joined(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    """Return both histories as one: epochs and seconds go on where the first one ended."""
    if not before:
        return tuple(after)
    last = before[-1]
    epochs, seconds = int(last["epoch"]), float(last["seconds"])
    return (
        *before,
        *({**row, "epoch": row["epoch"] + epochs, "seconds": row["seconds"] + seconds} for row in after),
    )
