"""Laws of the optics, one function each, over every implementation there is.

An implementation is a set of functions on NumPy arrays and the accuracy of its number type. The NumPy
reference is the first; a core joins by appending an `Optics` that converts to its own arrays and back.
The suite is itself tested: optics broken on purpose must each fail the law that they break.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptycho_core import physics
from ptycho_core.physics import group_object


@dataclass(frozen=True)
class Optics:
    """One implementation of the forward model.

    Arrays are NumPy's: exit waves (mode, n, n), patches (n, n), positions and shifts (y, x).
    """

    name: str
    tolerance: float
    """Relative; what some ten operations leave in the implementation's number type."""
    interact: Callable
    interact_adjoint_object: Callable
    interact_adjoint_probe: Callable
    propagate: Callable
    propagate_adjoint: Callable
    measure: Callable
    translate: Callable
    translate_adjoint: Callable
    merge: Callable
    extract: Callable


REFERENCE = Optics(
    name="numpy",
    tolerance=1e-12,
    interact=physics.interact,
    interact_adjoint_object=physics.interact_adjoint_object,
    interact_adjoint_probe=physics.interact_adjoint_probe,
    propagate=physics.propagate,
    propagate_adjoint=physics.propagate_adjoint,
    measure=physics.measure,
    translate=physics.translate,
    translate_adjoint=physics.translate_adjoint,
    merge=group_object.merge,
    extract=group_object.extract,
)
IMPLEMENTATIONS = [REFERENCE]

every_optics = pytest.mark.parametrize("optics", IMPLEMENTATIONS, ids=lambda optics: optics.name)
law = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])

seeds = st.integers(0, 2**32 - 1)
sides = st.sampled_from([2, 4, 6, 16])
modes = st.integers(1, 3)
shifts = st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(np.array)


def field(seed, *shape):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def inner(a, b):
    return np.vdot(a, b)


def size(a):
    return np.linalg.norm(np.ravel(a))


def is_adjoint(forward, adjoint, x, y, tolerance):
    """<y, A x> = <A* y, x>, relative to the sizes of the arguments."""
    return abs(inner(y, forward(x)) - inner(adjoint(y), x)) <= tolerance * size(x) * size(y) * 10


@every_optics
@law
@given(seed=seeds, n=sides, p=modes)
def test_propagation_keeps_energy_and_has_its_adjoint(optics, seed, n, p):
    wave, other = field(seed, 2, p, n, n)
    assert size(optics.propagate(wave)) == pytest.approx(size(wave), rel=optics.tolerance)
    assert is_adjoint(optics.propagate, optics.propagate_adjoint, wave, other, optics.tolerance)


@every_optics
@law
@given(seed=seeds, n=sides, p=modes)
def test_propagating_there_and_back_changes_nothing(optics, seed, n, p):
    wave = field(seed, p, n, n)
    back = optics.propagate_adjoint(optics.propagate(wave))
    assert size(back - wave) <= optics.tolerance * size(wave) * 10


