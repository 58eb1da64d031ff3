"""Scans that are read by several threads at once; HDF5 itself bears only one in it at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

#: In a process of its own: what went wrong here ended it by a signal, sooner or later.
READ = """
import sys
from concurrent.futures import ThreadPoolExecutor
from ptycho_core import open_scan
from ptycho_core.io.options import ReadOptions
from ptycho_core.io.opening import read_scan
def total(path):
    return float(read_scan(path, ReadOptions(measurement="counts", dc="center")).counts().sum())
with ThreadPoolExecutor(4) as threads:
    print(*sorted(set(threads.map(total, sys.argv[1:] * 12))))
"""


def test_threads_may_read_compressed_files_side_by_side(tmp_path: Path) -> None:
    random, paths, sums = np.random.default_rng(0), [], []
    for number in range(2):
        paths.append(tmp_path / f"scan{number}.h5")
        frames = random.poisson(50, (60, 32, 32)).astype(np.uint16)
        with h5py.File(paths[-1], "w") as file:
            packed = hdf5plugin.Bitshuffle(cname="lz4")
            file.create_dataset("frames", data=frames, chunks=(1, 32, 32), **packed)
            file["positions"] = np.stack(np.divmod(np.arange(60.0), 8), axis=1) * 4
            file["probe"] = np.ones((32, 32), np.complex64)
        sums.append(float(frames.sum()))
    command = [sys.executable, "-W", "ignore", "-c", READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(one) for one in sorted(sums)]
