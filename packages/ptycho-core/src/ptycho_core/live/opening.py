"""Find out what kind of source a name means."""

from __future__ import annotations

from pathlib import Path

from ptycho_config.errors import ConfigError, DataError
from ptycho_core import datasets
from ptycho_core.files import expanded
from ptycho_core.io.opening import read_scan
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.raw_scan import RequestedKeys
from ptycho_core.live.arrival import Source
from ptycho_core.live.frame_files import FrameFiles
from ptycho_core.live.positions import PositionsBeside
from ptycho_core.live.replay import Replay
from ptycho_core.live.stacks import GrowingStack

__all__ = ["open_source"]

_STACKS = (".h5", ".hdf5", ".hdf", ".nxs", ".nx5", ".cxi", ".ptyd", ".npy")


def open_source(
    source: str | Path,
    *,
    replay: float | None = None,
    first_number: int | None = None,
    reading: ReadOptions | None = None,
) -> Source:
    """Open what is to be watched: a growing stack, a directory of frame files, or the replay of a scan.

    Args:
        replay: frames per second at which a scan that `open_scan` knows is replayed.
        first_number: number in the name of a directory's first frame.
        reading: how the frames are to be read, as for `open_scan`.

    Raises:
        ConfigError: the source cannot grow.
        DataError: it is not there, nor is the folder in which it should appear.
    """
    reading = reading or ReadOptions()
    if replay is not None:
        return Replay(read_scan(source, reading), replay)
    path = expanded(source)
    if str(source) in datasets.DATASETS and not path.exists():
        raise ConfigError(
            f"{source} is a finished data set and does not grow. `ptycho watch {source} --replay 500` "
            "replays it."
        )
    elsewhere = reading.positions_file
    positions = PositionsBeside(path)
    if elsewhere is not None:
        positions = PositionsBeside(path, expanded(elsewhere), reading.positions_key)
    if path.is_dir():
        return FrameFiles(path, positions, first_number=first_number)
    if path.suffix.lower() in _STACKS:
        if not path.exists() and not path.parent.is_dir():
            raise DataError(
                f"{path}: neither the file nor its folder is there. Make the folder or correct the name."
            )
        named = elsewhere is not None or path.suffix.lower() == ".npy"
        keys = RequestedKeys.of(reading, positions_elsewhere=named)
        return GrowingStack(path, keys, positions if named else None)
    if path.exists():
        raise ConfigError(
            f"{path.name}: a file of this kind does not grow. Expected HDF5, NPY or a directory of frame "
            f"files; `ptycho watch {path.name} --replay 500` replays a finished scan."
        )
    raise DataError(
        f"{path}: no such file or directory. Expected HDF5, NPY or a directory of frame files; a file that "
        "is still to come needs its ending, such as .h5."
    )
