"""Members whose checksums are right and whose content is not: refused by what they say."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from ptycho_core.bundle.manifest import Entry, seal

Members = dict[str, bytes]
Zipped = Callable[..., Path]
Refusal = Callable[..., str]
Resealed = Callable[..., Members]
WEIGHTS = "autoencoder/weights.safetensors"


# The manifest


@pytest.mark.finding("BUNDLE-001")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[]", "holds list. Expected a JSON object"),
        (b'{"format": 1, "format": 2}', "a key is there twice"),
        (b'{"format": NaN}', "NaN is no number of JSON"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"n": ' + b"9" * 5000 + b"}", "cannot be read"),
        (b'{"format": "other", "backend": "jax"}', 'of kind "other" and backend "jax"'),
        (b"{}", "of kind null and backend null"),
        (
            b'{"format": "ptycho-bundle", "version": "one"}',
            '`version` is "one". Expected a version such as 1.0',
        ),
        (b'{"format": "ptycho-bundle", "version": "1.0"}', "`sha256` is missing"),
        (
            b'{"format": "ptycho-bundle", "version": "1.0", "x": 1e999, "sha256": "%064d"}' % 0,
            "finite numbers",
        ),
    ],
)
def test_a_manifest_that_is_none_is_refused(
    good: Members, zipped: Zipped, refusal: Refusal, content: bytes, message: str
) -> None:
    assert message in refusal(zipped({**good, "manifest.json": content}))


def test_a_newer_version_says_what_can_read_it(resealed: Resealed, zipped: Zipped, refusal: Refusal) -> None:
    members = resealed(lambda m: m.update(version="2.3", written_by="ptycho-core 4.1.0", members={}))
    message = refusal(zipped({**members, "something/new.bin": b""}))
    assert (
        "bundle version 2.3, written by ptycho-core 4.1.0, which can read it. Expected version 1.x" in message
    )
    assert "`pip install --upgrade 'ptycho-core>=4.1.0'`" in message


def test_advice_is_not_taken_from_the_file(resealed: Resealed, zipped: Zipped, refusal: Refusal) -> None:
    members = resealed(lambda m: m.update(version="2.0", written_by="ptycho-core 1; rm -rf ~"))
    message = refusal(zipped(members))
    assert "rm -rf" not in message
    assert "`pip install --upgrade ptycho-core`" in message


def put(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Set a field of the manifest; the value `...` removes it."""

    def change(manifest: dict[str, Any]) -> None:
        *above, name = path
        for key in above:
            manifest = manifest[key]
        if value is ...:
            del manifest[name]
        else:
            manifest[name] = value

    return change


SHAPE = ("models", "autoencoder", "parameters", "log_scale", "shape")
DTYPE = ("models", "autoencoder", "parameters", "log_scale", "dtype")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("architecture",), ..., "`architecture` is missing"),
        (("architecture",), "cnn", '`configuration.model.architecture` is "unet". Expected "cnn"'),
        (("backend",), "py torch", '`backend` is "py torch"'),
        (("configuration",), 3, "`configuration` is 3. Expected a JSON object"),
        (("configuration", "training"), [], "`configuration.training` is a list"),
        (("provenance",), ..., "`provenance` is missing"),
        (("scaling", "gauge"), "metric", '`scaling.gauge` is "metric". Expected "legacy" or "power"'),
        (("scaling", "alpha"), 0, "`scaling.alpha` is 0. Expected a finite number above 0"),
        (("scaling", "alpha"), "1", '`scaling.alpha` is "1"'),
        (("scaling", "alpha"), True, "`scaling.alpha` is true"),
        (("scaling", "nphotons"), 10**400, "`scaling.nphotons` is 1000"),
        (("scaling", "anchor"), ..., "`scaling.anchor` is missing"),
        (("scaling", "mask"), {"sigma_px": -1}, "`scaling.mask.sigma_px` is -1"),
        (("models", "diffraction_to_obj"), ..., "`models.diffraction_to_obj` is missing"),
        (("models", "diffraction_to_obj"), {"same_weights_as": "me"}, 'same_weights_as` is "me"'),
        (("models", "diffraction_to_obj"), {"weights": "x"}, '`models.diffraction_to_obj.weights` is "x"'),
        (("models", "autoencoder", "weights"), "../x", '`models.autoencoder.weights` is "../x"'),
        (("models", "autoencoder", "parameters", "a b"), {}, "names of letters"),
        (SHAPE, [-1], "log_scale.shape` is a list. Expected the list of an array's sizes"),
        (SHAPE, [1.0], "the list of an array's sizes"),
        (SHAPE, [1] * 17, "the list of an array's sizes"),
        (SHAPE, [1 << 40], "claim 4398046511"),
        (DTYPE, "int8", '`models.autoencoder.parameters.log_scale.dtype` is "int8"'),
        (("probes", "probe", "shape"), [8, 8], "Expected [P, N, N]"),
        (("probes", "probe", "dtype"), "object", '`probes.probe.dtype` is "object"'),
        (("members", "probe.npz"), ..., "differ by probe.npz"),
        (("members", "extra.bin"), {}, "differ by extra.bin"),
        (("members", "probe.npz", "size"), -1, "Expected a whole number"),
        (("members", "probe.npz", "size"), 1, "`probe.npz` has"),
        (("members", "probe.npz", "sha256"), "0" * 64, "`probe.npz` is damaged, its sha256 is"),
        (("members", "probe.npz", "sha256"), "0", "64 hexadecimal digits"),
    ],
)
def test_a_wrong_field_is_named(
    resealed: Resealed, zipped: Zipped, refusal: Refusal, path: tuple[str, ...], value: object, message: str
) -> None:
    assert message in refusal(zipped(resealed(put(*path, value=value))))


