"""Photons held out: none is lost, the share is right, and what is held out knows nothing of what is kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptycho_core.held_out import SHARE, hold_out_photons


@given(seed=st.integers(0, 1000), mean=st.floats(0.01, 500), share=st.floats(0.02, 0.9))
def test_no_photon_is_lost_or_made(seed: int, mean: float, share: float) -> None:
    random = np.random.default_rng(seed)
    counts = random.poisson(mean, (3, 8, 8))
    amplitude = np.sqrt(counts).astype(np.float32)
    kept, held = hold_out_photons(amplitude, random, share=share)
    parts = np.rint(np.square(kept, dtype=np.float64)), np.rint(np.square(held, dtype=np.float64))
    assert np.array_equal(parts[0] + parts[1], counts)
    assert kept.dtype == held.dtype == np.float32


def test_both_parts_are_poisson_counts_that_know_nothing_of_each_other() -> None:
    random = np.random.default_rng(0)
    amplitude = np.sqrt(random.poisson(20.0, (400, 16, 16))).astype(np.float32)
    kept, held = (np.square(part, dtype=np.float64) for part in hold_out_photons(amplitude, random))
    for part, mean in ((kept, 20 * (1 - SHARE)), (held, 20 * SHARE)):
        assert abs(part.mean() / mean - 1) < 0.01
        assert abs(part.var() / mean - 1) < 0.03
    assert abs(np.corrcoef(kept.ravel(), held.ravel())[0, 1]) < 0.01


def test_counts_that_are_not_whole_keep_their_mean() -> None:
    random = np.random.default_rng(0)
    amplitude = np.sqrt(np.full((200, 16, 16), 2.3, np.float32))
    kept, held = (np.square(part, dtype=np.float64) for part in hold_out_photons(amplitude, random))
    assert abs((kept + held).mean() / 2.3 - 1) < 0.01
    assert np.allclose(kept + held, np.rint(kept + held), atol=1e-4)
