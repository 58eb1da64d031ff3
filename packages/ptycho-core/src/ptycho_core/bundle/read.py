"""`read_bundle`: nothing of a bundle is believed before it is checked, and nothing in it is ever run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ptycho_core.bundle.container import Container, open_container
from ptycho_core.bundle.contents import Bundle
from ptycho_core.bundle.history import decode_history
from ptycho_core.bundle.manifest import Entry, Manifest, parse_manifest
from ptycho_core.bundle.members import (
    AUTOENCODER_WEIGHTS,
    HISTORY,
    MANIFEST,
    OBJECT_WEIGHTS,
    PROBE,
    check_members,
)
from ptycho_core.bundle.probes import decode_probes
from ptycho_core.bundle.refusal import refused
from ptycho_core.bundle.weights import decode_weights

__all__ = ["read_bundle", "trained_by"]


def trained_by(path: str | Path) -> str:
    """Return the name of the core that trained a network, from the manifest of its bundle alone.

    Raises:
        BundleError: nothing is there, or its manifest is refused.
    """
    with open_container(path) as container:
        return parse_manifest(container.source, container.read(MANIFEST)).backend


def read_bundle(path: str | Path) -> Bundle:
    """Read a trained network.

    Args:
        path: a `wts.h5.zip`, a directory that holds one, or a directory into which one was unpacked.

    Returns:
        The bundle; its arrays are new and writable.

    Raises:
        BundleError: nothing is there, or what is there is unknown, newer, damaged, too large, or could run
            code. One line says what was found, what was expected and what to type next.

    Example:
        >>> bundle = read_bundle("trained")  # doctest: +SKIP
        >>> bundle.architecture, bundle.weights["log_scale"].shape  # doctest: +SKIP
        ('unet', ())
    """
    with open_container(path) as container:
        manifest = parse_manifest(container.source, container.read(MANIFEST))
        check_members(container.source, container.sizes, manifest.members)
        _check_declared_sizes(container, manifest)
        weights = _weights(container, manifest)
        probes = decode_probes(container.source, _content(container, manifest, PROBE), manifest.probes)
        history = decode_history(container.source, _content(container, manifest, HISTORY))
    return Bundle(
        architecture=manifest.architecture,
        model=manifest.model,
        training=manifest.training,
        weights=weights,
        scaling=manifest.scaling,
        probe=probes["probe"],
        probe_given=probes["probe_given"],
        history=history,
        provenance={**manifest.provenance, "backend": manifest.backend},
    )


def _check_declared_sizes(container: Container, manifest: Manifest) -> None:
    for name, entry in manifest.members.items():
        if container.sizes[name] != entry.size:
            found = f"the member `{name}` has {container.sizes[name]} bytes"
            raise refused(container.source, found, f"{entry.size}, as the manifest says")


def _content(container: Container, manifest: Manifest, name: str) -> bytes:
    """Read a member and compare its checksum."""
    content = container.read(name)
    found, declared = Entry.of(content).sha256, manifest.members[name].sha256
    if found != declared:
        damaged = f"the member `{name}` is damaged, its sha256 is {found[:12]}…"
        raise refused(container.source, damaged, f"{declared[:12]}…, as the manifest says")
    return content


def _weights(container: Container, manifest: Manifest) -> dict[str, np.ndarray]:
    """Read the weights; where both models have their own, the second must be part of the first."""
    weights, second = (
        decode_weights(container.source, name, _content(container, manifest, name), manifest.parameters[name])
        if name in manifest.parameters
        else {}
        for name in (AUTOENCODER_WEIGHTS, OBJECT_WEIGHTS)
    )
    for name, tensor in second.items():
        if name not in weights or not np.array_equal(weights[name], tensor):
            found = f"the two models disagree about the parameter `{name}`"
            raise refused(container.source, found, "one network, of which both are views")
    return weights
