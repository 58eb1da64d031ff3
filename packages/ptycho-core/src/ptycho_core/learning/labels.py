"""The true object of a scan as labels: which trainings look at it."""

from __future__ import annotations

from collections.abc import Sequence

from ptycho_config.errors import ConfigError
from ptycho_config.models import TrainingConfig
from ptycho_core.scan import Scan

__all__ = ["needs_truth"]


def needs_truth(config: TrainingConfig, scans: Sequence[Scan]) -> bool:
    """Tell whether the loss looks at the true object, and refuse where a scan has none.

    Raises:
        ConfigError: DATA-SUP-001, or a weight that its own factor makes void.
    """
    supervised = config.model.model_type == "supervised"
    if config.realspace_mae_weight and not config.realspace_weight:
        raise ConfigError(
            f"`--realspace-mae-weight {config.realspace_mae_weight:g}` is multiplied by "
            "`--realspace-weight`, which is 0. Give `--realspace-weight 1`."
        )
    for scan in scans if supervised or config.realspace_mae_weight else ():
        if scan.ground_truth is None and scan.patch_truth is None:
            cure = "Use `--model-type pinn`." if supervised else "Leave `--realspace-mae-weight` out."
            raise ConfigError(
                f"this training needs labels, and {scan.name} comes without a ground truth. {cure}",
                finding="DATA-SUP-001",
            )
    return supervised or config.realspace_mae_weight > 0
