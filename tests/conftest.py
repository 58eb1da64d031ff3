"""Ground shared by all tests: no display, one thread per library, the real scan where it can be found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test imports NumPy or matplotlib. Test processes share few cores; more threads than cores only
# wait for each other, and results must not depend on their number.
for variable in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
):
    os.environ.setdefault(variable, "1")
os.environ["MPLBACKEND"] = "Agg"  # figures are drawn into files; there may be no screen

# A run for a verdict draws the same examples every time; a run at a desk looks for new ones.
settings.register_profile("verdict", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)
settings.load_profile("verdict" if os.environ.get("CI") else "desk")

# A checkout may have the data beside it; subprocesses that tests start find them the same way.
_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
if "PTYCHO_DATA_DIR" not in os.environ and _BESIDE.is_dir():
    os.environ["PTYCHO_DATA_DIR"] = str(_BESIDE)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none; fail instead where just these tests were asked for."""
    if item.get_closest_marker("gpu") is None or _cuda_is_available():
        return
    if item.config.getoption("-m") == "gpu":
        pytest.fail("no CUDA device is seen here, and these tests need one", pytrace=False)
    pytest.skip("no CUDA device is seen here")


def _cuda_is_available() -> bool:
    from ptycho_config import hardware

    return hardware.cuda_available()


@pytest.fixture(scope="session")
def siemens_star_path() -> Path:
    """The real scan as a file: from `PTYCHO_DATA_DIR`, the user's cache, or fetched into it."""
    from ptycho_core.datasets import fetch

    return fetch("siemens-star")


@pytest.fixture(scope="session")
def siemens_star() -> "Scan":
    """The real scan, opened by name."""
    from ptycho_core import open_scan

    return open_scan("siemens-star")
