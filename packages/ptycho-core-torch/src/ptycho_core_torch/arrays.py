"""The solver's array operations on torch tensors, on a CPU or a GPU."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np

import torch
from ptycho_config import hardware
from ptycho_core.arrays import ChunkThreads, NumpyArrays, divergence_allowed
from ptycho_core.cores import usable_cores
from ptycho_core.physics.canvas import row_bands

__all__ = ["TorchArrays"]

Result = TypeVar("Result")
#: A block stays in a core's cache, see `ptycho_core.arrays`; larger than NumPy's, as a call costs more.
_CPU_BLOCK_PIXELS = 1 << 16


class TorchArrays:
    """Tensors of torch: one thread a chunk on a CPU, the whole batch as one chunk on a GPU.

    On a CPU torch's own threads stay idle. They spin while they wait, and on a host that is shared with
    other work single runs have been seen to take ten times as long; chunks share the work as well.
    """

    name = "torch"

    def __init__(self, *, device: str = "cpu", threads: int | None = None) -> None:
        self.device = device
        self.threads = (threads or usable_cores()) if device == "cpu" else 1
        self.block_pixels = _CPU_BLOCK_PIXELS if device == "cpu" else sys.maxsize
        # Where tensors lie in the host's memory, NumPy works on them in place: its small operations and its
        # moduli of complex numbers cost a third of torch's. The transforms and products stay with torch.
        self._host = NumpyArrays(threads=1) if device == "cpu" else None
        self._pool = ChunkThreads(self.threads, prepare_thread=partial(torch.set_num_threads, 1))
        self.kernel: ctypes.CDLL | None = None

    @staticmethod
    def available() -> bool:
        return importlib.util.find_spec("torch") is not None

    @staticmethod
    def sees_gpu() -> bool:
        return hardware.cuda_available()

    def limits(self) -> AbstractContextManager[Any]:
        return self._one_thread_each()

    @contextmanager
    def _one_thread_each(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.no_grad(), divergence_allowed():
                yield
        finally:
            torch.set_num_threads(before)

    def asarray(self, values: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(values)
        return tensor.to(self.device) if self.device != "cpu" else tensor

    def to_numpy(self, values: torch.Tensor) -> np.ndarray:
        return values.detach().cpu().numpy().copy()

    def host_view(self, values: torch.Tensor) -> np.ndarray:
        return values.numpy()

    def zeros(self, shape: tuple[int, ...], *, complex_values: bool = False) -> torch.Tensor:
        return torch.zeros(
            shape, dtype=torch.complex64 if complex_values else torch.float32, device=self.device
        )

    def copy(self, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    def fft2(self, waves: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(waves, norm="ortho")

    def ifft2(self, waves: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifft2(waves, norm="ortho")

    def combine(self, coefficients: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
        n_modes, n_basis, size, _ = basis.shape
        planes = torch.view_as_real(basis).reshape(n_modes, n_basis, -1)
        return torch.view_as_complex((coefficients @ planes).reshape(n_modes, -1, size, size, 2))

    def project(self, coefficients: torch.Tensor, waves: torch.Tensor) -> torch.Tensor:
        n_modes, n_frames, size, _ = waves.shape
        planes = torch.view_as_real(waves).reshape(n_modes, n_frames, -1)
        return torch.view_as_complex((coefficients.T @ planes).reshape(n_modes, -1, size, size, 2))

    def overlaps(self, basis: torch.Tensor, waves: torch.Tensor) -> np.ndarray:
        rows = torch.view_as_real(waves).flatten(2)
        columns = torch.view_as_real(basis).flatten(2)
        return (rows @ columns.transpose(1, 2)).double().sum(0).cpu().numpy()

    def cut(self, canvas: torch.Tensor, corners: np.ndarray, size: int) -> torch.Tensor:
        if self._host is not None:
            return torch.from_numpy(self._host.cut(canvas.numpy(), corners, size))
        return torch.stack([canvas[i : i + size, j : j + size] for i, j in corners.tolist()])

    def add_patches(self, canvas: torch.Tensor, corners: np.ndarray, patches: torch.Tensor) -> None:
        if self._host is not None:
            self._host.add_patches(canvas.numpy(), corners, patches.resolve_conj().numpy())
            return
        size = patches.shape[-1]
        stack = patches.expand(len(corners), size, size)
        for patch, (i, j) in zip(stack, corners.tolist(), strict=True):
            canvas[i : i + size, j : j + size] += patch

    def intensity(self, waves: torch.Tensor) -> torch.Tensor:
        if self._host is not None:
            return torch.from_numpy(self._host.intensity(waves.numpy()))
        total = (waves[0] * waves[0].conj()).real
        for mode in waves[1:]:
            total = total + (mode * mode.conj()).real
        return total.contiguous()

    def modulus_correction(
        self,
        intensity: torch.Tensor,
        amplitude: torch.Tensor,
        offset: float,
        weight: torch.Tensor | None,
    ) -> tuple[torch.Tensor, float]:
        if self._host is not None:
            bright = None if weight is None else weight.numpy()
            correction, misfit = self._host.modulus_correction(
                intensity.numpy(), amplitude.numpy(), offset, bright
            )
            return torch.from_numpy(correction), misfit
        modulus = intensity.add_(offset).sqrt_()
        misfit = amplitude - modulus
        if weight is not None:
            misfit.mul_(weight)
        total = float(misfit.abs().sum(dtype=torch.float64))
        return misfit.div_(modulus), total

    def count_correction(
        self,
        intensity: torch.Tensor,
        amplitude: torch.Tensor,
        offset: float,
        softening: float,
        weight: torch.Tensor | None,
        *,
        roots: bool,
    ) -> tuple[torch.Tensor, float]:
        if self._host is not None:
            bright = None if weight is None else weight.numpy()
            correction, deviance = self._host.count_correction(
                intensity.numpy(), amplitude.numpy(), offset, softening, bright, roots=roots
            )
            return torch.from_numpy(correction), deviance
        expected = intensity.add_(offset)
        counts = amplitude.square().add_(softening)
        ratio = counts / expected
        if roots:
            ratio.sqrt_().sub_(1)
            deviances = ratio.square().mul_(expected).mul_(2)
            ratio.mul_(2)
        else:
            deviances = ratio.log().mul_(counts).add_(expected).sub_(counts)
            ratio.sub_(1)
        if weight is not None:
            deviances.mul_(weight)
            ratio.mul_(weight)
        return ratio, float(deviances.sum(dtype=torch.float64))

    def scale(self, waves: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return waves.mul_(factor)

    def peak(self, values: torch.Tensor) -> float:
        return float(values.max())

    def total(self, values: torch.Tensor) -> complex:
        return complex(values.sum())

    def clamp_modulus(self, values: torch.Tensor, limit: float) -> None:
        for band in row_bands(tuple(values.shape)):
            part = values[band]
            modulus = self.intensity(part[None]).sqrt_()
            self.scale(part, (limit / modulus.clamp_(min=1e-9)).clamp_(max=1.0))

    def map_chunks(self, work: Callable[[slice], Result], n_items: int, pixels_per_item: int) -> list[Result]:
        return self._pool.map(partial(_without_gradients, work), n_items, pixels_per_item)


def _without_gradients(work: Callable[[slice], Result], chunk: slice) -> Result:
    # torch keeps this setting per thread, so every chunk has to say it again.
    with torch.no_grad(), divergence_allowed():
        return work(chunk)
