"""Which network is built, and which physics it is trained through."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ptycho_config.models.base import CanonicalConfig
from ptycho_config.values import (
    WHOLE,
    Accepts,
    Integer,
    NonNegativeNumber,
    PositiveInteger,
    PositiveNumber,
)

__all__ = ["Architecture", "ModelConfig"]

Architecture = Literal["unet", "cnn", "ffno", "fno", "fno_vanilla", "neuralop_uno"]


_FRAME_SIDE = Accepts("a multiple of 16 from 32 to 1024, or 0 for not known yet")


def _frame_side(value: int) -> int:
    if value != 0 and (value % 16 or not 32 <= value <= 1024):
        raise ValueError(f"expected {_FRAME_SIDE.text}")
    return value


def _activation(value: object) -> object:
    return "swish" if value == "silu" else value


class ModelConfig(CanonicalConfig):
    """The network and the physics between it and the detector."""

    N: Annotated[Integer, AfterValidator(_frame_side), _FRAME_SIDE] = Field(
        default=64,
        description="side of a frame in px, a multiple of 16 from 32 to 1024; "
        "taken from the data when not given, 0 = not known yet",
    )
    gridsize: Annotated[int, Field(ge=1, le=5), WHOLE] = Field(
        default=1, description="frames solved together form a square of gridsize x gridsize, 1 to 5"
    )
    n_filters_scale: PositiveInteger = Field(default=2, description="factor on the number of filters")
    model_type: Literal["pinn", "supervised"] = Field(
        default="pinn", description="learn from the measured diffraction (pinn) or from a known object"
    )
    architecture: Architecture = Field(default="unet", description="network; neuralop_uno needs PyTorch")
    fno_modes: PositiveInteger = Field(default=12, description="Fourier modes kept per axis (fno, ffno)")
    fno_width: PositiveInteger = Field(default=32, description="channels of the Fourier layers (fno, ffno)")
    fno_blocks: PositiveInteger = Field(default=4, description="number of Fourier layers (fno, ffno)")
    fno_cnn_blocks: PositiveInteger = Field(default=2, description="convolution blocks after them (fno)")
    fno_input_transform: Literal["none", "sqrt", "log1p", "instancenorm"] = Field(
        default="none", description="transform of the input amplitude (fno, ffno)"
    )
    generator_output_mode: Literal["real_imag", "amp_phase_logits", "amp_phase"] = Field(
        default="real_imag", description="what the last layer means; unet has its own head and ignores it"
    )
    amp_activation: Annotated[
        Literal["sigmoid", "swish", "softplus", "relu"], BeforeValidator(_activation)
    ] = Field(default="sigmoid", description="activation of the amplitude; silu is swish")
    object_big: bool = Field(default=True, description="frames of a group see parts of one larger object")
    probe_big: bool = Field(default=True, description="the probe may light the whole frame")
    probe_mask: bool = Field(default=False, description="multiply the probe by a soft disc")
    probe_mask_sigma: NonNegativeNumber = Field(
        default=1.0, description="softness of the disc's edge in px, 0 = hard"
    )
    probe_mask_diameter: PositiveNumber | None = Field(
        default=None, description="diameter of the disc in px; N/2 when not given"
    )
    pad_object: bool = Field(default=True, description="pad the object patch to the size of the frame")
    probe_scale: PositiveNumber = Field(
        default=4.0, description="divisor of the probe in the legacy gauge, without unit"
    )
    gaussian_smoothing_sigma: NonNegativeNumber = Field(
        default=0.0, description="width in px of the smoothing of the illuminated field, 0 = off"
    )
    input_channels: Literal["amplitude", "backprojection"] = Field(
        default="backprojection",
        description="what the network sees; by architecture when not given (unet backprojection)",
    )
    overlap_constraint: Literal["none", "group", "batch"] = Field(
        default="batch",
        description="whose frames must agree where they overlap; by architecture when not given (unet batch)",
    )
    unet_passes: Annotated[int, Field(ge=1, le=8), WHOLE] = Field(
        default=1,
        description="how often unet sees each frame, 1 to 8: after the first time beside the image that all "
        "frames agreed on; 3 when not given and frames are thinned",
    )
    probe_gauge: Literal["power", "legacy"] = Field(
        default="power", description="scale of the probe inside the network; power = transparent object is 1"
    )

    @model_validator(mode="after")
    def _follow_architecture(self) -> Self:
        """Fill what depends on the architecture, unless it was chosen."""
        unet = self.architecture == "unet"
        self._fill("input_channels", "backprojection" if unet else "amplitude")
        self._fill("overlap_constraint", "batch" if unet else "group")
        return self

    def _fill(self, name: str, value: str) -> None:
        if name not in self.model_fields_set:
            self._set_unchecked(name, value)
