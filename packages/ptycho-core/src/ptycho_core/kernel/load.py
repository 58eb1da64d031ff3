"""Find the kernel: the one that the wheel carries, or one that is compiled here, or none.

A library of the wheel is used where it was made from the sources beside it, is whole, suits the processor,
has the structs of `structs`, and reproduces steps computed with NumPy: that takes 25 ms, is asked in each
process, and needs nowhere to write. Where it is not used, or `PTYCHO_KERNEL_FLAGS` is set, the host's own
compiler is asked (`build`).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from ptycho_config.errors import BackendUnavailableError
from ptycho_core.kernel.build import (
    LARGEST_ERROR,
    REFUSALS,
    compiled_library,
    flags_are_set,
    opened_library,
)
from ptycho_core.kernel.shipped import hash_of_sources, shipped_library

__all__ = ["Kernel", "Origin", "load_kernel"]

#: Where the kernel may come from.
Origin = Literal["any", "wheel", "compiled"]


@dataclass(frozen=True)
class Kernel:
    """The compiled library, or why there is none.

    Attributes:
        library: None where the kernel cannot be used here.
        message: one sentence for the log.
        build_seconds: time that the compiler took now; 0 where there was nothing to compile.
        origin: whose library it is.
    """

    library: ctypes.CDLL | None
    message: str
    build_seconds: float = 0.0
    origin: Literal["none", "wheel", "compiled"] = "none"


@cache
def load_kernel(origin: Origin = "any") -> Kernel:
    """Return the kernel for this processor.

    Never raises: a host without a compiler is a normal host. The answer is kept for the process.

    Args:
        origin: `wheel` compiles nothing, `compiled` looks at no wheel's library, `any` prefers the wheel's.
    """
    refused = ""
    if origin == "wheel" or (origin == "any" and not flags_are_set()):
        library, words = _of_the_wheel(_folder())
        if library is not None:
            return _found(library, words, 0.0, "wheel")
        refused = words
    if origin == "wheel":
        return Kernel(None, f"no compiled kernel: {refused or 'this installation carries none'}")
    try:
        library, made, seconds = compiled_library()
    except BackendUnavailableError as error:
        return Kernel(None, "no compiled kernel: " + "; ".join(filter(None, (refused, str(error)))))
    return _found(library, "; ".join(filter(None, (made, refused))), seconds, "compiled")


def _found(library: ctypes.CDLL, words: str, seconds: float, origin: Literal["wheel", "compiled"]) -> Kernel:
    width = library.ptycho_vector_width()
    return Kernel(library, f"compiled kernel with vectors of {width} floats ({words})", seconds, origin)


def _folder() -> Path:
    """Where a wheel puts its libraries."""
    return Path(__file__).parent / "libraries"


def _of_the_wheel(folder: Path) -> tuple[ctypes.CDLL | None, str]:
    """Return the library that the wheel has for this processor, or none; and words about it for the log."""
    # It imports `build`, and is a program of its own.
    from ptycho_core.kernel.check import largest_error

    try:
        shipped = shipped_library(folder, hash_of_sources(files("ptycho_core.kernel")))
        if shipped.path is None:
            return None, _refused(shipped.wrong) if shipped.wrong else ""
        library = opened_library(shipped.path)
        error = largest_error(library)
    except REFUSALS as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return None, _refused(f"cannot be loaded ({first})")
    if not error < LARGEST_ERROR:
        return None, _refused(f"is off by {error:.1e} on this processor")
    return library, f"from the wheel, {shipped.level}"


def _refused(reason: str) -> str:
    return f"the one of the wheel {reason} and is not used"
