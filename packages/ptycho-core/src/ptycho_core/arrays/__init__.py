"""The few array operations that the solver needs, and their NumPy form.

The solver is written once against `Arrays`. NumPy with SciPy's FFT is built in; other array libraries
register a class under the entry-point group `ptycho.arrays`, so nothing here knows their names.

Work on a batch is cut into *lanes*, contiguous runs of frames. NumPy gives each thread one lane, because
its operations use one thread each and leave the interpreter lock; a GPU takes the whole batch as one lane.
"""

from ptycho_core.arrays.cores import Lanes, usable_cores
from ptycho_core.arrays.libraries import array_libraries, load_arrays
from ptycho_core.arrays.numpy_arrays import NumpyArrays, divergence_allowed
from ptycho_core.arrays.operations import Array, Arrays

__all__ = [
    "Array",
    "Arrays",
    "Lanes",
    "NumpyArrays",
    "array_libraries",
    "divergence_allowed",
    "load_arrays",
    "usable_cores",
]
