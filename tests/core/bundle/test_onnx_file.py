"""The ONNX file of an exported network: read back as it was written, and refused in words where it is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.errors import BundleError, BundleNotFoundError, exit_code
from ptycho_core.bundle import encode_onnx, read_onnx

FIXTURE = Path(__file__).parents[2] / "fixtures" / "small_bundle.py"
_spec = importlib.util.spec_from_file_location("small_bundle", FIXTURE)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
BUNDLE = _module.small_bundle()
#: ir_version 10, a graph of three bytes, an entry of another program's metadata.
GRAPH = b"\x08\x0a" + b"\x3a\x03abc" + b"\x72\x06\x0a\x01k\x12\x01v"
SHA = "0" * 64


def content(graph: bytes = GRAPH) -> bytes:
    known = {"output_scale": 2.5, "back_projection_std": 0.5, "n_parameters": 7, "bundle_sha256": SHA}
    return encode_onnx("here", graph, BUNDLE, **known)


WHOLE = content()


def written(folder: Path, some: bytes) -> Path:
    path = folder / "network.onnx"
    path.write_bytes(some)
    return path


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    read = read_onnx(written(tmp_path, WHOLE))
    assert read.content == WHOLE
    assert WHOLE.startswith(GRAPH)
    assert (read.output_scale, read.back_projection_std, read.n_parameters) == (2.5, 0.5, 7)
    assert read.bundle_sha256 == SHA
    assert read.bundle.scaling == BUNDLE.scaling
    assert (read.bundle.model, read.bundle.training) == (BUNDLE.model, BUNDLE.training)
    assert read.bundle.backend == "pytorch"
    np.testing.assert_array_equal(read.bundle.probe, BUNDLE.probe)
    np.testing.assert_array_equal(read.bundle.probe_given, BUNDLE.probe_given)


@given(end=st.integers(0, len(WHOLE) - 1))
def test_a_file_that_was_cut_is_refused(end: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(BundleError, match="ptycho export") as refused:
        read_onnx(written(tmp_path_factory.mktemp("cut"), WHOLE[:end]))
    assert exit_code(refused.value) == 3


@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_a_file_that_was_changed_is_refused(
    at: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    changed = bytearray(WHOLE)
    changed[at] ^= 1 << bit
    with pytest.raises(BundleError):
        read_onnx(written(tmp_path_factory.mktemp("changed"), bytes(changed)))


@pytest.mark.parametrize(
    ("some", "said"),
    [
        (GRAPH, "without `ptycho.manifest` in its metadata"),
        (b"", "0 graphs"),
        (b"PK\x03\x04 a zip", "no ONNX file"),
        (WHOLE + GRAPH, "something was added behind it"),
        (WHOLE + b"\x08\x01", "something was added behind it"),
        (WHOLE + WHOLE[len(GRAPH) :], "something was added behind it"),
        (content(GRAPH + b"\x3a\x00"), "2 graphs"),
    ],
)
def test_what_is_none_of_ours_is_refused(some: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=said):
        read_onnx(written(tmp_path, some))


def test_a_newer_version_names_who_reads_it(tmp_path: Path) -> None:
    newer = WHOLE.replace(b'"version": "1.0"', b'"version": "2.0"')
    assert newer != WHOLE
    with pytest.raises(BundleError, match=r"version 2\.0.*pip install --upgrade"):
        read_onnx(written(tmp_path, newer))


def test_a_file_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="ptycho export"):
        read_onnx(tmp_path / "nothing.onnx")
    with pytest.raises(BundleError, match="a directory"):
        read_onnx(tmp_path)
