"""Files of arbitrary content, as hypothesis draws them: names that readers look for, anything under them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from injection.case import Act, Case
from injection.ground import Ground

__all__ = ["draw"]

#: So many sets of this many trees; each is drawn once.
SETS, TREES_A_SET = 12, 60
NAMES = (
    *(
        "dp",
        "diffraction",
        "diff3d",
        "data",
        "frames",
        "positions",
        "xcoords",
        "ycoords",
        "probe",
        "probeGuess",
        "mask",
    ),
    *(
        "entry",
        "entry/data/data",
        "entry/instrument/detector/data",
        "entry_1/data_1/data",
        "exchange/data",
        "encoder",
    ),
    *(
        "measurement/n0/diff/data",
        "chunks/0/data",
        "chunks/0/positions",
        "meta/energy",
        "ptychogram",
        "cxi_version",
    ),
    *(
        "entry_1/instrument_1/detector_1/data",
        "entry_1/sample_1/geometry_1/translation",
        "objectGuess",
        "bad_pixels",
    ),
    *(
        "wavelength",
        "zo",
        "dxd",
        "ppX",
        "ppY",
        "lambda",
        "energy",
        "raw_data/diffraction",
        "object",
        "scan",
        "_metadata",
    ),
)
KINDS = ("u1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "?", "S3", ">f4", "f4,i2")
VALUES = (0.0, 1.0, -1.0, 7.0, 1e-9, 1e6, 1e18, 1e300, float("nan"), float("inf"))
SHAPES = (
    (),
    (0,),
    (1,),
    (2,),
    (30,),
    (30, 2),
    (2, 30),
    (30, 3),
    (30, 32, 32),
    (32, 32),
    (1, 32, 32),
    (5, 6, 32, 32),
)


@dataclass(frozen=True)
class Item:
    """One entry: a data set, a group, a link, or an attribute of what is there."""

    name: str
    what: str
    kind: str
    shape: tuple[int, ...]
    value: float
    text: str


@dataclass(frozen=True)
class Tree:
    """What a file holds: some of the sound arrays, and items in their order."""

    container: str
    frames: bool
    positions: bool
    items: tuple[Item, ...]


@cache
def _set_of_trees(seed: int) -> tuple[Tree, ...]:
    """Draw some trees, the same ones for the same number."""
    import hypothesis
    from hypothesis import strategies as st

    strange = st.text(min_size=1, max_size=12).map(lambda text: text.replace("/", "|"))
    items = st.builds(
        Item,
        name=st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), strange),
        what=st.sampled_from(("values", "values", "values", "group", "link", "attribute", "packed")),
        kind=st.sampled_from(KINDS),
        shape=st.one_of(st.sampled_from(SHAPES), st.lists(st.integers(0, 9), max_size=5).map(tuple)),
        value=st.sampled_from(VALUES),
        text=st.one_of(
            st.sampled_from(("units", "NX_class", "signal", "m", "px", "NXdata", *NAMES)), strange
        ),
    )
    trees = st.builds(
        Tree,
        container=st.sampled_from(("h5", "h5", "cxi", "nxs", "npz", "mat")),
        frames=st.booleans(),
        positions=st.booleans(),
        items=st.lists(items, min_size=1, max_size=8).map(tuple),
    )
    found: list[Tree] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=TREES_A_SET,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(hypothesis.Phase.generate,),
        suppress_health_check=(hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large),
    )
    @hypothesis.given(trees)
    def collect(tree: Tree) -> None:
        found.append(tree)

    collect()
    return tuple(dict.fromkeys(found))


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw one of the trees, and the command that reads its file."""
    number = rng.randrange(SETS)
    trees = _set_of_trees(number)
    at = rng.randrange(len(trees))
    command = rng.choice(("inspect", "inspect", "reconstruct"))
    more = ("--effort", "fast", "--solver-epochs", "2", "--output-dir", "out")

    def prepare(place: Path) -> list[Act]:
        path = place / f"scan.{trees[at].container}"
        write_tree(path, trees[at], dict(np.load(ground.scan)))
        return [Act((command, path.name, *(more if command == "reconstruct" else ())), patience_s=20)]

    return Case("trees", f"{trees[at].container}, set {number}, tree {at}, {command}", prepare)


def write_tree(path: Path, tree: Tree, sound: dict[str, np.ndarray]) -> None:
    """Write the file of a tree; what HDF5 itself refuses is left out."""
    arrays: dict[str, Any] = {}
    if tree.frames:
        arrays["diff3d"] = sound["diff3d"]
    if tree.positions:
        arrays |= {"xcoords": sound["xcoords"], "ycoords": sound["ycoords"]}
    if tree.container == "npz":
        for item in tree.items:
            arrays[item.name.replace("\0", "0")] = _values(item)
        np.savez(path, allow_pickle=False, **{key: value for key, value in arrays.items() if key != "file"})
        return
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        for item in tree.items:
            try:
                _put(file, item)
            except (ValueError, TypeError, OSError, RuntimeError, KeyError):
                continue


def _values(item: Item) -> np.ndarray:
    made = np.zeros(item.shape, item.kind)
    if made.dtype.kind in "iufc?":
        with np.errstate(all="ignore"):
            made[...] = np.asarray(item.value).astype(made.dtype)
    return made


def _put(file: h5py.File, item: Item) -> None:
    match item.what:
        case "values":
            file[item.name] = _values(item)
        case "packed":
            file.create_dataset(item.name, data=_values(item), chunks=True, compression="gzip", maxshape=None)
        case "group":
            file.create_group(item.name).attrs["NX_class"] = item.text
        case "link":
            file[item.name] = h5py.SoftLink(item.text)
        case _:
            target = file.get(item.name, file)
            target.attrs[item.text] = item.text if item.kind == "S3" else item.value
