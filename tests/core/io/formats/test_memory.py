"""A scan that is larger than the memory of the process is opened and read in blocks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("resource", reason="this system has no limits for a process")

N_FRAMES, N = 1100, 512
ROOM = 1 << 27

SCRIPT = """
import resource, sys, warnings
import numpy as np
import h5py
from ptycho_core import open_scan
from ptycho_core.scan import estimated_probe
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]),) * 2)
warnings.simplefilter("ignore")
scan = open_scan(sys.argv[1], rebin=int(sys.argv[3]), bad_frames="off")
print(scan.n_frames, scan.frame_px, float(scan.counts([7])[0].sum()))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of the process from /proc")
@pytest.mark.parametrize("rebin", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_sparse_file_of_four_times_the_limit_opens(rebin: int, tmp_path: Path) -> None:
    path = tmp_path / "large.h5"
    side = int(np.ceil(np.sqrt(N_FRAMES)))
    y, x = np.divmod(np.arange(N_FRAMES), side)
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # nothing is written: the file has holes
        space = h5py.h5s.create_simple((N_FRAMES, N, N))
        item = h5py.Dataset(h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT16, space, dcpl=plist))
        for frame in range(0, N_FRAMES, 500):
            item[frame, N // 2 - 4 : N // 2 + 4, N // 2 - 4 : N // 2 + 4] = 5
        item[7, N // 2, N // 2] = 9
        file["scan"] = np.stack([y, x], axis=1) * 3.0
        file["probe"] = np.full((N // rebin,) * 2, 1 + 0j, np.complex64)
    n_bytes = N_FRAMES * N * N * 2
    assert path.stat().st_size > n_bytes > 3.9 * ROOM
    assert path.stat().st_blocks * 512 < n_bytes / 100
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(ROOM), str(rebin)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(N_FRAMES), str(N // rebin), "9.0"]
