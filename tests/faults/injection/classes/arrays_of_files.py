"""Other arrays under the names that a reader looks for: in NPZ, NPY and HDF5."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

__all__ = ["CHANGES", "DAMAGES", "fits"]

Change = Callable[[np.ndarray, random.Random], np.ndarray]


def _with(value: float) -> Change:
    """Put a value into some places, or all."""

    def change(array: np.ndarray, rng: random.Random) -> np.ndarray:
        changed = np.array(array, dtype=np.result_type(array.dtype, np.float64))
        if changed.size:
            share = rng.choice((0.0, 0.01, 0.5, 1.0))
            where = np.random.default_rng(rng.randrange(99)).random(changed.shape) < share
            where.flat[rng.randrange(changed.size)] = True
            changed[where] = value
        return changed

    return change


def _typed(dtype: str) -> Change:
    def change(array: np.ndarray, rng: random.Random) -> np.ndarray:
        with np.errstate(all="ignore"):
            return (np.real(array) if dtype[0] not in "c" else array).astype(dtype)

    return change


def _text(array: np.ndarray, rng: random.Random) -> np.ndarray:
    return np.full(array.shape[:1], b"\x1b[31mno number\n")


def _compound(array: np.ndarray, rng: random.Random) -> np.ndarray:
    made = np.zeros(array.shape, [("r", "f4"), ("i", "f4"), ("more", "i2")])
    made["r"] = np.real(array)
    return made


def _shorter(array: np.ndarray, rng: random.Random) -> np.ndarray:
    return array[: rng.choice((0, 1, 2, max(1, len(array) - 1)))] if array.ndim else array


def _longer(array: np.ndarray, rng: random.Random) -> np.ndarray:
    return np.concatenate([array, array[:3]]) if array.ndim else np.stack([array] * 3)


CHANGES: dict[str, Change] = {
    "NaN": _with(np.nan),
    "infinity": _with(np.inf),
    "minus one": _with(-1.0),
    "1e300": _with(1e300),
    "1e-300": _with(1e-300),
    "1e12": _with(1e12),
    "9e18": _with(9e18),
    "all zero": lambda array, rng: np.zeros_like(array),
    "all equal": lambda array, rng: np.full_like(array, 7),
    "as half floats": _typed("f2"),
    "as long doubles": _typed("f8"),
    "as bytes": _typed("i1"),
    "as 64 bits": _typed("u8"),
    "as bool": _typed("?"),
    "as complex": _typed("c16"),
    "big-endian": _typed(">f4"),
    "as text": _text,
    "as records": _compound,
    "flat": lambda array, rng: array.reshape(-1),
    "a scalar": lambda array, rng: array.reshape(-1)[:1].reshape(()) if array.size else np.zeros(()),
    "an axis more": lambda array, rng: array[None] if rng.random() < 0.5 else array[..., None],
    "seven axes": lambda array, rng: array.reshape(*array.shape, *[1] * max(0, 7 - array.ndim)),
    "axes in reverse": lambda array, rng: array.T,
    "axes swapped": lambda array, rng: np.swapaxes(array, 0, -1) if array.ndim else array,
    "shorter": _shorter,
    "longer": _longer,
    "one column": lambda array, rng: array[..., :1] if array.ndim else array,
    "no column": lambda array, rng: array[..., :0] if array.ndim else array,
    "odd sides": lambda array, rng: array[..., :-1] if array.ndim else array,
    "one pixel": lambda array, rng: array[..., :1, :1] if array.ndim > 1 else array,
}


def fits(path: Path) -> bool:
    """Whether it holds arrays that can be changed by name."""
    return path.suffix in (".npz", ".npy") or h5py.is_hdf5(path)


def _damage(change: Change) -> Callable[[Path, random.Random], object]:
    def damage(path: Path, rng: random.Random) -> None:
        if path.suffix == ".npy":
            np.save(path, change(np.load(path), rng))
        elif path.suffix == ".npz":
            arrays = dict(np.load(path))
            key = rng.choice(sorted(arrays))
            arrays[key] = change(_numbers(arrays[key]), rng)
            np.savez(path, **arrays)
        else:
            _change_in_hdf5(path, change, rng)

    return damage


def _numbers(values: object) -> np.ndarray:
    """Give the values as an array; a few numbers where they are text or the like."""
    array = np.asarray(values)
    return array if array.dtype.kind in "biufc" else np.arange(4.0)


def _change_in_hdf5(path: Path, change: Change, rng: random.Random) -> None:
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = rng.choice(sorted(names))
        attributes = dict(file[name].attrs)
        values = change(_numbers(file[name][()]), rng)
        del file[name]
        file[name] = values
        for key, value in attributes.items():
            file[name].attrs[key] = value


def _without_a_key(path: Path, rng: random.Random) -> None:
    if path.suffix == ".npz":
        arrays = dict(np.load(path))
        del arrays[rng.choice(sorted(arrays))]
        np.savez(path, **arrays)
    elif path.suffix != ".npy":
        with h5py.File(path, "a") as file:
            names: list[str] = []
            file.visit(names.append)
            del file[rng.choice(sorted(names))]


def _two_keys_swapped(path: Path, rng: random.Random) -> None:
    if path.suffix == ".npz":
        arrays = dict(np.load(path))
        one, other = rng.choice(sorted(arrays)), rng.choice(sorted(arrays))
        arrays[one], arrays[other] = arrays[other], arrays[one]
        np.savez(path, **arrays)
    elif path.suffix != ".npy":
        with h5py.File(path, "a") as file:
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            one, other = rng.choice(sorted(names)), rng.choice(sorted(names))
            if one != other:
                file.move(one, "aside")
                file.move(other, one)
                file.move("aside", other)


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    **{f"an array {name}": _damage(change) for name, change in CHANGES.items()},
    "a key missing": _without_a_key,
    "two keys swapped": _two_keys_swapped,
}
