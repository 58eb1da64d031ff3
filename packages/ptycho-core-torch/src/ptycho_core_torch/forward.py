"""From object patches to the rates at the detector, differentiable, equal to the float64 reference.

Source of the formulas: docs/reference/physics.md, "Forward model", and `ptycho_core.physics`, with which the
tests compare.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["back_project", "detector_intensity", "move_probe", "propagate", "split_positions"]

#: Powers are never taken below this before their root divides.
_DARK = 1e-20
#: Part of the largest wave at the detector below which its phase is what rounding makes of it, and fades out.
_UNSURE = 3e-4


def split_positions(positions_px: Tensor) -> tuple[Tensor, Tensor]:
    """Split positions (…, 2) into the nearest whole pixels (int64, halves upwards) and the rest."""
    whole = torch.floor(positions_px + 0.5)
    return whole.to(torch.int64), positions_px - whole


def propagate(waves: Tensor) -> Tensor:
    """Carry waves (…, n, n) to the far field: energy is kept, zero frequency lands on [n/2, n/2].

    The origin of the phases is index [0, 0], not the middle: a modulus does not notice.
    """
    return torch.fft.fftshift(torch.fft.fft2(waves, norm="ortho"), dim=(-2, -1))


def move_probe(probe: Tensor, shifts_px: Tensor) -> Tensor:
    """Move probe modes (P, n, n) by each of the shifts (B, 2), (y, x), around the edges: (B, P, n, n)."""
    n = probe.shape[-1]
    k = torch.fft.fftfreq(n, dtype=shifts_px.dtype, device=probe.device)
    angles = -2 * torch.pi * (shifts_px[:, 0, None, None] * k[:, None] + shifts_px[:, 1, None, None] * k)
    ramps = torch.polar(torch.ones_like(angles), angles)
    return torch.fft.ifft2(torch.fft.fft2(probe)[None] * ramps[:, None])


def detector_intensity(probes: Tensor, patches: Tensor) -> Tensor:
    """Sum over the incoherent modes of |F(P o)|^2: (B or 1, P, n, n) and (B, n, n) -> (B, n, n) real."""
    waves = propagate(probes * patches[:, None])
    return (waves.real.square() + waves.imag.square()).sum(1)


def back_project(amplitude: Tensor, probes: Tensor, patches: Tensor | None = None) -> Tensor:
    """Place what a pattern says that the object so far does not: (B, n, n) -> complex (B, n, n).

    The measured amplitude with the phase of the first mode's wave is carried back, the exit wave is taken
    away, and the rest is divided by the mode, regularised by its largest modulus: one step of an iterative
    reconstruction. Further modes keep their share of the amplitude.

    Args:
        amplitude: (B, n, n) in the unit of the probe.
        probes: the modes (P, n, n), or (B, P, n, n) where they differ from frame to frame.
        patches: the object so far in the window of each frame, (B, n, n); transparent when not given.
    """
    probes = probes if probes.ndim == 4 else probes[None]
    waves = probes if patches is None else probes * patches[:, None]
    far = torch.fft.fft2(waves, norm="ortho")
    power = (far.real.square() + far.imag.square()).sum(1)
    power = (power + _UNSURE**2 * power.amax((-2, -1), keepdim=True)).clamp_min(_DARK)
    direction = far[:, 0] * power.rsqrt()
    back = torch.fft.ifft2(torch.fft.ifftshift(amplitude, dim=(-2, -1)) * direction, norm="ortho")
    first = probes[:, 0]
    light = first.abs().square().amax((-2, -1), keepdim=True)
    return (back - waves[:, 0]) * first.conj() / light
