"""What only HDF5 can do: links, virtual and external storage, filters, declared sizes, trees without end."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from injection.classes.bombs import zlib_zeros

__all__ = ["DAMAGES", "fits"]

Damage = Callable[[Path, random.Random], object]
Edit = Callable[[h5py.File, str, random.Random], None]
#: HDF5 notes how long a packed block is in as many bytes as fit the block itself, and one more.
LEAST_OF_A_BOMB = 128


def fits(path: Path) -> bool:
    """Whether the file is HDF5."""
    return path.is_file() and h5py.is_hdf5(path)


def _edited(edit: Edit) -> Damage:
    """Open the file, choose one of its data sets and take it away; `edit` puts something in its place."""

    def damage(path: Path, rng: random.Random) -> None:
        with h5py.File(path, "a") as file:
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            # Frames are the largest, and most of what is done to them is done to no other.
            names.sort(key=lambda name: -file[name].size)
            name = names[0] if rng.random() < 0.6 else rng.choice(names)
            edit(file, name, rng)

    return damage


def _instead(make: Callable[[h5py.File, str, tuple[int, ...], np.dtype, random.Random], None]) -> Damage:
    def edit(file: h5py.File, name: str, rng: random.Random) -> None:
        shape, dtype = file[name].shape, file[name].dtype
        attributes = dict(file[name].attrs)
        del file[name]
        make(file, name, shape, dtype, rng)
        if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Dataset):
            for key, value in attributes.items():
                file[name].attrs[key] = value

    return _edited(edit)


def _soft(target: str) -> Damage:
    def make(file: h5py.File, name: str, shape: object, dtype: object, rng: random.Random) -> None:
        file[name] = h5py.SoftLink(target.replace("ITSELF", f"/{name}"))

    return _instead(make)


def _external(target: str, *, fifo: bool = False) -> Damage:
    def make(file: h5py.File, name: str, shape: object, dtype: object, rng: random.Random) -> None:
        folder = Path(file.filename).parent
        if fifo and not (folder / target).exists():
            os.mkfifo(folder / target)
        file[name] = h5py.ExternalLink(target.replace("ITSELF", Path(file.filename).name), f"/{name}")

    return _instead(make)


def _stranger(link: str) -> Damage:
    """Leave all data and add a link that leads somewhere bad."""

    def edit(file: h5py.File, name: str, rng: random.Random) -> None:
        folder = Path(file.filename).parent
        if not (folder / "fifo").exists():
            os.mkfifo(folder / "fifo")
        parent = file[name].parent
        parent["stranger"] = {
            "fifo": h5py.ExternalLink("fifo", "/x"),
            "device": h5py.ExternalLink("/dev/zero", "/x"),
            "nowhere": h5py.SoftLink("/nowhere/at/all"),
            "itself": h5py.SoftLink(f"{parent.name}/stranger"),
        }[link]

    return _edited(edit)


def _virtual(
    file: h5py.File, name: str, source: str, key: str, shape: tuple[int, ...], dtype: np.dtype
) -> None:
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource(source, key, shape=shape, dtype=dtype)
    file.create_virtual_dataset(name, layout)


def _virtual_itself(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, rng: random.Random
) -> None:
    _virtual(file, name, ".", name, shape or (1,), dtype)


def _virtual_mutual(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, rng: random.Random
) -> None:
    shape = shape or (1,)
    chain = [name, *(f"{name}_{number}" for number in range(rng.choice((1, 3, 40))))]
    for one, other in zip(chain, [*chain[1:], chain[0]], strict=True):
        _virtual(file, one, rng.choice((".", Path(file.filename).name)), other, shape, dtype)


def _virtual_elsewhere(source: str) -> Damage:
    def make(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, rng: random.Random) -> None:
        folder = Path(file.filename).parent
        for fifo in ("fi%fo", "fifo"):
            if not (folder / fifo).exists():
                os.mkfifo(folder / fifo)
        _virtual(file, name, source, name, shape or (1,), dtype)

    return _instead(make)


def _virtual_numbered(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, rng: random.Random
) -> None:
    """Let it grow with files that are numbered without end; the first of them is a FIFO."""
    shape = tuple(max(1, side) for side in shape) or (1,)
    fifo = Path(file.filename).parent / "part0.h5"
    if not fifo.exists():
        os.mkfifo(fifo)
    space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, *shape[1:]))
    space.select_hyperslab(
        (0,) * len(shape), (h5py.h5s.UNLIMITED, *[1] * (len(shape) - 1)), None, (1, *shape[1:])
    )
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_virtual(space, b"part%b.h5", b"x", h5py.h5s.create_simple((1, *shape[1:])))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype), space, plan, _parents())


def _virtual_raw(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, rng: random.Random
) -> None:
    """Let a virtual data set lead to raw storage outside."""
    _raw(file, f"{name}_raw", shape, dtype, rng)
    _virtual(file, name, ".", f"{name}_raw", shape or (1,), dtype)


def _raw(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, rng: random.Random) -> None:
    """Let the values lie in another file, which holds what is nobody's frames."""
    secret = Path(file.filename).parent / "secret"
    if not secret.exists():
        secret.write_bytes(b"TOP SECRET " * 40_000)
    target = rng.choice((str(secret), "/dev/zero", "/etc/passwd", "missing"))
    file.create_dataset(name, shape or (1,), dtype, external=[(target, 0, h5py.h5f.UNLIMITED)])


