"""Wrong types and values given from Python: the error says what was expected and is never Python's own."""

from __future__ import annotations

import random
from pathlib import Path

from injection.case import Act, Case
from injection.ground import Ground

__all__ = ["draw"]

#: Errors that are meant for whoever calls; all others are a fault. A TypeError says what was expected.
PROGRAM = """
import math, sys, warnings
from pathlib import Path
import numpy as np
import pydantic
from ptycho_config import errors
from ptycho_config.models import InferenceConfig, RunConfig, SolverConfig, TrainingConfig
from ptycho_core import Reconstruction, Scan, open_scan, save_scan, scan_from_arrays, solve
from ptycho_core.bundle import read_bundle
from ptycho_core.simulate import simulate_scan
warnings.simplefilter("ignore")
right = (errors.DataError, errors.ConfigError, errors.OutputError, errors.BundleError, errors.PolicyError,
         errors.BackendUnavailableError, TypeError, pydantic.ValidationError)
z = np.load("scan.npz")
F, X, P = z["diff3d"], np.c_[z["ycoords"], z["xcoords"]], z["probeGuess"]
quick = SolverConfig(effort="fast", epochs=2)
try:
    $CALL
except right as error:
    text = str(error)
    print(type(error).__name__, text, file=sys.stderr)
    if isinstance(error, pydantic.ValidationError):
        sys.exit(0)
    if len(text.splitlines()) != 1 or len(text) > 3000:
        sys.exit(9)
    if type(error) is TypeError and "xpect" not in text:
        sys.exit(8)
"""
WRONG = (
    *(
        "None",
        "7",
        "-1",
        "0",
        "1.5",
        "math.nan",
        "math.inf",
        "True",
        "''",
        "'nowhere'",
        "b'scan.npz'",
        "[]",
        "{}",
        "()",
    ),
    *(
        "object()",
        "print",
        "np.zeros(3)",
        "np.zeros((3, 4))",
        "np.zeros((30, 32, 32))",
        "[1, 'a']",
        "Path('nowhere')",
    ),
    *(
        "Path('.')",
        "open('scan.npz', 'rb')",
        "np.array('x')",
        "np.array([None, 1], object)",
        "{'a': 1}",
        "2**70",
        "1j",
    ),
    *(
        "float",
        "'\\x1b[2J\\n'",
        "'a\\0b'",
        "'x' * 5000",
        "np.ma.masked",
        "np.datetime64('now')",
        "F",
        "X",
        "quick",
    ),
)
ARRAYS = (
    *(
        "F.astype(float) * np.nan",
        "F[:0]",
        "F[0]",
        "F[..., :-1]",
        "-F.astype(int)",
        "F.astype('S3')",
        "F.astype(complex)",
    ),
    *(
        "F.astype(object)",
        "F * 0",
        "F[::-1]",
        "np.asfortranarray(F)",
        "F.astype('>u2')",
        "F.tolist()",
        "X[:3]",
        "X.T",
    ),
    *(
        "X * np.inf",
        "X * 1e300",
        "X * 0",
        "X.astype(str)",
        "P[0]",
        "P * np.nan",
        "P * 0",
        "P[..., :5]",
        "P.real",
        "P * 1e30",
    ),
    *(
        "np.broadcast_to(F[:1], F.shape)",
        "F.astype('f2') * 1e4",
        "memoryview(F)",
        "np.zeros((30, 0, 0))",
        "F[None]",
    ),
)
CALLS = (
    *("open_scan($W)", "open_scan('scan.npz', frames_key=$W)", "open_scan('scan.npz', positions_unit=$W)"),
    *(
        "open_scan('scan.npz', crop_px=$W)",
        "open_scan('scan.npz', pixel_size_m=$W)",
        "open_scan('scan.npz', unknown=$W)",
    ),
    *(
        "open_scan('scan.npz', mask=$W)",
        "open_scan('scan.npz', frames=$W)",
        "open_scan('scan.npz', positions_file=$W)",
    ),
    *(
        "open_scan('scan.npz', measurement=$W, dc=$W)",
        "open_scan('scan.npz', probe_file=$W)",
        "open_scan('scan.npz', region=$W)",
    ),
    *("solve($W)", "solve(open_scan('scan.npz'), $W)", "solve(open_scan('scan.npz'), quick, $W)"),
    *("solve(open_scan('scan.npz'), quick, start=$W)", "solve(open_scan('scan.npz'), quick, callbacks=$W)"),
    *("Reconstruction.load($W)", "Reconstruction.load('result').save($W)", "read_bundle($W)"),
    *("Reconstruction.load('result').save('out', tiff=$W, mat=$W)", "save_scan($W, 'out.npz')"),
    *("save_scan(open_scan('scan.npz'), $W)", "simulate_scan(frames=$W)", "simulate_scan(frame_px=$W)"),
    *(
        "simulate_scan(photons=$W, frames=20)",
        "simulate_scan(object_kind=$W)",
        "simulate_scan(overlap=$W, frames=20)",
    ),
    *("simulate_scan(seed=$W, frames=20, frame_px=32)", "SolverConfig(effort=$W)", "SolverConfig(epochs=$W)"),
    *(
        "SolverConfig(prior_strength=$W)",
        "TrainingConfig(nepochs=$W)",
        "TrainingConfig($K=$W)",
        "InferenceConfig(n_groups=$W)",
    ),
    *(
        "RunConfig(output_dir=$W)",
        "RunConfig(scan_step=$W)",
        "open_scan('scan.npz').select($W)",
        "open_scan('scan.npz').counts($W)",
    ),
)
OF_ARRAYS = (
    *(
        "scan_from_arrays($A, X, P)",
        "scan_from_arrays(F, $A, P)",
        "scan_from_arrays(F, X, $A)",
        "scan_from_arrays($A, $A, $A)",
    ),
    *("scan_from_arrays(F, X, P, bad_pixels=$A)", "scan_from_arrays(F, X, P, ground_truth=$A)"),
    *("scan_from_arrays(F, X, P, measurement=$A)", "scan_from_arrays(F, X, P, pixel_size_m=$A)"),
    *("scan_from_arrays(F, X, P, metadata=$A)", "solve(scan_from_arrays($A, X, P), quick)"),
    *("solve(scan_from_arrays(F, $A, P), quick)", "solve(scan_from_arrays(F, X, $A), quick)"),
)
KEYS = (
    "batch_size",
    "nphotons",
    "gridsize",
    "N",
    "optimizer",
    "max_time",
    "seed",
    "train_data_file",
    "probe_scale",
)


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw a call and what is wrong in it."""
    if rng.random() < 0.4:
        call = rng.choice(OF_ARRAYS)
        while "$A" in call:
            call = call.replace("$A", rng.choice(ARRAYS if rng.random() < 0.75 else WRONG), 1)
    else:
        call = rng.choice(CALLS).replace("$K", rng.choice(KEYS))
        while "$W" in call:
            call = call.replace("$W", rng.choice(WRONG), 1)

    def prepare(place: Path) -> list[Act]:
        ground.put(place, f"scan.npz {call}")
        return [Act(program=PROGRAM.replace("$CALL", call), codes=frozenset({0}), patience_s=25)]

    return Case("api", call, prepare)
