"""A FIFO, a socket, a device or a directory in the place of a file is refused at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.errors import ConfigError, DataError, NotRegularError, OutputError
from ptycho_config.regular import open_regular
from ptycho_config.yamlfile import read_yaml
from ptycho_core import Reconstruction, Scan, open_scan, save_scan
from ptycho_core.io import write_text
from ptycho_core.io.hdf5 import opened

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are a POSIX idea")


@pytest.fixture(params=["FIFO", "socket", "device", "directory"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A path under which there is no regular file."""
    path = tmp_path / "odd.npy"
    match request.param:
        case "FIFO":
            os.mkfifo(path)
        case "socket":
            here = Path.cwd()
            os.chdir(tmp_path)  # the names of sockets are short
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(path.name)
            os.chdir(here)
        case "device":
            path.symlink_to("/dev/zero")
        case _:
            path.mkdir()
    yield path


def test_it_is_said_what_it_is(odd: Path, request: pytest.FixtureRequest) -> None:
    with pytest.raises(NotRegularError, match=request.node.callspec.params["odd"]):
        open_regular(odd)


READERS: dict[str, Callable[[Path, Path], object]] = {
    "scan": lambda odd, scan: open_scan(odd),
    "mask": lambda odd, scan: open_scan(scan, mask=odd),
    "dark": lambda odd, scan: open_scan(scan, dark=odd),
    "flat": lambda odd, scan: open_scan(scan, flat=odd),
    "positions": lambda odd, scan: open_scan(scan, positions_file=odd),
    "probe": lambda odd, scan: open_scan(scan, probe_file=odd),
    "exclude_frames": lambda odd, scan: open_scan(scan, exclude_frames=str(odd)),
    "configuration": lambda odd, scan: read_yaml(odd),
    "result": lambda odd, scan: Reconstruction.load(odd),
    "HDF5": lambda odd, scan: opened(odd).__enter__(),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_waits_for_it(reader: str, odd: Path, scan_file: Path) -> None:
    with pytest.raises((DataError, ConfigError)):
        READERS[reader](odd, scan_file)


def test_neither_a_folder_of_frames_nor_a_store_may_hold_a_fifo(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    os.mkfifo(tmp_path / "frames" / "f_0.tif")
    with pytest.raises(DataError, match="FIFO"):
        open_scan(tmp_path / "frames")
    (tmp_path / "scan.zarr").mkdir()
    (tmp_path / "scan.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    os.mkfifo(tmp_path / "scan.zarr" / "0.0.0")
    with pytest.raises(DataError):
        open_scan(tmp_path / "scan.zarr")


def test_no_writer_takes_its_place(odd: Path) -> None:
    with pytest.raises(OutputError, match="not a regular file"):
        write_text(odd, "text")
    assert not odd.is_file()


@pytest.fixture(scope="module")
def scan_file(simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scan: Scan = simulated(object_kind="star", frames=40, frame_px=32, seed=1).scan
    path = tmp_path_factory.mktemp("scan") / "scan.npz"
    assert np.isfinite(scan.positions_px).all()
    return save_scan(scan, path)
