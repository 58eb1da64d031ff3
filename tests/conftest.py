"""Ground shared by all tests: no display, one thread per library, the real scan where it can be found."""

from __future__ import annotations

import os
from pathlib import Path

# Before any test imports NumPy or matplotlib. Test processes share few cores; more threads than cores only
# wait for each other, and results must not depend on their number.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["MPLBACKEND"] = "Agg"  # figures are drawn into files; there may be no screen

# A checkout may have the data beside it; subprocesses that tests start find them the same way.
_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
if "PTYCHO_DATA_DIR" not in os.environ and _BESIDE.is_dir():
    os.environ["PTYCHO_DATA_DIR"] = str(_BESIDE)
