"""The configuration classes of the PyTorch side under their legacy path, with the client's names and
defaults.

Building, assigning, pickling and unpickling them asks no hardware and imports no framework. Texts are free
here, as they are to the client; what is wrong with them, or what has no counterpart, is said where training
starts (`ptycho_torch.config_bridge`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ptycho_config.models import Config
from ptycho_config.values import Integer, NonNegativeInteger, NonNegativeNumber, Number, PositiveInteger

__all__ = ["DataConfig", "DatagenConfig", "InferenceConfig", "ModelConfig", "TrainingConfig"]

Pair = tuple[Number, Number]


class DataConfig(Config):
    """Frames, their groups, and which of them are used; `grid_size` is (y, x)."""

    N: NonNegativeInteger = 128
    C: NonNegativeInteger = 4
    normalize: str = "Batch"
    neighbor_function: str = "Nearest"
    scan_pattern: str = "Isotropic"
    probe_normalize: bool = True
    x_bounds: Pair = (0.1, 0.9)
    y_bounds: Pair = (0.1, 0.9)
    min_neighbor_distance: NonNegativeNumber = 0.0
    max_neighbor_distance: NonNegativeNumber = 3.0
    K_quadrant: NonNegativeInteger = 30
    n_subsample: NonNegativeInteger = 7
    probe_scale: NonNegativeNumber = 4.0
    K: NonNegativeInteger = 6
    grid_size: tuple[NonNegativeInteger, NonNegativeInteger] = (2, 2)
    probe_ramp_removal: bool = False
    data_scaling: str = "Parseval"
    phase_subtraction: bool = True
    nphotons: NonNegativeNumber | None = None


class ModelConfig(Config):
    """The network and its loss."""

    mode: str = "Unsupervised"
    architecture: str = "unet"
    object_big: bool = True
    probe_big: bool = True
    loss_function: str = "Poisson"
    amp_activation: str = "silu"
    cbam_encoder: bool = True
    decoder_last_amp_channels: NonNegativeInteger = 4
    use_shared_decoder: bool = False
    intensity_scale_trainable: bool = False
    intensity_scale: Number = 10000.0
    max_position_jitter: NonNegativeInteger = 10
    num_datasets: NonNegativeInteger = 1
    C_model: NonNegativeInteger = 4
    C_forward: NonNegativeInteger = 4
    amp_loss: str | None = None
    phase_loss: str | None = None
    amp_loss_coeff: Number = 1.0
    phase_loss_coeff: Number = 1.0
    n_filters_scale: PositiveInteger = 2
    probe_mask: Any = Field(default=None, description="None; a mask is not taken")
    eca_decoder: bool = False
    batch_norm: bool = False
    edge_pad: NonNegativeInteger = 10
    decoder_last_c_outer_fraction: Number = 0.125
    cbam_bottleneck: bool = False
    cbam_decoder: bool = False
    spatial_decoder: bool = False
    decoder_spatial_kernel: NonNegativeInteger = 7
    eca_encoder: bool = False
    offset: NonNegativeInteger = 6
    probe_reference_coeff: Number = 0.0
    amplitude_variance_loss: bool = False
    amplitude_variance_coeff: Number = 0.01


class TrainingConfig(Config):
    """Length, optimiser and device of a training."""

    epochs: PositiveInteger = 50
    batch_size: PositiveInteger = 16
    learning_rate: NonNegativeNumber = 1e-3
    n_devices: PositiveInteger = 1
    num_workers: NonNegativeInteger = 4
    accum_steps: PositiveInteger = 1
    epochs_fine_tune: NonNegativeInteger = 0
    fine_tune_gamma: Number = 0.1
    gradient_clip_val: NonNegativeNumber | None = None
    nll: bool = True
    device: str = "cuda"
    strategy: str = "ddp_spawn"
    framework: str = "Lightning"
    orchestrator: str = "Lightning"
    scheduler: str = "Default"
    warmup_epochs: NonNegativeInteger = 0
    min_lr_ratio: NonNegativeNumber = 0.1
    notes: str = ""
    model_name: str = "PtychoPINNv2"
    enable_staged_finetuning: bool = False
    finetune_stage1_epochs: NonNegativeInteger = 7
    finetune_stage2_epochs: NonNegativeInteger = 7
    finetune_stage3_epochs: NonNegativeInteger = 5
    finetune_stage1_lr_decoder: Number = 0.1
    finetune_stage2_lr_encoder_top: Number = 0.01
    finetune_stage2_lr_decoder: Number = 0.05
    finetune_stage2_lr_phase_head: Number = 0.1
    finetune_stage3_lr_encoder_bottom: Number = 0.005
    finetune_stage3_lr_encoder_top: Number = 0.01
    finetune_stage3_lr_decoder: Number = 0.02
    finetune_stage3_lr_phase_head: Number = 0.05
    finetune_skip_stage3: bool = True
    finetune_early_stop_patience: NonNegativeInteger = 3
    finetune_val_split: Number = 0.05


class InferenceConfig(Config):
    """How patches are put together: always whole, weighted by the light of the probe."""

    batch_size: PositiveInteger = 1000
    middle_trim: NonNegativeInteger = 32
    experiment_number: Integer = 0
    patch_weighting: str = "probe"
    pad_eval: bool = True
    window: NonNegativeInteger = 20


class DatagenConfig(Config):
    """Settings of simulated data: none, since data are simulated with `ptycho simulate`."""
