"""`ptycho watch` as a user sees it: files that grow, a replay, an interruption, and what is refused."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ptycho_core import Reconstruction, open_scan

RESULT_FILES = {"reconstruction.npz", "reconstruction.h5", "metrics.csv", "run.json", "ptycho.log"}
RESULT_FILES |= {"amplitude.png", "phase.png", "overview.png", "live.png"}
NETWORKS = all(importlib.util.find_spec(name) for name in ("ptycho_core_torch", "torch", "lightning"))

#: A detector: appends frames to an HDF5 file that it opens and closes, the fourth one late.
WRITER = """
import sys, time, h5py, numpy as np
frames, positions = np.load(sys.argv[1]), np.load(sys.argv[2])
with h5py.File(sys.argv[3], "w") as file:
    file.create_dataset("data", frames.shape, frames.dtype, chunks=(1, *frames.shape[1:]))
    file["positions_px"] = positions
for first in [*range(0, len(frames), 8), None]:
    rows = [3] if first is None else [n for n in range(first, min(first + 8, len(frames))) if n != 3]
    with h5py.File(sys.argv[3], "a") as file:
        file["data"][rows] = frames[rows]
    time.sleep(0.05)
"""


def test_a_file_that_another_process_writes(ptycho, scan_file: Path, tmp_path: Path) -> None:
    scan = open_scan(scan_file)
    np.save(tmp_path / "frames.npy", np.rint(scan.counts()).astype(np.uint32))
    np.save(tmp_path / "positions.npy", scan.positions_px)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, "frames.npy", "positions.npy", "scan.h5"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    done = ptycho("watch", "scan.h5", "--expected-frames", scan.n_frames, "--output-dir", "live")
    _, complaint = writer.communicate(timeout=60)
    assert writer.returncode == 0, complaint
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "live").iterdir()} == RESULT_FILES
    record = json.loads((tmp_path / "live" / "run.json").read_text())
    assert record["live"]["frames"] == scan.n_frames
    assert record["live"]["left_out"] == {}
    assert record["command"] == ["watch", "scan.h5"]
    done = ptycho("reconstruct", "scan.h5", "--output-dir", "offline")
    assert done.code == 0, done.err
    live, offline = (Reconstruction.load(tmp_path / name) for name in ("live", "offline"))
    assert abs(live.data_residual - offline.data_residual) < 0.005


def test_a_replay_says_how_it_went(ptycho, scan_file: Path, tmp_path: Path) -> None:
    done = ptycho("watch", scan_file, "--replay", "400", "--output-dir", "live", "--finish", "none")
    assert done.code == 0, done.err
    for word in ("40 of 32 x 32 px", "frames/s", "latency", "residual R", "live.png"):
        assert word in done.out
    assert ptycho("audit", "live").code == 0
    assert "40 of 40 frames" in (tmp_path / "live" / "ptycho.log").read_text()


def test_ctrl_c_keeps_the_image_and_exits_130(scan_file: Path, tmp_path: Path) -> None:
    words = ["watch", str(scan_file), "--replay", "4", "--output-dir", "live"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ptycho_dispatch", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "latency" in line:
            break
    process.send_signal(signal.SIGINT)
    table, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "(interrupted)" in table
    assert {path.name for path in (tmp_path / "live").iterdir()} == RESULT_FILES
    result = Reconstruction.load(tmp_path / "live")
    assert result.interrupted
    assert 4 <= result.n_frames < 40


@pytest.fixture
def dead_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk that never answers: one of the user's programs would have to, and there is none."""
    place = tmp_path / "dead"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        channel = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("this system lets no test mount a disk")
    options = f"fd={channel},rootmode=40000,user_id=0,group_id=0".encode()
    mounted = libc.mount(b"dead", os.fsencode(place), b"fuse", 0, options) == 0
    try:
        if not mounted:
            pytest.skip("this system lets no test mount a disk")
        yield place
    finally:
        os.close(channel)  # whoever waits for it gets an error
        if mounted:
            libc.umount2(os.fsencode(place), 2)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does")
