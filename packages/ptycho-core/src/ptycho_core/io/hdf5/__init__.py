"""HDF5 files, read without trust: what they declare is checked before anything is allocated.

Frames stay in the file (`Hdf5Source`); everything else is read at once and has to be small. Files that are
still being written are opened in SWMR mode, virtual data sets only where their sources exist.
"""

from ptycho_core.io.hdf5.file import Hdf5, opened
from ptycho_core.io.hdf5.frames import Hdf5Source
from ptycho_core.io.hdf5.handles import translated, without_lock
from ptycho_core.io.hdf5.values import numbered, text_of, unit_of
from ptycho_core.io.hdf5.writing import HdfImage, written_hdf5

__all__ = [
    "Hdf5",
    "Hdf5Source",
    "HdfImage",
    "numbered",
    "opened",
    "text_of",
    "translated",
    "unit_of",
    "without_lock",
    "written_hdf5",
]
