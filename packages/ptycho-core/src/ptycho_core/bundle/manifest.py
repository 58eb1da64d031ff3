"""`manifest.json`: what a bundle declares of itself, read back only after a check of every field.

Format 1.0. `models` has the two logical models of older programs; `diffraction_to_obj` says that it shares
the weights of `autoencoder`, or has its own file. `members` has size and sha256 of every other member;
`sha256` is that of the manifest itself without this field, written compactly with sorted keys.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from ptycho_core.bundle.checked import Fields, parse_json
from ptycho_core.bundle.contents import Bundle, ProbeMask, Scaling
from ptycho_core.bundle.members import AUTOENCODER_WEIGHTS, HISTORY, MANIFEST, OBJECT_WEIGHTS, PROBE
from ptycho_core.bundle.probes import PROBE_KEYS, is_stack
from ptycho_core.bundle.refusal import refused
from ptycho_core.bundle.weights import PARAMETER_NAME
from ptycho_core.files import jsonable

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "Entry",
    "Manifest",
    "Shapes",
    "check_digest",
    "check_version",
    "declared",
    "described",
    "parse_manifest",
    "probe_shapes",
    "scaling_of",
    "seal",
    "sealed",
]

FORMAT = "ptycho-bundle"
FORMAT_VERSION = "1.0"
_DIGEST = r"[0-9a-f]{64}"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One member as declared: bytes and sha256."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Entry:
        """Describe a member."""
        return cls(size=len(content), sha256=hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The declarations of a bundle.

    Attributes:
        parameters: shape of each parameter by member of weights; both models share one, or each has its own.
        probes: shape of each array of `probe.npz`.
        members: the other members.
    """

    architecture: str
    backend: str
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    scaling: Scaling
    provenance: Mapping[str, Any]
    parameters: Mapping[str, Shapes]
    probes: Shapes
    members: Mapping[str, Entry]