@pytest.mark.parametrize("how", [pytest.param("timeout", marks=pytest.mark.slow), "Ctrl-C"])
def test_positions_on_a_disk_that_is_gone_keep_nothing_waiting(
    how: str, scan_file: Path, tmp_path: Path, dead_disk: Path
) -> None:
    scan = open_scan(scan_file)
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(np.rint(scan.counts()).astype(np.uint32)):
        np.save(tmp_path / f"frames/f_{index:04d}.npy", frame)
    np.save(tmp_path / "there.npy", scan.positions_px)
    (tmp_path / "where.npy").symlink_to("there.npy")
    words = ("frames", "--positions-file", "where.npy", "--probe-file", scan_file, "--output-dir", "out")
    more = ("--timeout", "1" if how == "timeout" else "60", "--finish", "none", "--effort", "fast")
    command = [sys.executable, "-m", "ptycho_dispatch", "watch", *map(str, words), *more]
    watch = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (tmp_path / "out/live.png").exists() and time.monotonic() < until:
        time.sleep(0.01)
    (tmp_path / "gone").symlink_to(dead_disk / "positions.npy")
    (tmp_path / "gone").replace(tmp_path / "where.npy")
    if how == "Ctrl-C":
        watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=60)
    assert watch.returncode == (0 if how == "timeout" else 130), err
    assert Reconstruction.load(tmp_path / "out").n_frames == scan.n_frames


@pytest.mark.slow
@pytest.mark.skipif(not NETWORKS, reason="ptycho-core-torch is not installed")
def test_a_network_ends_where_infer_does(ptycho, scan_file: Path, tmp_path: Path) -> None:
    words = ["train", "--train-data-file", scan_file, "--nepochs", "1", "--output-dir", "trained"]
    assert ptycho(*words, "--torch-accelerator", "cpu").code == 0
    network = ("--model-path", "trained")
    done = ptycho(
        "watch", scan_file, "--replay", "400", *network, "--accelerator", "cpu", "--output-dir", "live"
    )
    assert done.code == 0, done.err
    words = ["infer", "--test-data", scan_file, *network, "--output-dir", "offline"]
    assert ptycho(*words, "--torch-accelerator", "cpu").code == 0
    live, offline = (Reconstruction.load(tmp_path / name) for name in ("live", "offline"))
    assert live.method == "network"
    assert ptycho("audit", "live").code == 0
    assert abs(live.data_residual - offline.data_residual) < 0.005


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("siemens-star",), 2, "--replay 500"),
        (("nowhere",), 3, "no such file or directory"),
        (("siemens-star", "--replay", "5", "--method", "network"), 2, "--model-path"),
        (("siemens-star", "--replay", "5", "--method", "both"), 2, "--method network"),
        (("siemens-star", "--replay", "0"), 2, "replay"),
        (("siemens-star", "--replay", "5", "--refresh", "3"), 2, "refresh"),
        (("siemens-star", "--model-path", "x", "--finish", "polish"), 2, "--finish"),
        (("siemens-star", "--finish", "none", "--refine-background", "true"), 2, "--refine-background"),
        (("siemens-star", "--finish", "none", "--probe-variations", "2"), 2, "--finish solve"),
    ],
)
def test_what_is_refused_says_what_to_type(words, code, said, ptycho, tmp_path: Path) -> None:
    done = ptycho("watch", *words)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.err.count("ptycho:") == 1


@pytest.mark.slow
@pytest.mark.parametrize("rate", [500, 2000])
def test_the_real_scan_replayed_ends_where_the_finished_one_does(
    rate: int, ptycho, tmp_path: Path, siemens_star_path: Path
) -> None:
    done = ptycho("watch", "siemens-star", "--replay", rate, "--output-dir", "live")
    assert done.code == 0, done.err
    done = ptycho("reconstruct", "siemens-star", "--output-dir", "offline")
    assert done.code == 0, done.err
    live, offline = (Reconstruction.load(tmp_path / name) for name in ("live", "offline"))
    assert live.n_frames == offline.n_frames == 516
    assert abs(live.data_residual - offline.data_residual) < 0.005
    record = json.loads((tmp_path / "live" / "run.json").read_text())["live"]
    assert record["left_out"] == {}
    assert record["pictures"] >= 1
