"""`write_bundle`: a trained network into one file, whole or not at all, equal bytes for equal content."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ptycho_core.bundle.contents import BUNDLE_FILE, Bundle
from ptycho_core.bundle.history import encode_history
from ptycho_core.bundle.manifest import (
    FORMAT,
    FORMAT_VERSION,
    Entry,
    declared,
    described,
    parse_manifest,
    sealed,
)
from ptycho_core.bundle.members import AUTOENCODER_WEIGHTS, HISTORY, MANIFEST, PROBE, check_sizes
from ptycho_core.bundle.probes import encode_probes
from ptycho_core.bundle.weights import encode_weights
from ptycho_core.bundle.zipped import pack
from ptycho_core.files import atomic_path, expanded, make_directory
from ptycho_core.given import expect_path

__all__ = ["write_bundle"]


def write_bundle(path: str | Path, bundle: Bundle) -> Path:
    """Write a trained network; an earlier bundle of that name stays until the new one is complete.

    Args:
        path: a directory, made where it is missing, which receives `wts.h5.zip`; or a file that ends in
            `.zip`.

    Returns:
        The file.

    Raises:
        BundleError: the bundle could not be read back: weights that are not finite float32, a probe that is
            no stack of complex64, a configuration that JSON cannot hold, no `backend` in its provenance.
        OutputError: it could not be written.
    """
    expect_path(path, "write_bundle", "a directory, or of a file that ends in .zip")
    path = expanded(path)
    is_directory = path.is_dir() or path.suffix != ".zip"
    final = path / BUNDLE_FILE if is_directory else path
    members = _encoded(str(final), bundle)
    make_directory(final.parent)
    with atomic_path(final) as temporary, temporary.open("wb") as file:
        pack(file, members)
    return final


def _encoded(source: str, bundle: Bundle) -> dict[str, bytes]:
    """Make the members, the manifest first."""
    probes = {"probe": bundle.probe, "probe_given": bundle.probe_given}
    members = {
        AUTOENCODER_WEIGHTS: encode_weights(source, bundle.weights),
        PROBE: encode_probes(source, probes),
        HISTORY: encode_history(source, bundle.history),
    }
    manifest = sealed(
        source,
        {
            **declared(bundle, FORMAT, FORMAT_VERSION),
            "models": {
                "autoencoder": {"weights": AUTOENCODER_WEIGHTS, "parameters": described(bundle.weights)},
                "diffraction_to_obj": {"same_weights_as": "autoencoder"},
            },
            "members": {name: asdict(Entry.of(content)) for name, content in members.items()},
        },
    )
    members = {MANIFEST: manifest, **members}
    parse_manifest(source, manifest)  # what is written here can be read
    check_sizes(source, {name: len(content) for name, content in members.items()})
    return members