def _declared(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, rng: random.Random
) -> None:
    """Declare more than anybody has; none of it is stored."""
    huge = rng.choice(((10**9, 64, 64), (1 << 40,), (30, 100_000, 100_000), (1 << 20, 1 << 20, 1 << 20)))
    chunks = tuple(min(side, 32) for side in huge)
    file.create_dataset(name, huge, dtype, chunks=chunks, fillvalue=0 if dtype.kind in "iuf" else None)


def _filtered(**options: object) -> Damage:
    def make(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, rng: random.Random) -> None:
        values = np.random.default_rng(1).poisson(9, shape or (4,)).astype("u2")
        chunks = tuple(min(max(side, 1), 8) for side in values.shape)
        growing = tuple(side or None for side in values.shape)  # a block is no longer than what never grows
        file.create_dataset(name, data=values, chunks=chunks, maxshape=growing, **options)

    return _instead(make)


def _chunks(stored: str) -> Damage:
    """Write the bytes of a chunk as they never come out of the library."""

    def make(file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype, rng: random.Random) -> None:
        shape = tuple(max(1, side) for side in shape) or (4,)
        if "bomb" in stored and np.prod(shape) < LEAST_OF_A_BOMB:  # its length would not fit
            shape = (shape[0], LEAST_OF_A_BOMB)
        layers = {"once": 1, "twice": 2, "three times": 3}.get(stored.split(",")[0], 1)
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk(shape)
        content = np.zeros(shape, "u2").tobytes()
        if "bomb" in stored:
            content = zlib_zeros()
            layers_packed = 1
        else:
            layers_packed = 0
        if "short" in stored:
            content = content[: len(content) // 2]
        for _ in range(layers_packed, layers):
            content = zlib.compress(content, 9)
        if "unfiltered" not in stored:
            for _ in range(layers):
                plan.set_filter(1, h5py.h5z.FLAG_OPTIONAL, (9,))
        space = h5py.h5s.create_simple(shape)
        made = h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_UINT16, space, plan, _parents())
        made.write_direct_chunk((0,) * len(shape), content)

    return _instead(make)


def _parents() -> h5py.h5p.PropLCID:
    made = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    made.set_create_intermediate_group(True)
    return made


def _special(dtype: object, value: object) -> Damage:
    def make(file: h5py.File, name: str, shape: tuple[int, ...], old: np.dtype, rng: random.Random) -> None:
        file.create_dataset(name, shape=(max(1, *shape[:1], 1),), dtype=dtype)
        file[name][0] = value(file) if callable(value) else value

    return _instead(make)


def _group(file: h5py.File, name: str, shape: object, dtype: object, rng: random.Random) -> None:
    file.create_group(name).attrs["NX_class"] = rng.choice(("NXdata", "NXdetector", "\x1b[31m"))


def _empty(file: h5py.File, name: str, shape: object, dtype: object, rng: random.Random) -> None:
    file[name] = h5py.Empty("f4")


def _named(text: str) -> Damage:
    """Give the data set, or one beside it, a name that is not for the eye."""

    def edit(file: h5py.File, name: str, rng: random.Random) -> None:
        parent = file[name].parent
        if rng.random() < 0.5:
            file.move(name, os.fsencode(f"{parent.name.rstrip('/')}/{text}"))
        else:
            parent[os.fsencode(text)] = np.zeros((3, 4))

    return _edited(edit)


