"""A spoiled bundle: as chance spoils it, or as somebody who knows the format and sets all checksums right."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from injection.case import Act, Case
from injection.classes import arrays_of_files, bombs, byte_damage, paths_damage, texts_damage
from injection.classes.record_damage import any_value, without_a_key
from injection.ground import Ground

__all__ = ["draw"]

Members = dict[str, bytes]
#: A bundle is refused in one line, or it is read and all of it is finite.
READ = """
import sys
import numpy as np
from ptycho_config.errors import BundleError
from ptycho_core.bundle import read_bundle, trained_by
try:
    trained_by($path)
    bundle = read_bundle($path)
except BundleError as error:
    print(error)
    sys.exit(3 if len(str(error).splitlines()) == 1 and len(str(error)) < 2000 else 9)
assert all(np.isfinite(values).all() for values in bundle.weights.values())
assert np.isfinite(bundle.probe).all()
"""


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw what is spoiled: the file, its members, or what the manifest says."""
    seed = rng.randrange(1000)
    kind = rng.choices(("bytes", "path", "member", "manifest", "weights", "container"), (3, 1, 4, 6, 4, 2))[0]
    if kind in ("bytes", "path"):
        damages = {"bytes": byte_damage.DAMAGES, "path": paths_damage.DAMAGES}[kind]
        name = rng.choice(sorted(damages))
        return _case(ground, f"{kind}: {name} ({seed})", lambda path, r: damages[name](path, r), seed, rng)
    changes = {"member": MEMBERS, "manifest": MANIFESTS, "weights": WEIGHTS, "container": CONTAINERS}[kind]
    name = rng.choice(sorted(changes))
    sealed = rng.random() < 0.8
    how = "sealed" if sealed else "not sealed"
    return _case(
        ground,
        f"{kind}: {name} ({seed}, {how})",
        lambda path, r: _rewritten(path, changes[name], r, sealed),
        seed,
        rng,
    )


def _case(
    ground: Ground, name: str, damage: Callable[[Path, random.Random], object], seed: int, rng: random.Random
) -> Case:
    infer = rng.random() < 0.06
    unpacked = not infer and rng.random() < 0.15

    def prepare(place: Path) -> list[Act]:
        path = place / "wts.h5.zip"
        shutil.copy(ground.bundle, path)
        shutil.copy(ground.scan, place / "scan.npz")
        damage(path, random.Random(seed))
        if infer:
            words = (
                "infer",
                "--model-path",
                path.name,
                "--test-data-file",
                "scan.npz",
                "--output-dir",
                "out",
            )
            return [Act((*words, "--torch-accelerator", "cpu"), codes=frozenset({0, 3, 4}), patience_s=60)]
        where = "wts.h5.zip"
        if unpacked and path.is_file() and _unpacked(path, place / "unpacked"):
            where = "unpacked"
        return [Act(program=READ.replace("$path", repr(where)))]

    reading = "infer" if infer else "read unpacked" if unpacked else "read"
    return Case("bundles", f"{name}, {reading}", prepare)


