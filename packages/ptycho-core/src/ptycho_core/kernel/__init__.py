"""The solver's step as compiled code, for arrays in the host's memory.

Wheels for the usual platforms carry it, made for several levels of instructions. The C source is part of
every package: elsewhere, where the host has a C compiler, it is compiled once for the processor at hand and
kept in the user's cache. Without either the solver computes with its array library alone, and says so.
"""

from ptycho_core.kernel.load import Kernel, load_kernel
from ptycho_core.kernel.places import misfits_of_places
from ptycho_core.kernel.proximal import proximal_step
from ptycho_core.kernel.step import FusedStep, Misfit, Steps
from ptycho_core.kernel.structs import transforms

__all__ = [
    "FusedStep",
    "Kernel",
    "Misfit",
    "Steps",
    "load_kernel",
    "misfits_of_places",
    "proximal_step",
    "transforms",
]
