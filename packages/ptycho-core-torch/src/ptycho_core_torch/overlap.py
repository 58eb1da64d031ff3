"""Merge patches on a canvas and cut them out again, at whole pixels, with gradients.

Frames look at whole-pixel windows; what is left of a position moves the probe, not the object. So merging
and cutting copy pixels and blur nothing, and each is the other's adjoint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["add_patches", "add_scattered", "add_slices", "cut", "merge", "place"]


def place(patches: Tensor, corners: Tensor, shape: tuple[int, int]) -> Tensor:
    """Add patches (B, n, n) into an empty canvas (H, W), top-left pixels on `corners` (B, 2), (y, x)."""
    return _Place.apply(patches, corners, shape)


def cut(canvas: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cut the square patches (B, side, side) whose top-left pixels are `corners` (B, 2) out of (H, W)."""
    return _Cut.apply(canvas, corners, side)


def merge(patches: Tensor, corners: Tensor, weights: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Average patches where they overlap.

    Args:
        patches: (B, n, n) complex; corners: (B, 2) whole pixels; weights: (n, n), above 0.
    Returns:
        The canvas (H, W), 0 where no patch lies, and the sum of the weights (H, W).
    """
    covered = place(weights.expand(len(patches), -1, -1), corners, shape)
    total = place(patches * weights, corners, shape)
    return total / torch.where(covered > 0, covered, torch.ones_like(covered)), covered


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, corners: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(corners)
        ctx.side = patches.shape[-1]
        return _add(patches, corners, shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _take(gradients[0], ctx.saved_tensors[0], ctx.side), None, None


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, canvas: Tensor, corners: Tensor, side: int) -> Tensor:
        ctx.save_for_backward(corners)
        ctx.shape = tuple(canvas.shape)
        return _take(canvas, corners, side)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _add(gradients[0], ctx.saved_tensors[0], ctx.shape), None, None


def add_patches(canvas: Tensor, patches: Tensor, corners: Tensor) -> None:
    """Add patches (B, n, n) into a canvas (H, W) that is there already, without a gradient."""
    # A few slice-adds are faster on a CPU than one scatter through an index as large as the patches.
    add = add_slices if canvas.device.type == "cpu" else add_scattered
    add(canvas, patches, corners)


def add_slices(canvas: Tensor, patches: Tensor, corners: Tensor) -> None:
    """Do so patch after patch."""
    side = patches.shape[-1]
    for patch, (y, x) in zip(patches, corners.tolist(), strict=True):
        canvas[y : y + side, x : x + side] += patch


def add_scattered(canvas: Tensor, patches: Tensor, corners: Tensor) -> None:
    """Do so all at once."""
    pixels = _pixels(corners, patches.shape[-1], canvas.shape[1])
    canvas.view(-1).index_add_(0, pixels, patches.reshape(-1))


def _add(patches: Tensor, corners: Tensor, shape: tuple[int, int]) -> Tensor:
    canvas = torch.zeros(shape, dtype=patches.dtype, device=patches.device)
    add_patches(canvas, patches, corners)
    return canvas


def _take(canvas: Tensor, corners: Tensor, side: int) -> Tensor:
    if canvas.device.type == "cpu":
        return torch.stack([canvas[y : y + side, x : x + side] for y, x in corners.tolist()])
    return canvas.reshape(-1)[_pixels(corners, side, canvas.shape[1])].view(-1, side, side)


def _pixels(corners: Tensor, side: int, width: int) -> Tensor:
    """Positions in the flattened canvas of all pixels of all patches."""
    along = torch.arange(side, device=corners.device)
    rows, columns = corners[:, 0, None] + along, corners[:, 1, None] + along
    return (rows[:, :, None] * width + columns[:, None, :]).reshape(-1)