# Weights


def weights_of(good: Members, **changes: np.ndarray) -> bytes:
    return save({**load(good[WEIGHTS]), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_scale": np.array(np.nan, np.float32)}, "`log_scale` holds NaN or infinity"),
        ({"log_scale": np.array(np.inf, np.float32)}, "`log_scale` holds NaN or infinity"),
        ({"log_scale": np.array(-1e30, np.float32)}, "`log_scale` holds values of 1e+15 or more"),
        ({"log_scale": np.array([1.5], np.float32)}, "`log_scale` has shape (1,). Expected ()"),
        ({"log_scale": np.array(1.5)}, "`log_scale` is F64"),
        ({"another": np.zeros(1, np.float32)}, "`another` is not in the manifest"),
    ],
)
def test_weights_that_differ_from_the_manifest_are_refused(
    good: Members,
    resealed: Resealed,
    zipped: Zipped,
    refusal: Refusal,
    changes: dict[str, np.ndarray],
    message: str,
) -> None:
    assert message in refusal(zipped(resealed(autoencoder=weights_of(good, **changes))))


def test_a_missing_parameter_is_named(
    good: Members, resealed: Resealed, zipped: Zipped, refusal: Refusal
) -> None:
    fewer = load(good[WEIGHTS])
    del fewer["log_scale"]
    fewer["encoder.0.conv1.bias"] = np.zeros(400, np.float32)
    assert "`log_scale` is only in the manifest" in refusal(zipped(resealed(autoencoder=save(fewer))))


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"not json",
        b'{"a": {"dtype": "F32", "shape": [9007199254740993, 9007199254740993], "data_offsets": [0, 400]}}',
        b'{"a": {"dtype": "F32", "shape": [100], "data_offsets": [4, 404]}}',
        b'{"a": {"dtype": "F32", "shape": [100], "data_offsets": [400, 0]}}',
    ],
)
@pytest.mark.parametrize("claimed", [None, 1 << 62])
def test_damaged_safetensors_are_refused(
    resealed: Resealed, zipped: Zipped, refusal: Refusal, header: bytes, claimed: int | None
) -> None:
    content = struct.pack("<Q", claimed or len(header)) + header + bytes(400)
    assert f"`{WEIGHTS}` cannot be read" in refusal(zipped(resealed(autoencoder=content)))


def test_two_models_that_disagree_are_refused(
    good: Members, resealed: Resealed, zipped: Zipped, refusal: Refusal
) -> None:
    name = "diffraction_to_obj/weights.safetensors"
    members = resealed()
    members[name] = weights_of(good, log_scale=np.array(2, np.float32))
    manifest = json.loads(members["manifest.json"])
    own = {"weights": name, "parameters": manifest["models"]["autoencoder"]["parameters"]}
    manifest["models"]["diffraction_to_obj"] = own
    entry = Entry.of(members[name])
    manifest["members"][name] = {"size": entry.size, "sha256": entry.sha256}
    members["manifest.json"] = seal(manifest)
    assert "disagree about the parameter `log_scale`" in refusal(zipped(members))


# The probe


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


PROBE = np.ones((2, 8, 8), np.complex64)


@pytest.mark.finding("BUNDLE-001")
def test_object_arrays_in_the_probe_are_refused(resealed: Resealed, zipped: Zipped, refusal: Refusal) -> None:
    content = npz(probe=np.array([{"a": 1}, None], dtype=object), probe_given=PROBE[:1])
    assert "`probe` holds pickled Python objects, which are never loaded" in refusal(
        zipped(resealed(probe=content))
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated or damaged"),
        (npz(probe=PROBE), "probe.npz holds `probe.npy`. Expected probe and probe_given"),
        (npz(probe=PROBE, probe_given=PROBE[:1], more=PROBE), "`more.npy`"),
        (
            npz(probe=PROBE[:1], probe_given=PROBE[:1]),
            "`probe` is complex64 (1, 8, 8). Expected complex64 (2, 8, 8)",
        ),
        (npz(probe=PROBE.real, probe_given=PROBE[:1]), "`probe` is float32 (2, 8, 8)"),
        (npz(probe=PROBE.astype(">c8"), probe_given=PROBE[:1]), "`probe` is >c8"),
        (
            npz(probe=PROBE * np.complex64(complex(np.nan)), probe_given=PROBE[:1]),
            "`probe` holds NaN or infinity",
        ),
        (
            npz(probe=np.ones((2, 200, 200), np.complex64), probe_given=PROBE[:1]),
            "`probe` claims 640128 bytes",
        ),
    ],
)
def test_a_wrong_probe_is_refused(
    resealed: Resealed, zipped: Zipped, refusal: Refusal, content: bytes, message: str
) -> None:
    assert message in refusal(zipped(resealed(probe=content)))


def test_a_probe_that_is_no_array_is_refused(resealed: Resealed, zipped: Zipped, refusal: Refusal) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("probe.npy", b"\x93NUMPY\x01\x00")
        archive.writestr("probe_given.npy", b"")
    assert "probe.npz: `probe` cannot be read" in refusal(zipped(resealed(probe=buffer.getvalue())))


# The history


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"loss,loss\n1,2\n", "has a column twice"),
        (b"epoch,loss\n1,2\n3\n", "has 1 cells in row 3. Expected 2"),
        (b'epoch\n"open', "cannot be read"),
        (b"epoch\n" + b"1" * 200_000, "cannot be read"),
    ],
)
def test_a_wrong_history_is_refused(
    resealed: Resealed, zipped: Zipped, refusal: Refusal, content: bytes, message: str
) -> None:
    assert message in refusal(zipped(resealed(history=content)))
