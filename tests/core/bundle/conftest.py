"""A small honest bundle, and what tests need to spoil one thing of it at a time."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import EXIT_DATA, BundleError, exit_code
from ptycho_core.bundle import Bundle, ProbeMask, Scaling, read_bundle, write_bundle
from ptycho_core.bundle.manifest import Entry, seal

Members = dict[str, bytes]


def _small_bundle() -> Bundle:
    rng = np.random.default_rng(5)
    probe = (rng.normal(size=(2, 8, 8)) + 1j * rng.normal(size=(2, 8, 8))).astype(np.complex64)
    return Bundle(
        architecture="unet",
        model={"architecture": "unet", "N": 64, "probe_mask_diameter": None, "object_big": True},
        training={"nepochs": 2, "train_data_file": "scan.npz"},
        weights={
            "encoder.0.conv1.weight": rng.normal(size=(4, 1, 3, 3)).astype(np.float32),
            "encoder.0.conv1.bias": np.zeros(4, np.float32),
            "log_scale": np.array(1.5, np.float32),
        },
        scaling=Scaling(
            gauge="power",
            probe_scale=4.0,
            intensity_scale=31.25,
            alpha=1 / 3,
            nphotons=1e6,
            mean_counts=987654.25,
            mask=ProbeMask(sigma_px=1.0),
            patch_weighting="probe",
            anchor="first",
            pixel_convention="index",
        ),
        probe=probe,
        probe_given=(2 * probe[:1]).astype(np.complex64),
        history=({"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 0.25, "val_loss": 1e-9}),
        provenance={"backend": "pytorch", "versions": {"torch": "2.13.0"}, "seed": 7},
    )


@pytest.fixture
def bundle() -> Bundle:
    return _small_bundle()


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
