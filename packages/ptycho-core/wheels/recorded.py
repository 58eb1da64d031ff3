"""Write down every call that the kernel's check makes of a library, with what the library made of it.

`python recorded.py FILE` runs where ptycho-core is installed from its wheel. replay.c makes the same calls on
another platform, where there need not be a Python, and compares. So nothing here knows the structs: what a
field of theirs points to is found among the arrays whose addresses the kernel's callers took.

The file holds 8-byte numbers and plain bytes, all little-endian:

    number of calls, and of each
        length of the function's name, the name, whether it answers, its answer (float64)
        number of blocks of memory, and of each
            bytes, kind (0 room to work in, 1 float32, 2 float64, 3 others), its address modulo 64
            but for room to work in: the bytes before the call, the bytes after it
        number of structs, and of each
            bytes, the bytes, number of pointers, and of each
                place in the struct, block that it points into, place in the block
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_core.kernel import load_kernel, places, proximal, step, structs
from ptycho_core.kernel.check import largest_error

__all__ = ["Recorder"]

_ALIGNMENT = 64
_WORK, _FLOATS, _DOUBLES, _OTHERS = range(4)


class Recorder:
    """Stands in a library's place, passes every call on and keeps it as bytes."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Listen from now on to which arrays are passed."""
        self.calls: list[bytes] = []
        self._library = library
        self._arrays: dict[int, np.ndarray] = {}
        self._work: set[int] = set()
        given_address, given_room = step.address, step.aligned

        def address(values: np.ndarray) -> int:
            self._note(values)
            return given_address(values)

        def aligned(count: int) -> np.ndarray:
            made = given_room(count)
            self._work.add(self._note(made))
            return made

        for module in (structs, step, proximal, places):
            vars(module).update(address=address)
        step.aligned = places.aligned = aligned

    def __getattr__(self, name: str) -> Any:
        """Give what the library has; a function that takes structs is listened to."""
        found = getattr(self._library, name)
        takes_structs = bool(found.argtypes) and set(found.argtypes) == {ctypes.c_void_p}
        return self._listening(name, found) if takes_structs else found

    def _note(self, values: np.ndarray) -> int:
        """Keep the array that holds the values; return where it begins."""
        while isinstance(values.base, np.ndarray):
            values = values.base
        if not values.flags.c_contiguous:
            raise ValueError(f"an array of shape {values.shape} has gaps, and cannot be written down")
        self._arrays[values.ctypes.data] = values
        return values.ctypes.data

    def _listening(self, name: str, function: Any) -> Callable[..., Any]:
        def call(*references: Any) -> Any:
            given = [reference._obj for reference in references]
            pointers = [list(_pointers(one)) for one in given]
            starts = sorted({self._start_of(address) for inside in pointers for _, address in inside})
            before = [self._arrays[start].tobytes() for start in starts]
            bytes_of_structs = [bytes(one) for one in given]
            answer = function(*references)
            made = [_number(len(name)), name.encode(), _number(function.restype is not None)]
            made += [struct.pack("<d", 0.0 if answer is None else answer), _number(len(starts))]
            for start, content in zip(starts, before, strict=True):
                made += self._block(start, content)
            made.append(_number(len(given)))
            for content, inside in zip(bytes_of_structs, pointers, strict=True):
                made += [_number(len(content)), content, _number(len(inside))]
                for place, address in inside:
                    start = self._start_of(address)
                    made += [_number(place), _number(starts.index(start)), _number(address - start)]
            self.calls.append(b"".join(made))
            return answer

        return call

    def _block(self, start: int, before: bytes) -> list[bytes]:
        array = self._arrays[start]
        kinds = {"float32": _FLOATS, "complex64": _FLOATS, "float64": _DOUBLES}
        kind = _WORK if start in self._work else kinds.get(array.dtype.name, _OTHERS)
        head = [_number(array.nbytes), _number(kind), _number(start % _ALIGNMENT)]
        return head if kind == _WORK else [*head, before, array.tobytes()]

    def _start_of(self, address: int) -> int:
        for start, array in self._arrays.items():
            if start <= address < start + array.nbytes:
                return start
        raise ValueError("a struct points to memory whose address was not taken by `address`")


def _pointers(one: ctypes.Structure, place: int = 0) -> Iterator[tuple[int, int]]:
    """Yield place and value of every pointer of a struct that is not null, those of inner structs too."""
    for name, kind, *_ in one._fields_:
        at = place + getattr(type(one), name).offset
        if issubclass(kind, ctypes.Structure):
            yield from _pointers(getattr(one, name), at)
        elif kind is ctypes.c_void_p and getattr(one, name):
            yield at, getattr(one, name)


def _number(value: int) -> bytes:
    return struct.pack("<q", value)


def _main() -> None:
    kernel = load_kernel("wheel")
    if kernel.library is None:
        sys.exit(kernel.message)
    recorder: Any = Recorder(kernel.library)
    error = largest_error(recorder)
    Path(sys.argv[1]).write_bytes(_number(len(recorder.calls)) + b"".join(recorder.calls))
    sys.stdout.write(f"{len(recorder.calls)} calls, error {error:.1e}; {kernel.message}\n")


if __name__ == "__main__":
    _main()
