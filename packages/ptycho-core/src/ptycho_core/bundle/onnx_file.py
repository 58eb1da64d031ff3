"""A network as one ONNX file: the graph that runtimes take, and what is needed to image scans with it.

An ONNX file is a message of protobuf: fields one after the other, each a number, a kind and its bytes. Ours
ends with two entries of `metadata_props`: `ptycho.manifest`, JSON with its own sha256, as in a bundle, and
`ptycho.probes`, the `probe.npz` of a bundle in base64. All before them is the graph, of which the manifest
holds size and sha256. Only the outermost fields are read here, so that reading needs no package; what is in
the graph is the runtime's to read.

Source: onnx.proto of the ONNX specification, `ModelProto`; the encoding of protobuf, "Message structure".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ptycho_config.errors import BundleError, BundleNotFoundError
from ptycho_config.plaintext import excerpt
from ptycho_config.regular import open_regular
from ptycho_core.bundle.checked import parse_json
from ptycho_core.bundle.contents import Bundle
from ptycho_core.bundle.manifest import (
    Entry,
    check_digest,
    check_version,
    declared,
    probe_shapes,
    scaling_of,
    sealed,
)
from ptycho_core.bundle.members import PROBE, check_sizes
from ptycho_core.bundle.probes import decode_probes, encode_probes
from ptycho_core.bundle.refusal import EXPORT_AGAIN, refused
from ptycho_core.files import expanded
from ptycho_core.given import expect_path

__all__ = ["ONNX_FILE", "OnnxModel", "encode_onnx", "read_onnx"]

ONNX_FILE = "network.onnx"
"""Name of an exported network in the directory of its training."""

_FORMAT, _VERSION = "ptycho-onnx", "1.0"
_MANIFEST, _PROBES = "ptycho.manifest", "ptycho.probes"
_DIGEST = r"[0-9a-f]{64}"
#: Fields of a ModelProto: the graph, and the entries of its metadata, each with a key and a value.
_GRAPH, _METADATA, _KEY, _VALUE = 7, 14, 1, 2
_HIGHEST_FIELD = 99
#: Kinds of a field: a whole number, and so many bytes.
_NUMBER, _BYTES = 0, 2


@dataclass(frozen=True, eq=False, kw_only=True)
class OnnxModel:
    """An exported network.

    Attributes:
        content: the whole file, as a runtime takes it.
        bundle: what the bundle held besides its weights, which are in the graph.
        output_scale: exp(log_scale) as trained, root of counts per unit amplitude.
        back_projection_std: divisor of the back-projection that the network sees.
        n_parameters: number of trained numbers.
        bundle_sha256: of the bundle file that was exported, None where it was none.
    """

    content: bytes
    bundle: Bundle
    output_scale: float
    back_projection_std: float
    n_parameters: int
    bundle_sha256: str | None


def encode_onnx(
    source: str,
    graph: bytes,
    bundle: Bundle,
    *,
    output_scale: float,
    back_projection_std: float,
    n_parameters: int,
    bundle_sha256: str | None,
) -> bytes:
    """Put what is needed besides the graph behind it; see `OnnxModel`.

    Args:
        source: how messages call the file.
        graph: a serialized ModelProto.
    Raises:
        BundleError: a probe is no stack of finite complex64, or the configuration is not of JSON.
    """
    packed = encode_probes(source, {"probe": bundle.probe, "probe_given": bundle.probe_given})
    fields = {
        **declared(bundle, _FORMAT, _VERSION),
        "output_scale": output_scale,
        "back_projection_std": back_projection_std,
        "n_parameters": n_parameters,
        "members": {"graph": asdict(Entry.of(graph)), PROBE: asdict(Entry.of(packed))},
    }
    if bundle_sha256 is not None:
        fields["bundle_sha256"] = bundle_sha256
    manifest = sealed(source, fields)
    return graph + _entry(_MANIFEST, manifest) + _entry(_PROBES, base64.b64encode(packed))


def read_onnx(path: str | Path) -> OnnxModel:
    """Read a network that was exported; nothing of it is believed before it is checked.

    Raises:
        BundleError: nothing is there, it is not one of ours, newer, damaged or too large. One line says what
            was found, what was expected and what to type next.
    """
    expect_path(path, "read_onnx", "a network that `ptycho export` wrote")
    path = expanded(path)
    content = _content(path)
    graph, metadata = _parts(str(path), content)
    missing = [name for name in (_MANIFEST, _PROBES) if name not in metadata]
    if missing:
        raise refused(
            str(path),
            f"an ONNX file without `{missing[0]}` in its metadata",
            "one that `ptycho export` wrote",
            EXPORT_AGAIN,
        )
    return _checked(str(path), content, graph, metadata)


def _checked(source: str, content: bytes, graph: bytes, metadata: Mapping[str, bytes]) -> OnnxModel:
    """Compare what is there with what the manifest declares, field by field."""
    fields = parse_json(source, metadata[_MANIFEST], _MANIFEST)
    check_version(fields, _FORMAT, _VERSION)
    check_digest(fields)
    try:
        packed = base64.b64decode(metadata[_PROBES], validate=True)
        if base64.b64encode(packed) != metadata[_PROBES]:
            raise binascii.Error("its last bits")
    except binascii.Error as error:
        raise refused(source, f"`{_PROBES}` cannot be read ({error})", "base64", EXPORT_AGAIN) from error
    members = fields.below("members")
    for name, found in (("graph", graph), (PROBE, packed)):
        declared = members.below(name)
        size, sha256 = declared.whole("size"), declared.text("sha256", _DIGEST, "64 hexadecimal digits")
        if (size, sha256) != (len(found), Entry.of(found).sha256):
            differs = f"its {name} is damaged ({len(found)} bytes, sha256 {Entry.of(found).sha256[:12]}…)"
            raise refused(source, differs, f"{size} bytes, sha256 {sha256[:12]}…, as it says", EXPORT_AGAIN)
    probes = decode_probes(source, packed, probe_shapes(fields.below("probes")))
    configuration, backend = fields.below("configuration"), fields.text("backend")
    known = "bundle_sha256" in fields.values
    return OnnxModel(
        content=content,
        bundle=Bundle(
            architecture=fields.text("architecture"),
            model=configuration.object("model"),
            training=configuration.object("training"),
            weights={},
            scaling=scaling_of(fields.below("scaling")),
            probe=probes["probe"],
            probe_given=probes["probe_given"],
            history=(),
            provenance={**fields.object("provenance"), "backend": backend},
        ),
        output_scale=fields.number("output_scale"),
        back_projection_std=fields.number("back_projection_std"),
        n_parameters=fields.whole("n_parameters"),
        bundle_sha256=fields.text("bundle_sha256", _DIGEST, "64 hexadecimal digits") if known else None,
    )


def _content(path: Path) -> bytes:
    """Read the file whole, after a look at its size."""
    source = str(path)
    try:
        with open_regular(path) as file:
            check_sizes(source, {path.name: path.stat().st_size})
            return file.read()
    except FileNotFoundError as error:
        raise BundleNotFoundError(
            f"{excerpt(source)}: no such file. Expected a network that `ptycho export` wrote. {EXPORT_AGAIN}"
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        cause = getattr(error, "strerror", None) or str(error)
        raise refused(source, f"cannot be read ({cause})", "a readable ONNX file", EXPORT_AGAIN) from error


def _parts(source: str, content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Divide a ModelProto into the graph and our entries, which are the last of it.

    Returns:
        All that lies before our entries, and the values of these.
    """
    ours: dict[str, bytes] = {}
    end, graphs = len(content), 0
    try:
        for start, number, value in _fields(content):
            graphs += number == _GRAPH
            name = _named(value) if number == _METADATA else ""
            if name in ours or (ours and name not in (_MANIFEST, _PROBES)):
                raise ValueError("something was added behind it")
            if name in (_MANIFEST, _PROBES):
                end = min(end, start)
                ours[name] = dict(_numbered(value))[_VALUE]
        if graphs != 1:
            raise ValueError(f"{graphs} graphs")
    except (ValueError, KeyError, IndexError) as error:
        found = f"no ONNX file, or a part of one ({error})"
        raise refused(source, found, "a complete network that `ptycho export` wrote", EXPORT_AGAIN) from error
    return content[:end], ours


