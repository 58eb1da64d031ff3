"""Decide on which arrays and which device the solver runs (POLICY-001 for explicit choices)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ptycho_config import hardware
from ptycho_config.errors import BackendUnavailableError, PolicyError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.arrays import Arrays, array_libraries, load_arrays
from ptycho_core.kernel import Kernel, load_kernel
from ptycho_core.result.history import RunEvent

__all__ = ["ArraysChoice", "choose_arrays"]

_GPU = ("cuda", "gpu")


@dataclass(frozen=True)
class ArraysChoice:
    """Which arrays were chosen, on which device, with how many threads, and why."""

    arrays: str
    device: str
    threads: int
    kernel: str
    message: str
    kernel_origin: str = "none"

    def event(self) -> RunEvent:
        """Say what was chosen, and why."""
        return RunEvent("arrays", self.message, self.record())

    def record(self) -> dict[str, Any]:
        """Return the choice as data for `run.json`."""
        return {"arrays": self.arrays, "device": self.device, "threads": self.threads, "kernel": self.kernel}


def choose_arrays(execution: SolverExecutionConfig) -> tuple[Arrays, ArraysChoice]:
    """Return the arrays that the execution config asks for.

    `auto` arrays are NumPy on a CPU. Only where an NVIDIA driver is present is torch asked, and used if it
    sees the device.

    Raises:
        PolicyError: an explicit GPU that is not there (POLICY-001).
        BackendUnavailableError: arrays that are not installed, or no kernel where one is required.
    """
    name, device, reason = _resolve(execution.arrays, execution.accelerator)
    arrays = load_arrays(name, device=device, threads=execution.threads)
    kernel = _kernel(execution.kernel, device)
    arrays.kernel = kernel.library
    message = f"Solver arrays: {name} on {device} ({reason}); {kernel.message}."
    return arrays, ArraysChoice(name, device, arrays.threads, kernel.message, message, kernel.origin)


def _kernel(wanted: str, device: str) -> Kernel:
    """Return the compiled step, or none with the reason, which is an error where one is insisted on."""
    if wanted == "off":
        return Kernel(None, "no compiled kernel: it was switched off")
    if device != "cpu":
        kernel = Kernel(None, f"no compiled kernel: it is none for {device}")
    elif wanted == "wheel" or wanted == "compiled":
        kernel = load_kernel(wanted)
    else:
        kernel = load_kernel()
    if wanted != "auto" and kernel.library is None:
        raise BackendUnavailableError(
            f"`kernel` is {wanted}, and there is {kernel.message}. "
            f"Leave out `--kernel {wanted}` to take what there is."
        )
    return kernel


def _resolve(arrays: str, accelerator: str) -> tuple[str, str, str]:
    if accelerator == "cpu":
        return ("numpy" if arrays == "auto" else arrays), "cpu", "the CPU was asked for"
    if accelerator == "mps":
        hardware.refuse_absent_mps(accelerator)
        return ("torch" if arrays == "auto" else arrays), "mps", "MPS was asked for"
    if accelerator in _GPU:
        if not _torch_sees_gpu():
            raise PolicyError(
                f"POLICY-001: `{accelerator}` was asked for, and no CUDA device is seen here. "
                "Use `--accelerator cpu`, or install torch with CUDA on a host with an NVIDIA GPU.",
                finding="POLICY-001",
            )
        return ("torch" if arrays == "auto" else arrays), "cuda", "a GPU was asked for"
    if arrays == "numpy":
        return "numpy", "cpu", "NumPy was asked for"
    if hardware.nvidia_driver_present() and _torch_sees_gpu():
        return "torch", "cuda", "a CUDA device is present"
    if arrays == "torch":
        return "torch", "cpu", "torch was asked for; no CUDA device is present"
    return "numpy", "cpu", "no CUDA device is present"


def _torch_sees_gpu() -> bool:
    library = array_libraries().get("torch")
    if library is None:
        return False
    kind = library()
    return kind.available() and kind.sees_gpu()
