"""What a trained network is applied to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from ptycho_config.models.base import CanonicalConfig
from ptycho_config.models.groups import adopt_n_images
from ptycho_config.models.model import ModelConfig
from ptycho_config.values import FilePath, PositiveInteger, Seed

__all__ = ["InferenceConfig"]


class InferenceConfig(CanonicalConfig):
    """A trained network, a scan, and how its frames are grouped."""

    derived_fields = frozenset({"n_images"})

    model: ModelConfig = Field(default_factory=ModelConfig, description="the network and its physics")
    model_path: FilePath = Field(description="trained network: a bundle or the directory of its run")
    test_data_file: FilePath = Field(description="scan to reconstruct: a file or a data set")
    n_groups: PositiveInteger | None = Field(
        default=None, description="groups to use; all frames when not given"
    )
    n_images: PositiveInteger | None = Field(default=None, description="deprecated, use n_groups")
    n_subsample: PositiveInteger | None = Field(
        default=None, description="frames drawn before grouping; all when not given"
    )
    subsample_seed: Seed | None = Field(default=None, description="seed of that draw")
    neighbor_count: PositiveInteger = Field(
        default=4, description="nearest neighbours a group is drawn from (gridsize > 1)"
    )
    enable_oversampling: bool = Field(
        default=False, description="allow more groups than frames (gridsize > 1)"
    )
    neighbor_pool_size: PositiveInteger | None = Field(
        default=None, description="neighbours to draw from when oversampling; neighbor_count when not given"
    )
    debug: bool = Field(default=False, description="keep intermediate results")
    output_dir: FilePath = Field(default=Path("inference_outputs"), description="directory of the results")
    backend: Literal["pytorch", "tensorflow"] | None = Field(
        default=None, description="core that computes; the bundle's own when not given"
    )
    runtime: Literal["onnx", "openvino"] | None = Field(
        default=None,
        description="runs what `ptycho export` wrote, on the CPU, without a core: ONNX Runtime or OpenVINO; "
        "onnx where the network is an .onnx file, a core otherwise",
    )

    @model_validator(mode="after")
    def _adopt_n_images(self) -> Self:
        adopt_n_images(self)
        return self
