"""One scan in every format."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core import Scan

# The benchmark of the formats writes the same files.
FILES = Path(__file__).parents[4] / "benchmarks" / "format_files.py"
_spec = importlib.util.spec_from_file_location("format_files", FILES)
assert _spec is not None
assert _spec.loader is not None
format_files: Any = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = format_files
_spec.loader.exec_module(format_files)


@pytest.fixture(scope="session")
def writers() -> dict[str, Callable[[Path, Any], Any]]:
    """Format -> the function that writes a scan in it."""
    return format_files.WRITERS


@pytest.fixture(scope="session")
def real(siemens_star: Scan) -> Any:
    """64 frames of the real scan; its lengths are made up."""
    part = siemens_star.select(slice(0, 64))
    bad = np.zeros((128, 128), bool)
    return format_files.Original(np.rint(part.counts()).astype(np.int32), part.positions_px, part.probe, bad)


@pytest.fixture(scope="session")
def original() -> Any:
    """The small scan."""
    return format_files.small()


@pytest.fixture(params=sorted(format_files.WRITERS))
def written(request: pytest.FixtureRequest, tmp_path: Path, original: Any) -> Any:
    """The small scan in each format."""
    return format_files.WRITERS[request.param](tmp_path, original)
