"""A bundle is written whole or not at all, and never one that could not be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config.errors import BundleError, OutputError
from ptycho_core.bundle import Bundle, ProbeMask, read_bundle, write, write_bundle


def test_a_failing_write_leaves_the_earlier_bundle(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_bundle(tmp_path, bundle)
    before = path.read_bytes()

    def full_disk(file: Any, members: Any) -> None:
        file.write(b"PK half a bundle")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "pack", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_bundle(tmp_path, replace(bundle, architecture="cnn", model={}))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["wts.h5.zip"]


def test_a_refused_bundle_leaves_the_earlier_one(bundle: Bundle, tmp_path: Path) -> None:
    path = write_bundle(tmp_path, bundle)
    with pytest.raises(BundleError, match="training diverged"):
        write_bundle(tmp_path, replace(bundle, weights={"a": np.array([np.nan], np.float32)}))
    assert read_bundle(path).backend == "pytorch"


def test_a_place_that_is_no_directory_is_named(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    with pytest.raises(OutputError, match="plain"):
        write_bundle(tmp_path / "plain" / "run", bundle)


Change = Callable[[Bundle], Bundle]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: replace(b, weights={"": np.zeros(1, np.float32)}), "a parameter is called ``"),
        (lambda b: replace(b, weights={"__metadata__": np.zeros(1, np.float32)}), "called `__metadata__`"),
        (lambda b: replace(b, probe=b.probe * np.complex64(np.inf)), "`probe` holds NaN or infinity"),
        (lambda b: replace(b, probe=b.probe[:0]), r"complex64 \(0, 8, 8\). Expected complex64 of shape"),
        (lambda b: replace(b, model={"rate": np.float32(1)}), "model_dump"),
        (lambda b: replace(b, model={"rate": float("nan")}), "configuration cannot be written"),
        (lambda b: replace(b, training={"rate": object()}), "configuration cannot be written"),
        (lambda b: replace(b, model={"architecture": "cnn"}), '`configuration.model.architecture` is "cnn"'),
        (lambda b: replace(b, architecture="U net"), '`architecture` is "U net"'),
        (lambda b: replace(b, provenance={}), "`backend` is null"),
        (lambda b: replace(b, history=({"loss": [1]},)), "the history cannot be written"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in multiply")
def test_what_could_not_be_read_is_not_written(
    bundle: Bundle, tmp_path: Path, change: Change, message: str
) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        write_bundle(tmp_path / "run", change(bundle))
    assert caught.value.finding == "BUNDLE-001"
    assert not (tmp_path / "run").exists()


def test_weights_of_another_type_are_refused_outside_of_checked_calls(tmp_path: Path) -> None:
    from ptycho_core.bundle.probes import encode_probes
    from ptycho_core.bundle.weights import encode_weights

    with pytest.raises(BundleError, match=r"`a` is float64. Expected float32. Convert it"):
        encode_weights("here", {"a": np.zeros(2)})
    with pytest.raises(BundleError, match=r"`probe` is complex128 \(2, 2\)"):
        encode_probes("here", {"probe": np.zeros((2, 2), complex)})


@pytest.mark.parametrize("name", ["alpha", "nphotons", "intensity_scale", "mean_counts", "probe_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_factor_is_finite_and_above_0(bundle: Bundle, name: str, value: float) -> None:
    with pytest.raises(BundleError, match=f"`Scaling.{name}` is .* Expected a finite number above 0"):
        replace(bundle.scaling, **{name: value})


def test_a_mask_has_no_negative_width() -> None:
    assert ProbeMask(sigma_px=0).diameter_px is None
    with pytest.raises(BundleError, match=r"ProbeMask.sigma_px` is -1"):
        ProbeMask(sigma_px=-1.0)
    with pytest.raises(BundleError, match=r"ProbeMask.diameter_px"):
        ProbeMask(sigma_px=1.0, diameter_px=0)
