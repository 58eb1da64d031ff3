"""The array libraries that are installed, found by their entry points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

from ptycho_config.errors import BackendUnavailableError
from ptycho_core.arrays.numpy_arrays import NumpyArrays
from ptycho_core.arrays.operations import Arrays

__all__ = ["array_libraries", "load_arrays"]

#: Gives the class of a library; Any, because a protocol with data members has no subclass check.
ArraysLoader = Callable[[], Any]


def array_libraries() -> dict[str, ArraysLoader]:
    """Name -> loader of each registered array library, the built-in one first."""
    registered: dict[str, ArraysLoader] = {"numpy": lambda: NumpyArrays}
    for point in entry_points(group="ptycho.arrays"):
        registered[point.name] = point.load
    return registered


def load_arrays(name: str, *, device: str = "cpu", threads: int | None = None) -> Arrays:
    """Return the array library of that name on that device.

    Raises:
        BackendUnavailableError: it is not registered, or what it needs is not installed; with the command.
    """
    libraries = array_libraries()
    if name not in libraries:
        known: Sequence[str] = sorted(libraries)
        raise BackendUnavailableError(
            f"Arrays of the kind `{name}` are not installed (installed: {', '.join(known)}). "
            f"Install them: pip install 'ptycho-dispatch[{name}]'."
        )
    library = libraries[name]()
    if not library.available():
        raise BackendUnavailableError(
            f"Arrays of the kind `{name}` need a package that is not installed. "
            f"Install it: pip install 'ptycho-dispatch[{name}]'."
        )
    return library(device=device, threads=threads)
