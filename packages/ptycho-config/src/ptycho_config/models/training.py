"""What a network is trained on, against which loss, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from ptycho_config.models.base import CanonicalConfig
from ptycho_config.models.groups import adopt_n_images
from ptycho_config.models.model import ModelConfig
from ptycho_config.values import (
    Duration,
    FilePath,
    Fraction,
    NonNegativeInteger,
    NonNegativeNumber,
    PositiveInteger,
    PositiveNumber,
    ProperFraction,
    Scheduler,
    Seed,
)

__all__ = ["TrainingConfig"]


class TrainingConfig(CanonicalConfig):
    """Data, loss, optimiser and length of a training run."""

    derived_fields = frozenset({"n_images"})

    model: ModelConfig = Field(default_factory=ModelConfig, description="the network and its physics")
    train_data_file: FilePath | None = Field(
        default=None, description="scan to train on: a file or a data set"
    )
    test_data_file: FilePath | None = Field(default=None, description="scan to test on: a file or a data set")
    batch_size: PositiveInteger | None = Field(
        default=None, description="groups per step; 16, or for unet as many as have 24 frames, when not given"
    )
    nepochs: PositiveInteger = Field(default=50, description="passes over the data")
    mae_weight: Fraction = Field(default=0.0, description="weight of the mean absolute error, 0 to 1")
    nll_weight: Fraction = Field(default=1.0, description="weight of the Poisson likelihood, 0 to 1")
    realspace_mae_weight: NonNegativeNumber = Field(
        default=0.0, description="weight of the mean absolute error in real space"
    )
    realspace_weight: NonNegativeNumber = Field(default=0.0, description="weight of the real-space loss")
    tv_weight: NonNegativeNumber = Field(default=0.0, description="weight of the total variation")
    nphotons: PositiveNumber | None = Field(
        default=None, description="mean photons per frame; measured for counts, else 1e9, when not given"
    )
    thin_to: PositiveNumber | None = Field(
        default=None,
        description="learn to image a lower dose: the network sees frames thinned to this mean count and is "
        "judged by the bright ones",
    )
    view_share: Fraction | None = Field(
        default=None,
        description="part of the batches that show the solver's image of the scan turned, zoomed and of "
        "another contrast, once the frames are known; 0.75 with thin_to and 0 else, when not given",
    )
    n_groups: PositiveInteger | None = Field(
        default=None, description="groups to use; all frames when not given"
    )
    n_images: PositiveInteger | None = Field(default=None, description="deprecated, use n_groups")
    n_subsample: PositiveInteger | None = Field(
        default=None, description="frames drawn before grouping; all when not given"
    )
    subsample_seed: Seed | None = Field(default=None, description="seed of that draw; seed when not given")
    neighbor_count: PositiveInteger = Field(
        default=4, description="nearest neighbours a group is drawn from (gridsize > 1)"
    )
    enable_oversampling: bool = Field(
        default=False, description="allow more groups than frames (gridsize > 1)"
    )
    neighbor_pool_size: PositiveInteger | None = Field(
        default=None, description="neighbours to draw from when oversampling; neighbor_count when not given"
    )
    positions_provided: bool = Field(default=True, description="use the positions of the scan file")
    probe_trainable: bool = Field(default=False, description="refine the probe while training")
    intensity_scale_trainable: bool = Field(default=True, description="refine the intensity scale")
    output_dir: FilePath = Field(default=Path("training_outputs"), description="directory of the results")
    sequential_sampling: bool = Field(
        default=False, description="take groups in scan order instead of at random"
    )
    backend: Literal["pytorch", "tensorflow"] = Field(default="pytorch", description="core that trains")
    torch_loss_mode: Literal["poisson", "mae"] = Field(
        default="poisson", description="loss on the detector; unet chooses by the dose when not given"
    )
    gradient_clip_val: NonNegativeNumber | None = Field(
        default=None, description="gradients are clipped at this value; never when not given"
    )
    gradient_clip_algorithm: Literal["norm", "value", "agc"] = Field(
        default="norm", description="what is clipped"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(default="adam", description="optimiser")
    momentum: ProperFraction = Field(default=0.9, description="momentum of sgd, 0 to 1")
    weight_decay: NonNegativeNumber = Field(default=0.0, description="decay of the weights per step")
    adam_beta1: ProperFraction = Field(default=0.9, description="decay of Adam's first moment, 0 to 1")
    adam_beta2: ProperFraction = Field(default=0.999, description="decay of Adam's second moment, 0 to 1")
    scheduler: Scheduler = Field(default="Default", description="course of the learning rate")
    lr_warmup_epochs: NonNegativeInteger = Field(default=0, description="epochs of warm-up (WarmupCosine)")
    lr_min_ratio: Fraction = Field(
        default=0.1, description="last learning rate over the first (WarmupCosine), 0 to 1"
    )
    plateau_factor: ProperFraction = Field(
        default=0.5, description="factor on the learning rate at a plateau, 0 to 1"
    )
    plateau_patience: NonNegativeInteger = Field(default=2, description="epochs without gain before that")
    plateau_min_lr: NonNegativeNumber = Field(default=5e-5, description="lowest learning rate")
    plateau_threshold: NonNegativeNumber = Field(default=0.0, description="relative gain that counts")
    seed: Seed | None = Field(default=None, description="seed of everything random")
    max_time: Duration | None = Field(
        default=None, description="stop after this wall-clock time: 90s, 3m, 1h or seconds"
    )

    @model_validator(mode="after")
    def _adopt_n_images(self) -> Self:
        adopt_n_images(self)
        return self
