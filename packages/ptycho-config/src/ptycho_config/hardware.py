"""Which accelerator a run uses: the only place that asks the hardware (POLICY-001).

`cuda_available` is looked up as `hardware.cuda_available` at call time, and it asks
`torch.cuda.is_available()` at call time, so that replacing either name changes the answer. `asking` puts
another question in the place of that one: the audit gives both answers so, and counts how often it is asked.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ptycho_config.errors import ConfigError, PolicyError, PolicyWarning

__all__ = [
    "ACCELERATORS",
    "Accelerator",
    "Resolution",
    "announce",
    "asking",
    "cuda_available",
    "fallback_warning",
    "mps_available",
    "nvidia_driver_present",
    "refuse_absent_gpu",
    "refuse_absent_mps",
    "require_accelerator",
    "resolve_accelerator",
    "torch_installed",
]

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]
"""What may be asked for; `gpu` leaves the kind of GPU to the framework."""

ACCELERATORS: tuple[str, ...] = get_args(Accelerator)
_GPU = ("cuda", "gpu")

TORCH_FLAG = "--torch-accelerator"
NO_CUDA = "No CUDA device detected"
"""Opens every reason for a fallback to the CPU; programs look for these words in the warning."""


_DRIVER_TRACES = (
    Path("/proc/driver/nvidia/version"),
    Path("/dev/nvidiactl"),
    Path("/usr/lib/wsl/lib/libcuda.so.1"),
    Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll",
)
"""What an NVIDIA driver leaves in the file system: Linux, in a container, WSL, Windows."""


class Resolution(NamedTuple):
    """What was asked for, what runs, and why."""

    requested: str
    resolved: str
    reason: str

    @property
    def fell_back(self) -> bool:
        """Whether the CPU runs without having been chosen."""
        return self.requested == "auto" and self.resolved == "cpu"


def resolve_accelerator(requested: str, *, cuda_available: bool, why_not: str = "") -> Resolution:
    """Turn `auto` into `cuda` or `cpu`; leave every explicit choice as it is.

    Pure: no question to the hardware, no warning. Resolving a resolved value changes nothing.

    Args:
        requested: one of `ACCELERATORS`.
        cuda_available: the answer of the hardware; only `auto` looks at it.
        why_not: what is known about the absence of CUDA, such as "torch is not installed".

    Raises:
        ConfigError: `requested` is none of the choices; the message lists them.

    Example:
        >>> resolve_accelerator("auto", cuda_available=True).resolved
        'cuda'
    """
    if requested not in ACCELERATORS:
        raise ConfigError(
            f"`accelerator` is {requested!r}; expected one of {', '.join(ACCELERATORS)}. "
            "`auto` takes CUDA where it is available."
        )
    if requested != "auto":
        return Resolution(requested, requested, "chosen explicitly")
    if cuda_available:
        return Resolution("auto", "cuda", "CUDA is available")
    return Resolution("auto", "cpu", f"{NO_CUDA} ({why_not})" if why_not else NO_CUDA)


def announce(resolution: Resolution, *, stacklevel: int = 2, flag: str = TORCH_FLAG) -> None:
    """Warn once, under POLICY-001, when `auto` fell back to the CPU; otherwise say nothing."""
    if resolution.fell_back:
        warnings.warn(fallback_warning(resolution, flag), stacklevel=stacklevel + 1)


def fallback_warning(resolution: Resolution, flag: str = TORCH_FLAG) -> PolicyWarning:
    """Return what is said when `auto` became the CPU.

    Args:
        flag: with which the CPU is asked for.
    """
    text = f"{resolution.reason}; running on the CPU. Ask for it with `{flag} cpu` to silence this."
    return PolicyWarning(text, finding="POLICY-001")


def torch_installed() -> bool:
    """Tell whether PyTorch could be imported, without importing it."""
    return importlib.util.find_spec("torch") is not None


def _torch_sees_cuda() -> bool:
    if not torch_installed():
        return False
    torch: Any = importlib.import_module("torch")  # torch has no types here: it is not a dependency
    return bool(torch.cuda.is_available())


_question: Callable[[], bool] = _torch_sees_cuda
"""What `cuda_available` asks; `asking` alone replaces it."""


def cuda_available() -> bool:
    """Ask PyTorch for a CUDA device; without PyTorch the answer is False."""
    return _question()


@contextmanager
def asking(question: Callable[[], bool]) -> Generator[Callable[[], bool], None, None]:
    """Let `cuda_available` ask this question instead, in every thread, until the block ends.

    For whoever must know what the house does under an answer that this host does not give.

    Yields:
        The question that was asked before, which the new one may ask on.

    Example:
        >>> with asking(lambda: True):
        ...     cuda_available()
        True
    """
    global _question
    before, _question = _question, question
    try:
        yield before
    finally:
        _question = before


def mps_available() -> bool:
    """Ask PyTorch for the GPU of an Apple chip; without PyTorch the answer is False."""
    if not torch_installed():
        return False
    torch: Any = importlib.import_module("torch")  # torch has no types here: it is not a dependency
    return bool(torch.backends.mps.is_available())


def refuse_absent_mps(accelerator: str) -> None:
    """Refuse an explicit `mps` on a host without one; it is asked only where it was asked for.

    Raises:
        PolicyError: POLICY-001.
    """
    if accelerator == "mps" and not mps_available():
        raise PolicyError(
            "accelerator 'mps' was asked for, but PyTorch sees no GPU of an Apple chip here. Use `auto` to "
            "take what the host has, or `cpu`.",
            finding="POLICY-001",
        )


def require_accelerator(accelerator: str, *, cuda_available: bool, flag: str = TORCH_FLAG) -> None:
    """Refuse an explicit `cuda` or `gpu` on a host without one; call it before any data is read.

    Args:
        accelerator: the resolved choice.
        cuda_available: the answer of the hardware, usually `hardware.cuda_available()`.
        flag: with which an accelerator is asked for.

    Raises:
        PolicyError: POLICY-001, the host lacks the GPU that was asked for.
    """
    if accelerator in _GPU and not cuda_available:
        raise PolicyError(
            f"accelerator {accelerator!r} was asked for, but {NO_CUDA[0].lower()}{NO_CUDA[1:]}. "
            f"Use `{flag} auto` to take what the host has, or `cpu`.",
            finding="POLICY-001",
        )


def refuse_absent_gpu(accelerator: str) -> None:
    """Refuse an explicit GPU that this host lacks; the hardware is asked only where one was asked for.

    Args:
        accelerator: the resolved choice.
    Raises:
        PolicyError: POLICY-001.
    """
    refuse_absent_mps(accelerator)
    if accelerator in _GPU:
        require_accelerator(accelerator, cuda_available=cuda_available())


def nvidia_driver_present() -> bool:
    """Look for an NVIDIA driver in the file system; import nothing, start nothing.

    A host that hides its devices with an empty `CUDA_VISIBLE_DEVICES` (or -1) counts as one without.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return False
    return any(trace.exists() for trace in _DRIVER_TRACES)