def _unpacked(path: Path, folder: Path) -> bool:
    """Unpack what can be unpacked; whether it is an archive at all."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        return False
    folder.mkdir()
    with archive:
        for name in archive.namelist():
            target = folder / name
            if ".." in name or name.startswith("/") or "\0" in name:
                continue
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
            except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError):
                continue
    return True


def _rewritten(
    path: Path, change: Callable[[Members, random.Random], object], rng: random.Random, sealed: bool
) -> None:
    """Change the members; where asked for, set sizes and checksums right again."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members, rng)
    if sealed and "manifest.json" in members:
        _seal(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _seal(members: Members) -> None:
    from ptycho_core.bundle.manifest import Entry, seal

    try:
        manifest = json.loads(members["manifest.json"])
        for name in manifest["members"]:
            entry = Entry.of(members[name])
            manifest["members"][name] = {"size": entry.size, "sha256": entry.sha256}
        members["manifest.json"] = seal(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # what the change made of it cannot be sealed


def _in_file(
    suffix: str, damage: Callable[[Path, random.Random], object]
) -> Callable[[bytes, random.Random], bytes]:
    """Let what damages files damage a member."""

    def change(content: bytes, rng: random.Random) -> bytes:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"member{suffix}"
            path.write_bytes(content)
            damage(path, rng)
            return path.read_bytes()

    return change


def _any_member(
    damage: Callable[[Path, random.Random], object],
) -> Callable[[Members, random.Random], object]:
    def change(members: Members, rng: random.Random) -> None:
        name = rng.choice(sorted(set(members) - {"manifest.json"}))
        members[name] = _in_file(Path(name).suffix, damage)(members[name], rng)

    return change


def _one(
    member: str, suffix: str, damage: Callable[[Path, random.Random], object]
) -> Callable[[Members, random.Random], object]:
    def change(members: Members, rng: random.Random) -> None:
        members[member] = _in_file(suffix, damage)(members[member], rng)

    return change


#: Sparse gigabytes would have to be written into the zip.
_SMALL = {name: one for name, one in byte_damage.DAMAGES.items() if name != "zeros for gigabytes"}
MEMBERS: dict[str, Callable[[Members, random.Random], object]] = {
    **{f"a member, {name}": _any_member(one) for name, one in _SMALL.items()},
    **{f"the probe, {name}": _one("probe.npz", ".npz", one) for name, one in arrays_of_files.DAMAGES.items()},
    **{
        f"the probe, {name}": _one("probe.npz", ".npz", one)
        for name, one in bombs.DAMAGES.items()
        if "bz2" not in name
    },
    **{
        f"the history, {name}": _one("history.csv", ".csv", one) for name, one in texts_damage.DAMAGES.items()
    },
}


def _manifest(
    edit: Callable[[dict[str, Any], random.Random], None],
) -> Callable[[Members, random.Random], object]:
    def change(members: Members, rng: random.Random) -> None:
        manifest = json.loads(members["manifest.json"])
        edit(manifest, rng)
        members["manifest.json"] = json.dumps(manifest).encode()

    return change


MANIFESTS: dict[str, Callable[[Members, random.Random], object]] = {
    **{
        f"a value is {text}": _manifest(any_value(value))
        for text, value in {
            "null": None,
            "7": 7,
            "-1": -1,
            "0": 0,
            "2**70": 2**70,
            "1e300": 1e300,
            "NaN": float("nan"),
            "true": True,
            "text": "x",
            "a list": [1],
            "an object": {"a": 1},
            "an escape sequence": "\x1b[2J\nINFO forged",
            "a path": "../../etc/passwd",
            "a megabyte": "m" * 1_000_000,
            "infinity": float("inf"),
            "empty": "",
        }.items()
    },
    "a key gone": _manifest(without_a_key),
    "an unknown key": _manifest(lambda manifest, rng: manifest.update(unknown=1)),
    "brackets": lambda members, rng: members.update({"manifest.json": b"[" * 200_000}),
    "twice the same key": lambda members, rng: members.update(
        {"manifest.json": members["manifest.json"].rstrip()[:-1] + b',"members":{}}'}
    ),
    "a list": lambda members, rng: members.update({"manifest.json": b"[1, 2]"}),
    "not UTF-8": lambda members, rng: members.update({"manifest.json": b'{"a": "\xff"}'}),
}


def _weights(
    edit: Callable[[dict[str, np.ndarray], random.Random], object],
) -> Callable[[Members, random.Random], object]:
    def change(members: Members, rng: random.Random) -> None:
        from safetensors.numpy import load, save

        name = rng.choice(sorted(name for name in members if name.endswith(".safetensors")))
        weights = load(members[name])
        if not weights:
            weights = {"made.up": np.zeros(3, np.float32)}
        edit(weights, rng)
        members[name] = save(weights)

    return change


def _each(
    make: Callable[[np.ndarray], np.ndarray],
) -> Callable[[dict[str, np.ndarray], random.Random], object]:
    def edit(weights: dict[str, np.ndarray], rng: random.Random) -> None:
        name = rng.choice(sorted(weights))
        weights[name] = np.ascontiguousarray(make(weights[name]))

    return edit


def _header(new: bytes) -> Callable[[Members, random.Random], object]:
    """Put another header in front of the values of the weights."""

    def change(members: Members, rng: random.Random) -> None:
        name = rng.choice(sorted(name for name in members if name.endswith(".safetensors")))
        members[name] = len(new).to_bytes(8, "little") + new + members[name][-256:]

    return change


def _renamed(name: str) -> Callable[[dict[str, np.ndarray], random.Random], object]:
    def edit(weights: dict[str, np.ndarray], rng: random.Random) -> None:
        weights[name] = weights.pop(rng.choice(sorted(weights)))

    return edit


WEIGHTS: dict[str, Callable[[Members, random.Random], object]] = {
    **{
        f"values of {value!r}": _weights(_each(lambda one, value=value: np.full_like(one, value)))
        for value in (1e30, -1e38, np.nan, np.inf, 0.0)
    },
    "doubles": _weights(_each(lambda one: one.astype(np.float64))),
    "whole numbers": _weights(_each(lambda one: one.astype(np.int64))),
    "an axis more": _weights(_each(lambda one: one[None])),
    "no values": _weights(_each(lambda one: one.reshape(-1)[:0])),
    "a parameter gone": _weights(lambda weights, rng: weights.pop(rng.choice(sorted(weights)))),
    "a parameter more": _weights(lambda weights, rng: weights.update(more=np.zeros(3, np.float32))),
    "a name with an escape sequence": _weights(_renamed("\x1b[2J\nINFO forged")),
    "a name of a megabyte": _weights(_renamed("n" * 1_000_000)),
    "a header that claims terabytes": _header(
        b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    ),
    "a header below zero": _header(b'{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}'),
    "values that overlap": _header(
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}'
    ),
    "a header without end": _header(b"{" * 10_000),
}


def _container(
    edit: Callable[[Members, random.Random], object],
) -> Callable[[Members, random.Random], object]:
    return edit


def _add(name: str, content: bytes = b"x") -> Callable[[Members, random.Random], object]:
    return _container(lambda members, rng: members.update({name: content}))


def _traps() -> bytes:
    content = io.BytesIO()
    content.write(b"cposix\nsystem\n(S'touch executed'\ntR.")
    return content.getvalue()


CONTAINERS: dict[str, Callable[[Members, random.Random], object]] = {
    "a pickle": _add("model.pt", _traps()),
    "a pickle by another name": _add("extra.bin", _traps()),
    "a name that leads out": _add("../out.txt"),
    "an absolute name": _add("/out.txt"),
    "a name with an escape sequence": _add("\x1b[2J\nINFO forged"),
    "a stranger": _add("stranger.txt"),
    "a member gone": _container(lambda members, rng: members.pop(rng.choice(sorted(members)))),
    "no members": _container(lambda members, rng: members.clear()),
    "two members swapped": _container(
        lambda members, rng: members.update(
            {"probe.npz": members["history.csv"], "history.csv": members["probe.npz"]}
        )
    ),
}
