"""Damage of any kind is refused or does no harm; nothing but DataError ever leaves the door."""

from __future__ import annotations

import bz2
import io
import tempfile
import warnings
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptycho_config.errors import DataError
from ptycho_core import Scan, open_scan, save_scan, scan_from_arrays

N_FRAMES, N = 9, 8


def _archive(*, compressed: bool) -> bytes:
    rng = np.random.default_rng(1)
    y, x = np.divmod(np.arange(N_FRAMES), 3)
    content = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(
        content,
        diff3d=np.sqrt(rng.poisson(9, size=(N_FRAMES, N, N))).astype(np.float32),
        xcoords=x * 2.0,
        ycoords=y * 2.0,
        probeGuess=np.ones((N, N), np.complex64),
        _metadata=np.array('{"physics_parameters": {"nphotons": 576.0}}'),
    )
    return content.getvalue()


PLAIN, COMPRESSED = _archive(compressed=False), _archive(compressed=True)
PACKED = bz2.compress(PLAIN)


def _open(content: bytes) -> Scan | None:
    """Open a file with this content; None if it is refused as it should be."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        # What a damaged file warns of is not the point here, only what it raises.
        warnings.simplefilter("ignore", UserWarning)
        path = Path(directory) / "scan.npz"
        path.write_bytes(content)
        try:
            scan = open_scan(path)
            scan.amplitude()
        except DataError as error:
            assert "\n" not in str(error)
            return None
        return scan


ORIGINAL = _open(PLAIN)


def _assert_harmless(content: bytes) -> None:
    scan = _open(content)
    if scan is None:
        return
    assert ORIGINAL is not None
    np.testing.assert_array_equal(scan.amplitude(), ORIGINAL.amplitude())
    np.testing.assert_array_equal(scan.positions_px, ORIGINAL.positions_px)
    if scan.probe_source == "file":
        np.testing.assert_array_equal(scan.probe, ORIGINAL.probe)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    content=st.sampled_from([PLAIN, COMPRESSED, PACKED]),
    damage=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    ),
)
def test_overwritten_bytes_are_found_or_harmless(content: bytes, damage: list[tuple[float, int]]) -> None:
    damaged = bytearray(content)
    for where, value in damage:
        damaged[int(where * len(damaged))] = value
    _assert_harmless(bytes(damaged))


@settings(max_examples=80, deadline=None)
@given(
    content=st.sampled_from([PLAIN, COMPRESSED]),
    where=st.integers(0, 1 << 20),
    bit=st.integers(0, 7),
    end=st.booleans(),
)
def test_flipped_bits_in_the_headers_are_found_or_harmless(
    content: bytes, where: int, bit: int, end: bool
) -> None:
    # The interesting bytes: the first local header with its NPY header, or the zip directory at the end.
    damaged = bytearray(content)
    damaged[-1 - where % 500 if end else where % 190] ^= 1 << bit
    _assert_harmless(bytes(damaged))


@settings(max_examples=30, deadline=None)
@given(content=st.sampled_from([PLAIN, COMPRESSED, PACKED]), length=st.floats(0, 1, exclude_max=True))
def test_every_truncation_is_refused(content: bytes, length: float) -> None:
    assert _open(content[: int(length * len(content))]) is None


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"BZh9", b"\x93NUMPY"]))
def test_arbitrary_bytes_are_refused(content: bytes, start: bytes) -> None:
    assert _open(start + content) is None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=hnp.arrays(
        st.sampled_from(["f4", "f8", "f2", "i2", "u4", "i8", "?", "c8", "U2", ">f4"]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=9),
    ),
    key=st.sampled_from(
        ["diff3d", "xcoords", "probeGuess", "mask", "bad_pixels", "objectGuess", "Y", "_metadata"]
    ),
)
def test_any_array_under_any_key_is_taken_or_refused(values: np.ndarray, key: str) -> None:
    content = io.BytesIO()
    with np.load(io.BytesIO(PLAIN), allow_pickle=False) as valid:
        np.savez(content, **(dict(valid) | {key: values}))
    scan = _open(content.getvalue())
    if scan is not None:
        assert np.isfinite(scan.amplitude()).all()
        assert np.isfinite(scan.mean_pattern()).all()
        assert np.isfinite(scan.probe).all()


@settings(max_examples=40, deadline=None)
@given(
    frames=hnp.arrays(
        st.sampled_from(["u1", "u2", "i4", "u8"]),
        (N_FRAMES, N, N),
        elements=st.integers(0, 120),
        fill=st.just(1),
    ).filter(lambda frames: frames.any()),
    as_amplitude=st.booleans(),
    corner=st.booleans(),
    mask=st.sampled_from(["none", "one", "per frame"]),
    modes=st.integers(1, 3),
    far_away=st.floats(-1e6, 1e6),
    compressed=st.booleans(),
)
def test_saved_scans_open_equal(
    frames: np.ndarray,
    as_amplitude: bool,
    corner: bool,
    mask: str,
    modes: int,
    far_away: float,
    compressed: bool,
) -> None:
    rng = np.random.default_rng(3)
    bad = {"none": None, "one": rng.random((N, N)) < 0.1, "per frame": rng.random((N_FRAMES, N, N)) < 0.1}[
        mask
    ]
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            scan = scan_from_arrays(
                np.sqrt(frames).astype(np.float32) if as_amplitude else frames,
                rng.uniform(0, 9, (N_FRAMES, 2)) + far_away,
                rng.normal(size=(modes, N, N)) + 1j * rng.normal(size=(modes, N, N)),
                measurement="amplitude" if as_amplitude else "counts",
                dc="corner" if corner else "center",
                bad_pixels=bad,
                ground_truth=np.full((20, 30), 1 + 2j),
                patch_truth=np.full((N_FRAMES, N, N), 3j),
                pixel_size_m=1e-8,
                energy_ev=8000.0,
                nphotons=1e6,
                metadata={"sample": "tungsten", "physics_parameters": {"gridsize": 1}},
            )
        except DataError:  # the mask may have hidden all light
            return
        opened = open_scan(save_scan(scan, Path(directory) / "scan.npz", compressed=compressed))
        assert opened.frames.dtype == scan.frames.dtype
        for ours, theirs in (
            (opened.amplitude(), scan.amplitude()),
            (opened.counts(), scan.counts()),
            (opened.good_pixels(), scan.good_pixels()),
            (opened.positions_px, scan.positions_px),
            (opened.probe, scan.probe),
            (opened.ground_truth, scan.ground_truth),
            (opened.patch_truth, scan.patch_truth),
        ):
            np.testing.assert_array_equal(ours, theirs)
    assert opened.measurement == scan.measurement
    assert (opened.pixel_size_m, opened.energy_ev, opened.distance_m) == (1e-8, 8000.0, None)
    assert opened.nphotons == 1e6
    assert opened.metadata["sample"] == "tungsten"
    assert opened.metadata["physics_parameters"]["gridsize"] == 1
    assert opened.position_convention == "index"
