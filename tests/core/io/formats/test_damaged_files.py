"""Every reader against damage: one clear line, no traceback, nothing written, bounded memory."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ptycho_config.errors import DataError
from ptycho_core import open_scan

#: How often each file is damaged; the slow tests do it more often.
PLACES = pytest.mark.parametrize("places", [32, pytest.param(200, marks=pytest.mark.slow)])


@pytest.fixture
def victim(written: Any) -> Path:
    """The file that is damaged: the scan's, or one of its directory."""
    return written.path if written.path.is_file() else sorted(written.path.iterdir())[3]


@pytest.fixture(autouse=True)
def only_errors_count() -> Iterator[None]:
    """What a damaged file warns of is not the point here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _opens(written: Any) -> bool:
    """Open and read all; False where it is refused as it should be."""
    try:
        open_scan(written.path, **written.options).counts()
    except DataError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 900
        return False
    return True


@PLACES
def test_a_truncated_file_is_refused(written: Any, victim: Path, places: int) -> None:
    content = victim.read_bytes()
    before = sorted(victim.parent.iterdir())
    for place in range(places):
        victim.write_bytes(content[: len(content) * place // places])
        assert not _opens(written), place
    assert sorted(victim.parent.iterdir()) == before


@PLACES
def test_overwritten_bytes_do_no_harm(written: Any, victim: Path, places: int) -> None:
    content = victim.read_bytes()
    before = sorted(victim.parent.iterdir())
    rng = random.Random(5)
    for _ in range(places):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 4))):
            # Half of them in the first bytes, where headers and trees are.
            place = rng.randrange(len(damaged) if rng.random() < 0.5 else min(4000, len(damaged)))
            damaged[place] = rng.randrange(256)
        victim.write_bytes(damaged)
        _opens(written)
    assert sorted(victim.parent.iterdir()) == before


def test_the_undamaged_file_opens(written: Any) -> None:
    assert _opens(written)