def _attributes(file: h5py.File, name: str, rng: random.Random) -> None:
    item = rng.choice((file, file[name], file[name].parent))
    for key in ("units", "NX_class", "signal", "axis_canonical", "default", "axes", *item.attrs):
        item.attrs[key] = rng.choice(
            (
                "\x1b[31m\nINFO forged",
                b"\xff\xfe",
                np.nan,
                -1,
                np.zeros(50),
                "m" * 5000,
                "furlong",
                h5py.Empty("f4"),
            )
        )


def _deep(file: h5py.File, name: str, rng: random.Random) -> None:
    group = file
    for number in range(rng.choice((200, 2000))):
        group = group.create_group(f"g{number}")
    group["dp"] = np.zeros((4, 8, 8))


def _many(file: h5py.File, name: str, rng: random.Random) -> None:
    for number in range(6000):
        file.create_group(f"many/{number}")


def _round(file: h5py.File, name: str, rng: random.Random) -> None:
    inside = file.create_group("a/b/c")
    inside["up"] = file["a"]
    file["a/root"] = file["/"]


def _megabyte_name(file: h5py.File, name: str, rng: random.Random) -> None:
    file["n" * rng.choice((60_000, 1_000_000))] = np.zeros((4, 8, 8))


DAMAGES: dict[str, Damage] = {
    "a soft link to nowhere": _soft("/nowhere"),
    "a soft link to itself": _soft("ITSELF"),
    "a soft link to the root": _soft("/"),
    "an external link to a FIFO": _external("fifo", fifo=True),
    "an external link to itself": _external("ITSELF"),
    "an external link to a device": _external("/dev/zero"),
    "an external link to nowhere": _external("nowhere.h5"),
    "a stranger that leads to a FIFO": _stranger("fifo"),
    "a stranger that leads to a device": _stranger("device"),
    "a stranger that leads nowhere": _stranger("nowhere"),
    "a stranger that leads to itself": _stranger("itself"),
    "virtual, its own source": _instead(_virtual_itself),
    "virtual, in a round": _instead(_virtual_mutual),
    "virtual, from a FIFO": _virtual_elsewhere("fifo"),
    "virtual, from a FIFO behind %%": _virtual_elsewhere("fi%%fo"),
    "virtual, from nowhere": _virtual_elsewhere("nowhere.h5"),
    "virtual, from numbered files": _instead(_virtual_numbered),
    "virtual, from a device": _virtual_elsewhere("/dev/zero"),
    "virtual, from raw storage": _instead(_virtual_raw),
    "raw storage outside": _instead(_raw),
    "a huge declared size": _instead(_declared),
    "packed by lzf": _filtered(compression="lzf"),
    "packed by nbit and shuffle": _filtered(scaleoffset=4, shuffle=True),
    "packed with a checksum": _filtered(fletcher32=True, compression="gzip"),
    "a chunk deflated twice": _chunks("twice"),
    "a chunk deflated three times": _chunks("three times"),
    "a bomb deflated twice": _chunks("twice, bomb"),
    "a bomb deflated once": _chunks("once, bomb"),
    "a chunk stored short": _chunks("once, short"),
    "a chunk stored short, not packed": _chunks("once, short, unfiltered"),
    "references": _special(h5py.ref_dtype, lambda file: file.ref),
    "texts": _special(h5py.string_dtype(), "\x1b[31m"),
    "ragged": _special(h5py.vlen_dtype(np.int32), np.arange(3)),
    "an enumeration": _special(h5py.enum_dtype({"a": 1, "b": 2}), 1),
    "a group in its place": _instead(_group),
    "nothing in its place": _instead(_empty),
    "a name with an escape sequence": _named("\x1b[31mevil\n2026-11-28 00:00:00,000 INFO forged"),
    "a name that is not UTF-8": _named("m\udcfcller"),
    "a name that runs from right to left": _named("\u202egnp.x"),
    "a name of a megabyte": _edited(_megabyte_name),
    "attributes of any kind": _edited(_attributes),
    "a tree two thousand deep": _edited(_deep),
    "six thousand groups": _edited(_many),
    "a tree that goes round": _edited(_round),
}