@every_optics
@pytest.mark.parametrize("n", [4, 64])
def test_zero_frequency_lands_on_index_half(optics, n):
    detector = np.abs(optics.propagate(np.ones((1, n, n), complex)))[0]
    assert np.unravel_index(detector.argmax(), detector.shape) == (n // 2, n // 2)
    assert detector[n // 2, n // 2] == pytest.approx(n, rel=optics.tolerance)
    assert size(detector) == pytest.approx(n, rel=optics.tolerance)


@every_optics
@law
@given(seed=seeds, n=sides, p=modes)
def test_interaction_has_its_adjoints_in_object_and_probe(optics, seed, n, p):
    probe, wave = field(seed, 2, p, n, n)
    patch = field(seed + 1, n, n)
    assert is_adjoint(
        lambda o: optics.interact(probe, o),
        lambda w: optics.interact_adjoint_object(probe, w),
        patch,
        wave,
        optics.tolerance * max(1, np.abs(probe).max()),
    )
    assert is_adjoint(
        lambda q: optics.interact(q, patch),
        lambda w: optics.interact_adjoint_probe(patch, w),
        probe,
        wave,
        optics.tolerance * max(1, np.abs(patch).max()),
    )


@every_optics
@law
@given(seed=seeds, n=sides, share=st.floats(0.01, 0.99))
def test_incoherent_modes_that_share_one_wave_measure_as_the_wave(optics, seed, n, share):
    wave = field(seed, 1, n, n)
    split = np.concatenate([np.sqrt(share) * wave, np.exp(0.3j) * np.sqrt(1 - share) * wave])
    np.testing.assert_allclose(optics.measure(split), optics.measure(wave), rtol=100 * optics.tolerance)


@every_optics
@law
@given(seed=seeds, n=sides, p=modes, angle=st.floats(-3, 3))
def test_the_measurement_does_not_see_a_global_phase_and_counts_all_energy(optics, seed, n, p, angle):
    wave = field(seed, p, n, n)
    found = optics.measure(wave)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(size(wave) ** 2, rel=100 * optics.tolerance)
    np.testing.assert_allclose(optics.measure(wave * np.exp(1j * angle)), found, rtol=100 * optics.tolerance)


@every_optics
@law
@given(seed=seeds, h=st.integers(1, 9), w=st.integers(1, 9), shift=shifts)
def test_translation_has_its_adjoint(optics, seed, h, w, shift):
    image, other = field(seed, 2, h, w)
    assert is_adjoint(
        lambda f: optics.translate(f, shift),
        lambda f: optics.translate_adjoint(f, shift),
        image,
        other,
        optics.tolerance,
    )


@every_optics
@law
@given(seed=seeds, shift=shifts)
def test_the_adjoint_of_a_translation_is_the_opposite_translation(optics, seed, shift):
    image = field(seed, 7, 5)
    np.testing.assert_allclose(
        optics.translate_adjoint(image, shift), optics.translate(image, -shift), atol=10 * optics.tolerance
    )


@every_optics
@law
@given(seed=seeds, dy=st.integers(-3, 3), dx=st.integers(-3, 3))
def test_whole_translations_move_content_exactly(optics, seed, dy, dx):
    image = field(seed, 7, 9)
    moved = optics.translate(image, np.array([dy, dx], float))
    padded = np.pad(image, 3)
    np.testing.assert_array_equal(moved, padded[3 - dy : 10 - dy, 3 - dx : 12 - dx])


@every_optics
def test_the_dot_lands_where_it_was_sent(optics):
    dot = np.zeros((6, 6), complex)
    dot[2, 2] = 1
    assert optics.translate(dot, np.array([2.0, 1.0]))[4, 3] == 1


@every_optics
@law
@given(seed=seeds, g=st.sampled_from([2, 3]), by_probe=st.booleans())
def test_a_constant_object_stays_constant_up_to_the_edge_of_the_coverage(optics, seed, g, by_probe):
    rng = np.random.default_rng(seed)
    relative = rng.uniform(-6, 6, (g * g, 2))
    weights = rng.random((16, 16)) + 1e-3 if by_probe else np.ones((16, 16))
    constant = 0.7 * np.exp(0.4j)
    merged = optics.merge(np.full((g * g, 16, 16), constant), relative, weights=weights)
    covered = merged != 0
    assert covered.sum() >= 16 * 16
    np.testing.assert_allclose(merged[covered], constant, rtol=100 * optics.tolerance)


@every_optics
@law
@given(seed=seeds, g=st.sampled_from([2, 3]))
def test_merge_then_extract_gives_back_patches_at_whole_steps(optics, seed, g):
    rng = np.random.default_rng(seed)
    whole = rng.integers(0, 12, (g * g, 2))
    obj = field(seed, 28, 28)
    patches = np.stack([obj[y : y + 16, x : x + 16] for y, x in whole])
    # The centre is a mean and not whole; only steps between members are.
    relative = whole - whole.mean(axis=0)
    extracted = optics.extract(optics.merge(patches, relative), relative, 16)
    np.testing.assert_allclose(extracted, patches, atol=1e4 * optics.tolerance)


# The suite bites: each broken optics fails the law it breaks.

BROKEN = [
    (
        "a transform that is not orthonormal",
        {"propagate": lambda w: 2 * physics.propagate(w)},
        test_propagation_keeps_energy_and_has_its_adjoint,
        {"seed": 0, "n": 4, "p": 1},
    ),
    (
        "a way back that is not the adjoint",
        {"propagate_adjoint": lambda w: np.fft.ifft2(w, norm="ortho")},
        test_propagating_there_and_back_changes_nothing,
        {"seed": 0, "n": 4, "p": 1},
    ),
    (
        "zero frequency in the corner",
        {"propagate": lambda w: np.fft.fft2(w, norm="ortho")},
        test_zero_frequency_lands_on_index_half,
        {"n": 16},
    ),
    (
        "an adjoint without conjugation",
        {"interact_adjoint_object": lambda p, w: (p * w).sum(axis=0)},
        test_interaction_has_its_adjoints_in_object_and_probe,
        {"seed": 0, "n": 4, "p": 2},
    ),
    (
        "modes added before the modulus",
        {"measure": lambda w: np.abs(w.sum(axis=0)) ** 2},
        test_incoherent_modes_that_share_one_wave_measure_as_the_wave,
        {"seed": 0, "n": 4, "share": 0.5},
    ),
    (
        "a measurement that loses light",
        {"measure": lambda w: 0.99 * physics.measure(w)},
        test_the_measurement_does_not_see_a_global_phase_and_counts_all_energy,
        {"seed": 0, "n": 4, "p": 2, "angle": 1.0},
    ),
    (
        "content that moves the other way",
        {"translate": lambda f, t: physics.translate(f, -t)},
        test_the_dot_lands_where_it_was_sent,
        {},
    ),
    (
        "an adjoint that moves the same way",
        {"translate_adjoint": physics.translate},
        test_the_adjoint_of_a_translation_is_the_opposite_translation,
        {"seed": 0, "shift": np.array([1.5, -0.5])},
    ),
    (
        "a translation that wraps around",
        {"translate": lambda f, t: np.roll(f, tuple(t.astype(int)), (0, 1))},
        test_whole_translations_move_content_exactly,
        {"seed": 0, "dy": 2, "dx": -1},
    ),
    (
        "a denominator with a constant added",
        {"merge": lambda p, r, weights=None: 0.999 * group_object.merge(p, r, weights=weights)},
        test_a_constant_object_stays_constant_up_to_the_edge_of_the_coverage,
        {"seed": 0, "g": 2, "by_probe": False},
    ),
    (
        "patches cut on the wrong side of the centre",
        {"extract": lambda m, r, side: group_object.extract(m, -r, side)},
        test_merge_then_extract_gives_back_patches_at_whole_steps,
        {"seed": 0, "g": 2},
    ),
]


@pytest.mark.parametrize(("how", "fault", "law_broken", "case"), BROKEN, ids=[row[0] for row in BROKEN])
def test_broken_optics_fail_their_law(how, fault, law_broken, case):
    optics = replace(REFERENCE, name=how, **fault)
    one_case = law_broken.hypothesis.inner_test if hasattr(law_broken, "hypothesis") else law_broken
    one_case(optics=REFERENCE, **case)
    with pytest.raises(AssertionError):
        one_case(optics=optics, **case)
