"""The members of a bundle: their names, how large each may be, and which names are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from ptycho_config.errors import BundleError
from ptycho_core.bundle.refusal import TRAIN_AGAIN, refused
from ptycho_core.memory import memory_bytes

__all__ = [
    "AUTOENCODER_WEIGHTS",
    "HISTORY",
    "MANIFEST",
    "MEMBERS",
    "OBJECT_WEIGHTS",
    "PROBE",
    "check_members",
    "check_sizes",
    "is_pickle",
    "pickled",
    "refuse_dangerous_names",
]

MANIFEST = "manifest.json"
AUTOENCODER_WEIGHTS = "autoencoder/weights.safetensors"
OBJECT_WEIGHTS = "diffraction_to_obj/weights.safetensors"
PROBE = "probe.npz"
HISTORY = "history.csv"

_MIB, _GIB = 1 << 20, 1 << 30
MEMBERS: Mapping[str, int] = {
    MANIFEST: 16 * _MIB,
    AUTOENCODER_WEIGHTS: 4 * _GIB - 1,
    OBJECT_WEIGHTS: 4 * _GIB - 1,
    PROBE: 2 * _GIB,
    HISTORY: 64 * _MIB,
}
"""The largest size of each member in bytes; the largest network we build has some 50 MB of weights."""
TOTAL_BYTES = 4 * _GIB

_PICKLES = (".dill", ".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".joblib")
_IN_PLACE = f"a zip with {', '.join(f'`{name}`' for name in MEMBERS)} and nothing else"


def is_pickle(name: str) -> bool:
    """Whether a file of this name is a pickle."""
    return name.lower().endswith(_PICKLES)


def pickled(source: str, name: str) -> BundleError:
    """Make the error for a bundle that holds a pickle."""
    return refused(
        source,
        f"holds `{name}`, a Python pickle, which is never loaded because unpickling runs code",
        "a bundle of safetensors and JSON, as this version writes",
        TRAIN_AGAIN,
    )


def refuse_dangerous_names(source: str, names: Sequence[str]) -> None:
    """Refuse what no bundle of any version has: pickles, paths that lead elsewhere, a name that comes twice.

    Raises:
        BundleError: naming the first such member; also where there is no manifest.
    """
    for name in names:
        if is_pickle(name):
            raise pickled(source, name)
    for name in names:
        if _leads_elsewhere(name):
            raise refused(source, f"the member `{name}` leads out of the bundle", "plain relative names")
    for name, count in Counter(names).items():
        if count > 1:
            raise refused(source, f"the member `{name}` is there {count} times", "each member once")
    if MANIFEST not in names:
        raise refused(
            source,
            f"no `{MANIFEST}` among its {len(names)} members, so this is not a bundle",
            _IN_PLACE,
            "Name the directory or the `wts.h5.zip` of a training run; `ptycho train` writes one.",
        )


def check_members(source: str, names: Iterable[str], declared: Collection[str]) -> None:
    """Compare the members that are there with those that the manifest declares.

    Raises:
        BundleError: one is missing, or is there and not declared.
    """
    found = set(names) - {MANIFEST}
    for name in sorted(found - MEMBERS.keys()):
        raise refused(source, f"holds `{name}`, which belongs to no bundle", _IN_PLACE)
    for name in sorted(found - set(declared)):
        raise refused(source, f"holds `{name}`, which the manifest does not declare", "declared members only")
    for name in sorted(set(declared) - found):
        raise refused(source, f"the member `{name}` is missing", f"all that `{MANIFEST}` declares")


def check_sizes(source: str, sizes: Mapping[str, int]) -> None:
    """Refuse members that are too large, before any is read.

    Raises:
        BundleError: naming the member, or the total that does not fit.
    """
    for name, size in sizes.items():
        most = MEMBERS.get(name, TOTAL_BYTES)
        if size > most:
            raise refused(
                source,
                f"`{name}` claims {size} bytes",
                f"at most {most} bytes, as any bundle of ours",
            )
    total, memory = sum(sizes.values()), memory_bytes()
    most = TOTAL_BYTES if memory is None else min(memory, TOTAL_BYTES)
    if total > most:
        raise refused(source, f"its members claim {total} bytes together", f"at most {most} bytes")


def _leads_elsewhere(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return not name or ".." in parts or not parts[0] or ":" in parts[0] or "\\" in name or "\0" in name
