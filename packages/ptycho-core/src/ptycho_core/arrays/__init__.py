"""The few array operations that the solver needs, and their NumPy form.

The solver is written once against `Arrays` (`operations`). NumPy with SciPy's FFT is built in; other array
libraries register a class under the entry-point group `ptycho.arrays`, so nothing here knows their names.

Work on a batch is cut into *chunks*, contiguous runs of frames. NumPy gives each thread one chunk, because
its operations use one thread each and leave the interpreter lock; a GPU takes the whole batch as one chunk.
"""

from typing import Any

from ptycho_config.moved import moved_name
from ptycho_core.arrays.libraries import array_libraries, load_arrays
from ptycho_core.arrays.numpy_arrays import NumpyArrays, divergence_allowed
from ptycho_core.arrays.operations import Array, Arrays
from ptycho_core.arrays.threads import ChunkThreads, one_blas_thread

__all__ = [
    "Array",
    "Arrays",
    "ChunkThreads",
    "NumpyArrays",
    "array_libraries",
    "divergence_allowed",
    "load_arrays",
    "one_blas_thread",
]

_MOVED = {"usable_cores": "ptycho_core.cores"}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
