"""What a network is trained with where no choice was made: its settings, and labels from a true object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ptycho_config.errors import ConfigError
from ptycho_config.execution import SHARED_WITH_TRAINING, NetworkExecution
from ptycho_config.models import TrainingConfig
from ptycho_core.learning.frames import Frames
from ptycho_core.scan import Scan

__all__ = ["batch_size_of", "clip_value_of", "learning_rate_of", "needs_truth", "settled", "view_share_of"]

#: Learning rate of `unet` where none was chosen.
_UNET_RATE = 2e-3
_UNET_CLIP = {"norm": 1.0, "value": 1.0, "agc": 0.01}
_UNET_FRAMES, _CLASSIC_BATCH = 24, 16
#: Part of the batches that show other views of the sample, where a lower dose is learned.
_VIEW_SHARE = 0.75
#: Above this mean count per pixel the amplitude loss gave the sharper objects, below it the Poisson loss.
_MANY_COUNTS_PER_PIXEL = 10.0


def settled(config: TrainingConfig, execution: NetworkExecution, frames: Frames) -> TrainingConfig:
    """Return the configuration with loss, optimiser and the settings of the execution that win over it.

    What is settled here is stored with the network, so that a training that goes on does so by the same
    recipe.
    """
    update: dict[str, object] = {
        name: getattr(execution, name)
        for name in SHARED_WITH_TRAINING
        if name in execution.model_fields_set and getattr(execution, name) is not None
    }
    if "optimizer" not in config.model_fields_set:
        update["optimizer"] = "adamw"
    if _is_unet(config) and "torch_loss_mode" not in config.model_fields_set:
        update["torch_loss_mode"] = _loss_for(frames)
    return config.model_copy(update=update)


def batch_size_of(config: TrainingConfig) -> int:
    """Groups that one process learns from at once; `unet` takes as many as have 24 frames."""
    if config.batch_size is not None:
        return config.batch_size
    return max(1, _UNET_FRAMES // config.model.gridsize**2) if _is_unet(config) else _CLASSIC_BATCH


def learning_rate_of(config: TrainingConfig, execution: NetworkExecution) -> float:
    """First learning rate."""
    chosen = "learning_rate" in execution.model_fields_set
    return execution.learning_rate if chosen or not _is_unet(config) else _UNET_RATE


def clip_value_of(config: TrainingConfig) -> float | None:
    """Limit of the gradients under the configuration's algorithm; None or 0 where they have none."""
    if config.gradient_clip_val is None and _is_unet(config):
        return _UNET_CLIP[config.gradient_clip_algorithm]
    return config.gradient_clip_val


def view_share_of(config: TrainingConfig) -> float:
    """Part of the batches that show other views of the sample.

    Raises:
        ConfigError: views are wanted where nothing is thinned, or where labels are learned.
    """
    wanted = config.view_share
    fits = (
        config.thin_to is not None and config.model.model_type == "pinn" and not config.realspace_mae_weight
    )
    if wanted and not fits:
        raise ConfigError(
            f"`--view-share` is {wanted:g}, and views are drawn for thinned frames without labels only. "
            "Give `--thin-to` too, or leave `--view-share` out."
        )
    if wanted is None:
        return _VIEW_SHARE if fits and config.model.overlap_constraint == "batch" else 0.0
    return wanted


def _is_unet(config: TrainingConfig) -> bool:
    return config.model.architecture == "unet"


def _loss_for(frames: Frames) -> Literal["poisson", "mae"]:
    """Choose the loss where none was chosen: amplitudes at high dose, Poisson counts at low dose.

    With many photons the model's own faults outweigh the noise, and distances of amplitudes bear them better;
    with few, only the likelihood knows what an empty pixel says.
    """
    seen = frames.mean_counts if frames.kept is None else frames.mean_counts * frames.kept
    return "mae" if seen / frames.scan.frame_px**2 >= _MANY_COUNTS_PER_PIXEL else "poisson"


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
