"""A small honest bundle, and what tests need to spoil one thing of it at a time."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptycho_config.errors import EXIT_DATA, BundleError, exit_code
from ptycho_core.bundle import Bundle, read_bundle, write_bundle
from ptycho_core.bundle.manifest import Entry, seal

Members = dict[str, bytes]
# The faults that are put in on purpose spoil the same one.
FILE = Path(__file__).parents[2] / "fixtures" / "small_bundle.py"
_spec = importlib.util.spec_from_file_location("small_bundle", FILE)
assert _spec is not None
assert _spec.loader is not None
_small: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_small)


@pytest.fixture
def bundle() -> Bundle:
    return _small.small_bundle()


@pytest.fixture
def good(bundle: Bundle, tmp_path: Path) -> Members:
    """The members of a good bundle."""
    path = write_bundle(tmp_path / "good.zip", bundle)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    """Zip members just as they are."""

    def make(members: Members, compression: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / "wts.h5.zip"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return make


@pytest.fixture
def resealed(good: Members) -> Callable[..., Members]:
    """Change members and manifest as somebody would who knows the format: all checksums are right again."""

    def make(change: Callable[[dict[str, Any]], object] = lambda _: None, **contents: bytes) -> Members:
        members = {name: contents.get(name.split("/")[0].split(".")[0], old) for name, old in good.items()}
        manifest = json.loads(members["manifest.json"])
        for name in manifest["members"]:
            entry = Entry.of(members[name])
            manifest["members"][name] = {"size": entry.size, "sha256": entry.sha256}
        change(manifest)
        return {**members, "manifest.json": seal(manifest)}

    return make


@pytest.fixture
def refusal() -> Callable[[Path], str]:
    """Read what must be refused; return the message after checking its form."""

    def read(path: Path, *, finding: str | None = "BUNDLE-001") -> str:
        with pytest.raises(BundleError) as caught:
            read_bundle(path)
        message = str(caught.value)
        assert caught.value.finding == finding
        assert exit_code(caught.value) == EXIT_DATA
        assert "Expected" in message
        assert "\n" not in message
        assert len(message) < 700
        return message

    return read
