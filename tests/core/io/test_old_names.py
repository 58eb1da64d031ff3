"""Names that were renamed are found under the old ones for one release, with a warning."""

from __future__ import annotations

import importlib

import pytest

from ptycho_core.io import RawScan
from ptycho_core.io.raw_scan import FoundPositions, RequestedKeys


@pytest.mark.parametrize(
    "module", ["ptycho_core.io.raw_scan", "ptycho_core.io.offered", "ptycho_core.io.found"]
)
@pytest.mark.parametrize(
    ("old", "new"), [("Arrays", RawScan), ("Keys", RequestedKeys), ("Found", FoundPositions)]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_renamed_class_is_found_under_its_old_name(module: str, old: str, new: type) -> None:
    where = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=rf"raw_scan.{old}` moved .* use `.*raw_scan.{new.__name__}`"):
        assert getattr(where, old) is new


def test_a_name_that_never_was_is_an_error() -> None:
    where = importlib.import_module("ptycho_core.io.raw_scan")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = where.nothing