def seal(fields: Mapping[str, Any]) -> bytes:
    """Write a manifest with its own digest.

    Raises:
        TypeError, ValueError: something in it is not of JSON.
    """
    fields = json.loads(
        json.dumps(fields, allow_nan=False)
    )  # what a reader will see: keys are text, no tuples
    sealed = {**fields, "sha256": _digest(fields)}
    return (json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def sealed(source: str, fields: Mapping[str, Any]) -> bytes:
    """Do what `seal` does.

    Raises:
        BundleError: something in it is not of JSON; says what to do about it.
    """
    try:
        return seal(fields)
    except (TypeError, ValueError, RecursionError) as error:
        then = 'Convert the configuration: `config.model_dump(mode="json")`.'
        raise refused(
            source, f"the configuration cannot be written ({error})", "values of JSON", then
        ) from error


def declared(bundle: Bundle, kind: str, version_here: str) -> dict[str, Any]:
    """Return what every file of a network says of it; the format adds what only it has."""
    probes = {"probe": bundle.probe, "probe_given": bundle.probe_given}
    return {
        "format": kind,
        "version": version_here,
        "written_by": f"ptycho-core {version('ptycho-core')}",
        "architecture": bundle.architecture,
        "backend": bundle.provenance.get("backend"),
        "configuration": {"model": bundle.model, "training": bundle.training},
        "scaling": jsonable(asdict(bundle.scaling)),
        "probes": described(probes),
        "provenance": jsonable(bundle.provenance),
    }


def described(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return shape and dtype of arrays by name, weights or probes."""
    return {name: {"shape": list(array.shape), "dtype": array.dtype.name} for name, array in arrays.items()}


def parse_manifest(source: str, content: bytes) -> Manifest:
    """Read a manifest: first the version, then its digest, then every field.

    Raises:
        BundleError: it is unknown, newer, damaged, or contradicts itself.
    """
    fields = parse_json(source, content)
    check_version(fields, FORMAT, FORMAT_VERSION)
    check_digest(fields)
    configuration, model = fields.below("configuration"), fields.below("configuration").object("model")
    architecture = fields.text("architecture")
    if model.get("architecture", architecture) != architecture:
        raise (
            fields.below("configuration")
            .below("model")
            .wrong("architecture", f'"{architecture}", as above it')
        )
    parameters = _parameters(fields.below("models"))
    members = _members(fields, {*parameters, PROBE, HISTORY})
    for member, shapes in parameters.items():
        nbytes = sum(4 * math.prod(shape) for shape in shapes.values())
        if nbytes > members[member].size:
            found = f"the parameters of `{member}` claim {nbytes} bytes"
            raise refused(source, found, f"at most the {members[member].size} bytes of that member")
    return Manifest(
        architecture=architecture,
        backend=fields.text("backend"),
        model=model,
        training=configuration.object("training"),
        scaling=scaling_of(fields.below("scaling")),
        provenance=fields.object("provenance"),
        parameters=parameters,
        probes=probe_shapes(fields.below("probes")),
        members=members,
    )


def check_version(fields: Fields, kind: str, version_here: str) -> None:
    """Refuse a file of another kind, or of a version that is read elsewhere.

    Raises:
        BundleError: says who reads it.
    """
    source, values = fields.source, fields.values
    if values.get("format") != kind:
        found, backend = (json.dumps(values.get(name))[:60] for name in ("format", "backend"))
        raise refused(source, f"a bundle of kind {found} and backend {backend}", f'kind "{kind}"')
    found = fields.text("version", r"[0-9]{1,6}\.[0-9]{1,6}", "a version such as 1.0")
    ours, theirs = (int(text.split(".")[0]) for text in (version_here, found))
    if theirs == ours:
        return
    writer = str(values.get("written_by"))
    known = re.fullmatch(r"ptycho-core ([0-9][0-9A-Za-z.+\-]{0,40})", writer)
    who = f", written by {writer}, which can read it" if known else ""
    install = f"'ptycho-core>={known[1]}'" if known else "ptycho-core"
    raise refused(
        source,
        f"bundle version {found}{who}",
        f"version {ours}.x, which ptycho-core {version('ptycho-core')} reads",
        f"Type `pip install --upgrade {install}`.",
    )


def _digest(fields: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in fields.items() if name != "sha256"}
    compact = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(compact.encode("ascii")).hexdigest()


def check_digest(fields: Fields) -> None:
    """Refuse a manifest that is not the one that was written.

    Raises:
        BundleError: its sha256 differs from the one that it holds.
    """
    declared = fields.text("sha256", _DIGEST, "64 hexadecimal digits")
    try:
        found = _digest(fields.values)
    except (ValueError, RecursionError) as error:
        raise refused(fields.source, f"`{fields.name}` cannot be read ({error})", "finite numbers") from error
    if found != declared:
        changed = f"`{fields.name}` was changed, its sha256 is {found[:12]}…"
        raise refused(fields.source, changed, f"{declared[:12]}…, as it says")


def _parameters(models: Fields) -> dict[str, Shapes]:
    found = {AUTOENCODER_WEIGHTS: _shapes(models.below("autoencoder"), AUTOENCODER_WEIGHTS)}
    second = models.below("diffraction_to_obj")
    if "same_weights_as" in second.values:
        second.choice("same_weights_as", ["autoencoder"])
    else:
        found[OBJECT_WEIGHTS] = _shapes(second, OBJECT_WEIGHTS)
    return found


def _shapes(model: Fields, member: str) -> Shapes:
    model.choice("weights", [member])
    parameters = model.below("parameters")
    shapes: dict[str, tuple[int, ...]] = {}
    for name in parameters.values:
        if not PARAMETER_NAME.fullmatch(name):
            raise parameters.wrong(name, "names of letters, digits, `_`, `-` and `.`")
        one = parameters.below(name)
        one.choice("dtype", ["float32"])
        shapes[name] = one.shape()
    return shapes


def probe_shapes(probes: Fields) -> Shapes:
    """Give the declared shape of each array of `probe.npz`.

    Raises:
        BundleError: one is no stack of complex64.
    """
    return {key: _probe_shape(probes.below(key)) for key in PROBE_KEYS}


def _probe_shape(probe: Fields) -> tuple[int, ...]:
    probe.choice("dtype", ["complex64"])
    if not is_stack(probe.shape()):
        raise probe.wrong("shape", "[P, N, N]")
    return probe.shape()


def _members(fields: Fields, expected: set[str]) -> dict[str, Entry]:
    members = fields.below("members")
    if set(members.values) != expected:
        differing = ", ".join(sorted(set(members.values) ^ expected))
        found = f"`{MANIFEST}`: `members` and what the rest needs differ by {differing}"
        raise refused(fields.source, found, f"{', '.join(sorted(expected))}")
    return {
        name: Entry(size=entry.whole("size"), sha256=entry.text("sha256", _DIGEST, "64 hexadecimal digits"))
        for name, entry in ((name, members.below(name)) for name in sorted(expected))
    }


def scaling_of(fields: Fields) -> Scaling:
    """Read the factors and conventions without which weights mean nothing.

    Raises:
        BundleError: one is missing or no such value.
    """
    mask = None
    if fields.values.get("mask") is not None:
        disc = fields.below("mask")
        whole_width = disc.values.get("diameter_px") is None
        mask = ProbeMask(
            sigma_px=disc.number("sigma_px", zero_is_fine=True),
            diameter_px=None if whole_width else disc.number("diameter_px"),
        )
    return Scaling(
        gauge=fields.choice("gauge", ["legacy", "power"]),
        probe_scale=fields.number("probe_scale"),
        intensity_scale=fields.number("intensity_scale"),
        alpha=fields.number("alpha"),
        nphotons=fields.number("nphotons"),
        mean_counts=fields.number("mean_counts"),
        mask=mask,
        patch_weighting=fields.text("patch_weighting"),
        anchor=fields.text("anchor"),
        pixel_convention=fields.text("pixel_convention"),
    )
