"""What a bundle holds, as callers see it. How it lies on the disk is the matter of the other modules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Complex64, Float32

from ptycho_config.errors import BundleError

__all__ = ["BUNDLE_FILE", "Bundle", "ProbeMask", "Scaling"]

BUNDLE_FILE = "wts.h5.zip"
"""Name of a bundle in the directory of its run; the ending is that of older programs, no HDF5 is inside."""


@dataclass(frozen=True, kw_only=True)
class ProbeMask:
    """The soft disc that the probe was multiplied by.

    Attributes:
        sigma_px: softness of its edge, 0 = hard.
        diameter_px: None means N/2.

    Raises:
        BundleError: a value is negative or not finite.
    """

    sigma_px: float | int
    diameter_px: float | int | None = None

    def __post_init__(self) -> None:
        _settle(self, "sigma_px", zero_is_fine=True)
        if self.diameter_px is not None:
            _settle(self, "diameter_px")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The factors and conventions without which weights mean nothing (NORMALIZATION-001).

    Attributes:
        gauge: how the probe was scaled: `power`, a transparent object is 1; `legacy`, by `probe_scale`.
        probe_scale: divisor of the probe in the legacy gauge.
        intensity_scale: exp(log_scale) as trained, root of counts per unit amplitude.
        alpha: factor from stored amplitude to unit amplitude, of the scan trained on.
        nphotons: photons per frame that the network was trained to explain.
        mean_counts: measured mean count of a frame.
        mask: None where the probe was not masked.
        patch_weighting: weight of a pixel where patches are averaged, such as `probe` or `support`.
        anchor: which member of a group lies on whole pixels, such as `first`.
        pixel_convention: what positions refer to, such as `index`: index N/2 of a patch.

    Raises:
        BundleError: a factor is not finite and above 0.
    """

    gauge: Literal["legacy", "power"]
    probe_scale: float | int
    intensity_scale: float | int
    alpha: float | int
    nphotons: float | int
    mean_counts: float | int
    mask: ProbeMask | None
    patch_weighting: str
    anchor: str
    pixel_convention: str

    def __post_init__(self) -> None:
        for name in ("probe_scale", "intensity_scale", "alpha", "nphotons", "mean_counts"):
            _settle(self, name)


@dataclass(frozen=True, eq=False, kw_only=True)
class Bundle:
    """A trained network with all that is needed to use it, whatever the framework.

    Attributes:
        architecture: name of the network.
        model: the model configuration, as `ModelConfig.model_dump(mode="json")`.
        training: the training configuration, likewise.
        weights: tensors by their canonical names, in the layout of PyTorch.
        probe: (P, N, N) incoherent modes as used, in the gauge of `scaling`.
        probe_given: the probe as it was handed over; its modes and side may differ.
        history: one row per epoch; numbers and text by column. What is None is left out when written.
        provenance: `backend`, the name of the core that trained, and further versions, seeds and hashes.
    """

    architecture: str
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    weights: Mapping[str, Float32[np.ndarray, "..."]]
    scaling: Scaling
    probe: Complex64[np.ndarray, "mode n n"]
    probe_given: Complex64[np.ndarray, "given_mode given_n given_n"]
    history: tuple[Mapping[str, Any], ...]
    provenance: Mapping[str, Any]

    @property
    def backend(self) -> str:
        """Name of the core that trained the network; any core may use it."""
        return self.provenance["backend"]


def _settle(record: ProbeMask | Scaling, name: str, *, zero_is_fine: bool = False) -> None:
    """Check a number and keep it as float, so that equal factors make equal files."""
    value = float(getattr(record, name))
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero_is_fine):
        least = "of at least 0" if zero_is_fine else "above 0"
        raise BundleError(f"`{type(record).__name__}.{name}` is {value:g}. Expected a finite number {least}.")
    object.__setattr__(record, name, value)