def _named(entry: bytes) -> str:
    """Give the key of an entry of the metadata."""
    return dict(_numbered(entry)).get(_KEY, b"").decode("utf-8", "replace")


def _numbered(message: bytes) -> Iterator[tuple[int, bytes]]:
    return ((number, value) for _, number, value in _fields(message))


def _fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Go through the outermost fields: where each begins, its number, and its bytes; none of a whole number.

    Raises:
        ValueError: it is no such message, or ends within a field.
    """
    at = 0
    while at < len(message):
        start = at
        tag, at = _whole(message, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number <= _HIGHEST_FIELD or kind not in (_NUMBER, _BYTES):
            raise ValueError(f"field {number} of kind {kind}")
        size, at = _whole(message, at)
        if kind == _NUMBER:
            yield start, number, b""
            continue
        if size > len(message) - at:
            raise ValueError(f"{size} bytes are declared and {len(message) - at} are there")
        yield start, number, message[at : at + size]
        at += size


def _whole(message: bytes, at: int) -> tuple[int, int]:
    """Read a whole number of seven bits a byte; return it and where the next field begins."""
    value = 0
    for place in range(10):
        if at + place >= len(message):
            raise ValueError("it ends within a number")
        byte = message[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("a number of more than ten bytes")


def _entry(key: str, value: bytes) -> bytes:
    """Write an entry of the metadata."""
    return _field(_METADATA, _field(_KEY, key.encode("ascii")) + _field(_VALUE, value))


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
