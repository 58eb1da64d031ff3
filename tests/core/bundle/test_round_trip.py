"""What is written is what is read, in equal bytes, from a zip, its directory, or unpacked."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.bundle import (
    BUNDLE_FILE,
    Bundle,
    ProbeMask,
    Scaling,
    read_bundle,
    trained_by,
    write_bundle,
)

Members = dict[str, bytes]

positive = st.floats(1e-300, 1e300)
words = st.from_regex(r"[a-z][a-z0-9_.\-]{0,20}", fullmatch=True)
parameter_names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.\-]{0,40}", fullmatch=True)
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
configurations = st.dictionaries(st.text(), json_values, max_size=4).filter(lambda c: "architecture" not in c)
column_names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
cells = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.booleans() | words.map("w-{}".format)


@st.composite
def tensors(draw: st.DrawFn) -> np.ndarray:
    shape = draw(shapes)
    seed = draw(st.integers(0, 2**32 - 1))
    return np.asarray(np.random.default_rng(seed).normal(size=shape), np.float32)


@st.composite
def probes(draw: st.DrawFn) -> np.ndarray:
    modes, n = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (rng.normal(size=(modes, n, n)) + 1j * rng.normal(size=(modes, n, n))).astype(np.complex64)


scalings = st.builds(
    Scaling,
    gauge=st.sampled_from(["legacy", "power"]),
    probe_scale=positive,
    intensity_scale=positive,
    alpha=positive,
    nphotons=positive,
    mean_counts=positive,
    mask=st.none() | st.builds(ProbeMask, sigma_px=st.floats(0, 99), diameter_px=st.none() | positive),
    patch_weighting=words,
    anchor=words,
    pixel_convention=words,
)
#: What a `Bundle` is made of; made outside of the strategy, since checking its types draws random numbers.
contents = st.fixed_dictionaries(
    {
        "architecture": words,
        "model": configurations,
        "training": configurations,
        "weights": st.dictionaries(parameter_names, tensors(), max_size=5),
        "scaling": scalings,
        "probe": probes(),
        "probe_given": probes(),
        "history": st.lists(st.dictionaries(column_names, cells, max_size=4), max_size=4).map(tuple),
        "provenance": st.builds(lambda rest, name: {**rest, "backend": name}, configurations, words),
    }
)


def assert_equal(found: Bundle, expected: Bundle) -> None:
    for name in ("architecture", "model", "training", "scaling", "provenance", "backend"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.weights.keys() == expected.weights.keys()
    arrays = [(found.weights[name], expected.weights[name]) for name in expected.weights]
    arrays += [(found.probe, expected.probe), (found.probe_given, expected.probe_given)]
    for one, other in arrays:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.array_equal(one, other)
        assert one.flags.writeable
    assert found.history == expected.history


@given(content=contents)
def test_what_is_written_is_read(content: dict[str, Any]) -> None:
    bundle = Bundle(**content)
    with tempfile.TemporaryDirectory() as directory:
        assert_equal(read_bundle(write_bundle(directory, bundle)), bundle)
        assert trained_by(directory) == bundle.backend


def test_equal_bundles_have_equal_bytes_whatever_their_order(bundle: Bundle, tmp_path: Path) -> None:
    other = replace(
        bundle,
        model=dict(reversed(bundle.model.items())),
        weights=dict(reversed(bundle.weights.items())),
        probe=np.asfortranarray(bundle.probe),
        scaling=replace(bundle.scaling, probe_scale=4),
    )
    first, second = write_bundle(tmp_path / "a", bundle), write_bundle(tmp_path / "b", other)
    assert first.read_bytes() == second.read_bytes()


def test_the_members_are_those_of_the_contract(bundle: Bundle, tmp_path: Path) -> None:
    path = write_bundle(tmp_path, bundle)
    assert path == tmp_path / "wts.h5.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [
            "manifest.json",
            "autoencoder/weights.safetensors",
            "probe.npz",
            "history.csv",
        ]
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["version"] == "1.0"
    assert manifest["backend"] == "pytorch"
    assert list(manifest["models"]) == ["autoencoder", "diffraction_to_obj"]
    assert manifest["models"]["autoencoder"]["parameters"]["log_scale"] == {"dtype": "float32", "shape": []}


def test_foreign_tools_can_read_the_parts(good: Members, bundle: Bundle, tmp_path: Path) -> None:
    from safetensors.numpy import load

    weights = load(good["autoencoder/weights.safetensors"])
    assert np.array_equal(weights["encoder.0.conv1.weight"], bundle.weights["encoder.0.conv1.weight"])
    (tmp_path / "probe.npz").write_bytes(good["probe.npz"])
    with np.load(tmp_path / "probe.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["probe"], bundle.probe)
    assert good["history.csv"].decode() == "epoch,loss,val_loss\r\n1,0.30000000000000004,\r\n2,0.25,1e-09\r\n"


def test_the_file_its_directory_and_its_unpacked_content_are_read_alike(
    bundle: Bundle, good: Members, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    path = write_bundle(run, bundle)
    (run / "amplitude.png").write_bytes(b"a picture beside it")
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)
    (unpacked / ".DS_Store").write_bytes(b"what file managers leave")
    for place in (path, str(path), run, unpacked):
        assert_equal(read_bundle(place), bundle)


def test_a_bundle_zipped_again_by_other_tools_is_read(
    bundle: Bundle, good: Members, zipped: Callable[..., Path]
) -> None:
    assert_equal(read_bundle(zipped(dict(reversed(good.items())), zipfile.ZIP_DEFLATED)), bundle)


def test_the_second_model_may_have_its_own_weights(
    bundle: Bundle, resealed: Callable[..., Members], zipped: Callable[..., Path]
) -> None:
    path = zipped(with_second_weights(resealed, lambda content: content))
    assert_equal(read_bundle(path), bundle)


def with_second_weights(resealed: Callable[..., Members], change: Callable[[bytes], bytes]) -> Members:
    from ptycho_core.bundle.manifest import Entry, seal

    members = resealed()
    manifest: dict[str, Any] = json.loads(members["manifest.json"])
    name = "diffraction_to_obj/weights.safetensors"
    members[name] = change(members["autoencoder/weights.safetensors"])
    parameters = manifest["models"]["autoencoder"]["parameters"]
    manifest["models"]["diffraction_to_obj"] = {"weights": name, "parameters": parameters}
    entry = Entry.of(members[name])
    manifest["members"][name] = {"size": entry.size, "sha256": entry.sha256}
    return {**members, "manifest.json": seal(manifest)}


def test_a_later_minor_version_may_add_fields(
    bundle: Bundle, resealed: Callable[..., Members], zipped: Callable[..., Path]
) -> None:
    def later(manifest: dict[str, Any]) -> None:
        manifest.update(version="1.7", colour="blue")
        manifest["scaling"]["temperature"] = 300

    assert_equal(read_bundle(zipped(resealed(later))), bundle)


@pytest.mark.parametrize("name", ["net.zip", "run", "deep/er/run"])
def test_a_zip_is_a_file_and_all_else_a_directory(bundle: Bundle, tmp_path: Path, name: str) -> None:
    path = write_bundle(tmp_path / name, bundle)
    assert path == (tmp_path / name if name.endswith(".zip") else tmp_path / name / BUNDLE_FILE)
    assert read_bundle(tmp_path / name).architecture == "unet"
