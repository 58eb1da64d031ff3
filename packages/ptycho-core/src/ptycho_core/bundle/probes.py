"""The probe as given and as used, in `probe.npz`: two complex64 arrays and nothing that needs a pickle."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from jaxtyping import Complex64

from ptycho_core.bundle.members import PROBE
from ptycho_core.bundle.refusal import TRAIN_AGAIN, refused
from ptycho_core.bundle.zipped import ZippedMembers, pack
from ptycho_core.io.npy import read_npy_header

__all__ = ["PROBE_KEYS", "decode_probes", "encode_probes", "is_stack"]

PROBE_KEYS = ("probe", "probe_given")  # each (P, N, N) complex64
_LONGEST_HEADER = 1 << 16  # of an NPY file; ours take 128 bytes


def is_stack(shape: tuple[int, ...]) -> bool:
    """Whether this is the shape (P, N, N) of a probe."""
    return len(shape) == 3 and shape[1] == shape[2] and min(shape) > 0


def encode_probes(source: str, probes: Mapping[str, np.ndarray]) -> bytes:
    """Write probes as an NPZ; equal arrays give equal bytes.

    Raises:
        BundleError: one is not complex64 of shape (P, N, N), or not finite.
    """
    files: dict[str, bytes] = {}
    for key, probe in probes.items():
        if probe.dtype != np.complex64 or not is_stack(probe.shape):
            then = "Convert it: `probe.astype(numpy.complex64)`, with an axis for the modes in front."
            raise refused(
                source, f"`{key}` is {probe.dtype} {probe.shape}", "complex64 of shape (P, N, N)", then
            )
        _check_finite(source, key, probe)
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.array(probe, "<c8", order="C"), allow_pickle=False)
        files[f"{key}.npy"] = buffer.getvalue()
    packed = io.BytesIO()
    pack(packed, files)
    return packed.getvalue()


def decode_probes(
    source: str, content: bytes, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Complex64[np.ndarray, "mode n n"]]:
    """Read the probes.

    Args:
        shapes: shape of each, from the manifest.

    Raises:
        BundleError: it is damaged, holds other arrays, pickled objects, or what is not finite.
    """
    members = ZippedMembers(f"{source}: {PROBE}", io.BytesIO(content))
    if sorted(members.names) != sorted(f"{key}.npy" for key in PROBE_KEYS):
        names = ", ".join(f"`{name}`" for name in members.names)
        raise refused(source, f"{PROBE} holds {names or 'nothing'}", f"{' and '.join(PROBE_KEYS)}")
    return {key: _decode(source, key, members, shapes[key]) for key in PROBE_KEYS}


def _decode(source: str, key: str, members: ZippedMembers, shape: tuple[int, ...]) -> np.ndarray:
    size = members.sizes[f"{key}.npy"]
    nbytes = shape[0] * shape[1] * shape[2] * np.dtype("c8").itemsize
    if size > nbytes + _LONGEST_HEADER:  # before it is decompressed
        found = f"{PROBE}: `{key}` claims {size} bytes"
        raise refused(source, found, f"complex64 of shape {shape}, as the manifest says")
    content = members.read(f"{key}.npy")
    try:
        header = read_npy_header(io.BytesIO(content))
    except (ValueError, EOFError) as error:
        raise refused(source, f"{PROBE}: `{key}` cannot be read ({error})", "an NPY array") from error
    if header.dtype.hasobject:
        found = f"{PROBE}: `{key}` holds pickled Python objects, which are never loaded"
        raise refused(source, found, "complex64", TRAIN_AGAIN)
    if header.dtype != np.dtype("<c8") or header.shape != shape or len(content) != nbytes + len(header.raw):
        found = f"{PROBE}: `{key}` is {header.dtype} {header.shape}"
        raise refused(source, found, f"complex64 {shape}, as the manifest says")
    flat = np.frombuffer(content, "<c8", offset=len(header.raw)).astype(np.complex64)
    probe = flat.reshape(shape, order="F" if header.fortran_order else "C")
    _check_finite(source, key, probe)
    return probe


def _check_finite(source: str, key: str, probe: np.ndarray) -> None:
    if not np.isfinite(probe).all():
        raise refused(source, f"{PROBE}: `{key}` holds NaN or infinity", "finite values", TRAIN_AGAIN)
