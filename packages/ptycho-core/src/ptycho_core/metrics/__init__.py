"""How good a reconstruction is, given the truth or another one. R, which needs neither, is in `residual`."""

from typing import Any

from ptycho_config.moved import moved_name

from .alignment import Alignment, align
from .compare import Comparison, OnCanvas, compare
from .fourier_ring import Cutoff, cutoff, first_crossing, ring_correlation, windowed
from .object_error import ObjectError, illuminated_region, object_error
from .similarity import mean_absolute_error, mean_squared_error, ms_ssim, psnr, ssim

__all__ = [
    "Alignment",
    "Comparison",
    "Cutoff",
    "ObjectError",
    "OnCanvas",
    "align",
    "compare",
    "cutoff",
    "first_crossing",
    "illuminated_region",
    "mean_absolute_error",
    "mean_squared_error",
    "ms_ssim",
    "object_error",
    "psnr",
    "ring_correlation",
    "ssim",
    "windowed",
]

_MOVED = {"lit_region": "ptycho_core.metrics:illuminated_region"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
