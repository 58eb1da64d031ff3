"""Scans that tests of the core start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptycho_core import Scan, open_scan
from ptycho_core.datasets import fetch


@pytest.fixture(scope="session")
def siemens_star_path() -> Path:
    """The real scan as a file: from `PTYCHO_DATA_DIR`, the user's cache, or fetched into it."""
    return fetch("siemens-star")


@pytest.fixture(scope="session")
def siemens_star() -> Scan:
    """The real scan, opened by name."""
    return open_scan("siemens-star")
