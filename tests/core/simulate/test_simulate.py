"""Simulated scans: dose, truth, reproducibility, and that wrong requests are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho_config.errors import ConfigError
from ptycho_core import Scan
from ptycho_core.physics.residual import data_residual
from ptycho_core.simulate import (
    OBJECT_KINDS,
    POSITION_KINDS,
    PROBE_KINDS,
    START_KINDS,
    effective_diameter_px,
    make_positions,
    make_probe,
    simulate_scan,
    simulate_twin,
)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(OBJECT_KINDS),
    st.sampled_from(PROBE_KINDS),
    st.sampled_from(POSITION_KINDS),
    st.sampled_from(START_KINDS),
    st.integers(0, 1000),
)
def test_the_truth_explains_the_counts_to_the_noise(
    obj: str, probe: str, positions: str, start: str, seed: int
) -> None:
    made = simulate_scan(
        object_kind=obj,
        probe_kind=probe,
        position_kind=positions,
        start_kind=start,
        frames=12,
        frame_px=32,
        photons=1e5,
        seed=seed,
    )
    truth = data_residual(made.obj, made.probe, made.scan.positions_px, made.scan)
    # 1e5 photons on 1024 pixels: amplitudes of ten and an error of a half where the light is
    assert truth.value < 0.2
    assert truth.scale == pytest.approx(1, abs=0.02)
    assert made.scan.mean_counts_per_frame() == pytest.approx(1e5, rel=0.01)
    assert made.dose.mean() == pytest.approx(1e5, rel=1e-5)


def test_the_same_seed_gives_the_same_scan_and_another_does_not() -> None:
    first, again, other = (simulate_scan(frames=5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.scan.frames, again.scan.frames)
    assert np.array_equal(first.obj, again.obj)
    assert not np.array_equal(first.obj, other.obj)


def test_modes_are_orthogonal_and_share_the_dose() -> None:
    probe = make_probe("focus", 64, np.random.default_rng(0), n_modes=3)
    gram = np.einsum("pij,qij->pq", probe.conj(), probe)
    assert np.trace(gram).real == pytest.approx(1, rel=1e-5)
    assert np.abs(gram - np.diag(np.diag(gram))).max() < 1e-5


def test_the_step_follows_from_the_overlap() -> None:
    probe = make_probe("pinhole", 64, np.random.default_rng(0))
    made = simulate_scan(probe_kind="pinhole", position_kind="raster", overlap=0.75, frames=16)
    step = np.diff(np.unique(np.round(made.scan.positions_px[:, 0], 3)))
    assert step == pytest.approx(0.25 * effective_diameter_px(probe), rel=0.02)


def test_background_and_bad_pixels_are_in_the_counts() -> None:
    plain = simulate_scan(frames=6, photons=1e5)
    dirty = simulate_scan(frames=6, photons=1e5, background=0.1, bad_pixel_fraction=0.02)
    assert dirty.scan.bad_pixels is not None
    assert dirty.scan.bad_pixels.any()
    assert dirty.scan.mean_counts_per_frame() > 1.05 * plain.scan.mean_counts_per_frame()


def test_the_twin_of_the_real_scan_has_its_positions_counts_and_start(siemens_star: Scan) -> None:
    few = siemens_star.select(np.arange(20))
    twin = simulate_twin(few, few.probe, seed=1)
    moved = twin.scan.positions_px - few.positions_px
    assert np.allclose(moved, moved[0])
    assert twin.scan.mean_counts_per_frame() == pytest.approx(few.mean_counts_per_frame(), rel=0.01)
    assert np.array_equal(twin.scan.probe, few.probe)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"object_kind": "cat"}, "Unknown object `cat`"),
        ({"probe_kind": "laser"}, "Unknown probe"),
        ({"position_kind": "zigzag"}, "Unknown positions"),
        ({"start_kind": "none"}, "Unknown start probe"),
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"photons": 0.0}, "`photons` is 0.0"),
        ({"seed": -1}, "`seed` is -1"),
        ({"frames": 0}, "n_frames is 0"),
        ({"modes": 9}, "n_modes is 9"),
    ],
)
def test_wrong_requests_are_refused_by_name(wrong: dict, text: str) -> None:
    # The kinds reach the generators as text from a command line; annotations are not checked there.
    with pytest.raises(Exception, match=text if not _annotated(wrong) else "ype") as refusal:
        simulate_scan(**wrong)
    assert _annotated(wrong) or isinstance(refusal.value, ConfigError)


def _annotated(wrong: dict) -> bool:
    return any(name.endswith("_kind") for name in wrong)


@pytest.mark.parametrize("kind", POSITION_KINDS)
def test_every_path_covers_the_same_area(kind: str) -> None:
    positions = make_positions(kind, 400, 5.0, np.random.default_rng(0))
    assert positions.min() == 0
    extent = np.ptp(positions, axis=0)
    assert 0.6 * 100**2 < np.prod(extent) < 1.8 * 100**2
