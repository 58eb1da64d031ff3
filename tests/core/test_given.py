"""What a program gives in the wrong type: a TypeError that says what was expected, before any work."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: In a process of its own: here the tests' own checks of types would answer first.
PROGRAM = """
import json
import numpy as np
from ptycho_core import Reconstruction, open_scan, save_scan, scan_from_arrays, solve
from ptycho_config.models import SolverConfig
from ptycho_core.bundle import read_bundle, trained_by, write_bundle
from ptycho_core.io.product import read_product
from ptycho_core.simulate import simulate_scan

frames = np.random.default_rng(0).poisson(5, (9, 32, 32)).astype("u2")
y, x = np.divmod(np.arange(9), 3)
scan = scan_from_arrays(frames, 4.0 * np.c_[y, x])
calls = {
    "source None": lambda: open_scan(None),
    "source array": lambda: open_scan(frames),
    "source scan": lambda: open_scan(scan),
    "frames": lambda: open_scan("scan.npz", frames=3),
    "scan_shape": lambda: open_scan("scan.npz", scan_shape="3,4"),
    "rebin": lambda: open_scan("scan.npz", rebin=float("nan")),
    "mask_invert": lambda: open_scan("scan.npz", mask_invert="no"),
    "positions_scale": lambda: open_scan("scan.npz", positions_scale=b"1"),
    "load None": lambda: Reconstruction.load(None),
    "load scan": lambda: Reconstruction.load(scan),
    "solve path": lambda: solve("scan.npz"),
    "solve None": lambda: solve(None),
    "solve config": lambda: solve(scan, {"effort": "fast"}),
    "solve execution": lambda: solve(scan, None, {"threads": 1}),
    "solve callback": lambda: solve(scan, callbacks=print),
    "solve callbacks": lambda: solve(scan, callbacks=[print]),
    "solve start": lambda: solve(scan, start="reconstruction"),
    "solve prior_mean": lambda: solve(scan, prior_mean=frames),
    "region": lambda: open_scan("scan.npz", region=np.zeros((3, 4))),
    "select": lambda: scan.select(float),
    "save_scan": lambda: save_scan([1], "out.npz"),
    "arrays measurement": lambda: scan_from_arrays(frames, frames[:, 0, :2], measurement=frames),
    "arrays pixel": lambda: scan_from_arrays(frames, frames[:, 0, :2], pixel_size_m="nowhere"),
    "arrays metadata": lambda: scan_from_arrays(frames, frames[:, 0, :2], metadata=frames),
    "save bytes": lambda: solve(scan, SolverConfig(effort="fast", epochs=1)).save(b"out"),
    "save_scan bytes": lambda: save_scan(scan, b"out.npz"),
    "read_bundle bytes": lambda: read_bundle(b"wts.h5.zip"),
    "trained_by None": lambda: trained_by(None),
    "write_bundle bytes": lambda: write_bundle(b"out", None),
    "read_product number": lambda: read_product(7),
    "simulate_scan": lambda: simulate_scan(frame_px=frames),
}
said = {}
for name, call in calls.items():
    try:
        call()
    except Exception as error:
        said[name] = [type(error).__name__, str(error)]
    else:
        said[name] = ["nothing", ""]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_every_wrong_type_is_a_type_error_that_says_what_was_expected(said: dict[str, list[str]]) -> None:
    for name, (kind, text) in said.items():
        assert kind == "TypeError", (name, kind, text)
        assert " expects " in text, name
        assert ", not " in text, name
        assert "\n" not in text, name
    assert "open_scan(FILE)" in said["solve path"][1]
    assert "Reconstruction.load(PLACE)" in said["solve start"][1]
    assert "`scan_shape`" in said["scan_shape"][1]
