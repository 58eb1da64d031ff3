"""Find out what kind of source a name means, from a disk that may not answer."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ptycho_config.errors import ConfigError, DataError
from ptycho_core import datasets
from ptycho_core.files import expanded
from ptycho_core.io.opening import read_scan
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.raw_scan import RequestedKeys
from ptycho_core.live.arrival import NO_ANSWER_S, Source
from ptycho_core.live.frame_files import FrameFiles
from ptycho_core.live.positions import PositionsBeside
from ptycho_core.live.replay import Replay
from ptycho_core.live.stacks import GrowingStack

__all__ = ["open_source"]

#: So often it is seen whether the look has an answer.
_BETWEEN_LOOKS_S = 0.05
_STACKS = (".h5", ".hdf5", ".hdf", ".nxs", ".nx5", ".cxi", ".ptyd", ".npy")


def open_source(
    source: str | Path,
    *,
    replay: float | None = None,
    first_number: int | None = None,
    reading: ReadOptions | None = None,
    timeout_s: float | None = None,
) -> Source:
    """Open what is to be watched: a growing stack, a directory of frame files, or the replay of a scan.

    Args:
        replay: frames per second at which a scan that `open_scan` knows is replayed.
        first_number: number in the name of a directory's first frame.
        reading: how the frames are to be read, as for `open_scan`.
        timeout_s: how long a watch waits for frames; a disk that does not answer gets little more. For ever
            where it is None.

    Raises:
        ConfigError: the source cannot grow.
        DataError: it is not there, nor is the folder in which it should appear; or it does not answer.
    """
    reading = reading or ReadOptions()
    return _answered(lambda: _opened(source, replay, first_number, reading), str(source), timeout_s)


def _opened(
    source: str | Path, replay: float | None, first_number: int | None, reading: ReadOptions
) -> Source:
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


def _answered(look: Callable[[], Source], name: str, timeout_s: float | None) -> Source:
    """Look in a thread of its own, which a disk that is gone may keep for ever.

    A scan that is replayed is read as a whole, and that may take any time: only a thread that does not work
    has no answer. What its processor time is, not every system can tell; there it is waited for.

    Raises:
        DataError: no answer came. Whatever the look raises.
    """
    if timeout_s is None or not hasattr(time, "pthread_getcpuclockid"):
        return look()
    found: list[Source] = []
    failed: list[BaseException] = []
    clocks: list[int] = []
    begun, context = threading.Event(), contextvars.copy_context()

    def work() -> None:
        clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
        begun.set()
        try:
            found.append(context.run(look))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="ptycho-open", daemon=True)
    thread.start()
    begun.wait()
    worked_s, since = -1.0, time.perf_counter()
    while thread.is_alive():
        thread.join(_BETWEEN_LOOKS_S)
        try:
            now_s = time.clock_gettime(clocks[0])
        except OSError:  # it has just ended
            continue
        if now_s > worked_s:
            worked_s, since = now_s, time.perf_counter()
        silent_s = time.perf_counter() - since
        if silent_s > timeout_s + NO_ANSWER_S and thread.is_alive():
            raise DataError(
                f"{name}: it has not answered for {silent_s:.0f} s. Is the disk there, on which it lies?"
            )
    if failed:
        raise failed[0]
    return found[0]
