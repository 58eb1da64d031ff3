"""BUNDLE-001: a good bundle comes back equal; one that is spoiled in any way is refused, never run."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ptycho_config.checks.evidence import Evidence, demand, refused
from ptycho_config.errors import BundleError
from ptycho_core.bundle import BUNDLE_FILE, Bundle, Scaling, read_bundle, write_bundle
from ptycho_core.bundle.manifest import Entry, seal
from ptycho_core.bundle.members import HISTORY, MANIFEST, MEMBERS, PROBE
from ptycho_core.checks import samples

__all__ = ["bundles_hold_no_code"]

FINDING = "BUNDLE-001"
Members = dict[str, bytes]
#: What Python would run while unpickling it: `open` of a file named `ran`, for writing.
_CODE = b"cbuiltins\nopen\n(V%b\nVw\ntR."


def bundles_hold_no_code() -> Evidence:
    """Write a bundle, read it, and try to read it spoiled in each of the ways that the rule names.

    Raises:
        CheckError: BUNDLE-001 does not hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        path = write_bundle(root, _bundle())
        read = read_bundle(path)
        same = all(np.array_equal(read.weights[name], _WEIGHTS[name]) for name in _WEIGHTS)
        demand(
            same and read.weights.keys() == _WEIGHTS.keys(), FINDING, "other weights came back", "the same"
        )
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        _only_data(members)
        ran = root / "ran"
        code = _CODE % str(ran).encode()
        spoiled = _spoiled(code)
        for what, spoil in spoiled.items():
            file = root / what.replace(" ", "-") / BUNDLE_FILE
            file.parent.mkdir()
            _write(file, spoil(dict(members)))
            refused(FINDING, BundleError, what, lambda file=file: read_bundle(file))
        bare = root / "bare" / BUNDLE_FILE
        bare.parent.mkdir()
        bare.write_bytes(b"\x80\x02" + code)
        refused(FINDING, BundleError, "a bare pickle", lambda: read_bundle(bare))
        demand(not ran.exists(), FINDING, "code inside a bundle was run", "no member is ever executed")
    return {
        "members": ", ".join(members),
        "written and read": "equal",
        "refused": ", ".join([*spoiled, "a bare pickle"]),
        "code in a member": "was not run",
    }


_WEIGHTS: Mapping[str, np.ndarray] = {
    "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "log_scale": np.float32(0.5) * np.ones((), np.float32),
}


def _bundle() -> Bundle:
    probe = samples.probe()[np.newaxis]
    scaling = Scaling(
        gauge="power",
        probe_scale=4.0,
        intensity_scale=2.0,
        alpha=0.5,
        nphotons=1e4,
        mean_counts=1e4,
        mask=None,
        patch_weighting="probe",
        anchor="first",
        pixel_convention="index",
    )
    return Bundle(
        architecture="unet",
        model={"N": samples.FRAME_PX, "architecture": "unet"},
        training={"nepochs": 1},
        weights=_WEIGHTS,
        scaling=scaling,
        probe=probe,
        probe_given=probe,
        history=({"epoch": 1, "train_loss": 0.5},),
        provenance={"backend": "check"},
    )


def _only_data(members: Members) -> None:
    strange = sorted(set(members) - set(MEMBERS))
    demand(not strange, FINDING, f"a bundle holds {', '.join(strange)}", f"only {', '.join(MEMBERS)}")
    declared = json.loads(members[MANIFEST])["members"]
    for name in set(members) - {MANIFEST}:
        checksum = declared.get(name, {}).get("sha256")
        demand(checksum == Entry.of(members[name]).sha256, FINDING, f"`{name}` has no checksum", "its sha256")


def _spoiled(code: bytes) -> dict[str, Callable[[Members], Members]]:
    def damaged(members: Members) -> Members:
        content = members[HISTORY]
        return {**members, HISTORY: content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]}

    def newer(members: Members) -> Members:
        return {**members, MANIFEST: _changed(members[MANIFEST], version="99.0")}

    def unsealed(members: Members) -> Members:
        fields = json.loads(members[MANIFEST])
        return {**members, MANIFEST: json.dumps({**fields, "architecture": "cnn"}).encode()}

    def object_array(members: Members) -> Members:
        content = members[PROBE].replace(b"'<c8'", b"'|O' ")
        entry = Entry.of(content)
        declared = json.loads(members[MANIFEST])["members"]
        declared[PROBE] = {"size": entry.size, "sha256": entry.sha256}
        return {**members, PROBE: content, MANIFEST: _changed(members[MANIFEST], members=declared)}

    return {
        "a wrong checksum": damaged,
        "an extra member": lambda members: {**members, "notes.txt": b"hello"},
        "a missing member": lambda members: {name: members[name] for name in members if name != HISTORY},
        "a name that leads out": lambda members: {**members, "../evil": b"x"},
        "a pickle as a member": lambda members: {**members, "model.pkl": code},
        "objects in the probe": object_array,
        "a changed manifest": unsealed,
        "a newer version": newer,
        "something else of that name": lambda members: {"weights.bin": b"x"},
    }


def _changed(manifest: bytes, **fields: object) -> bytes:
    """Change fields of a manifest and seal it again."""
    content = {name: value for name, value in json.loads(manifest).items() if name != "sha256"}
    return seal({**content, **fields})


def _write(path: Path, members: Members) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
