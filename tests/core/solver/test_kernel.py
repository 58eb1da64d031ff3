"""The compiled step: equal to the formulas, and left out wherever it cannot be trusted."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.errors import BackendUnavailableError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.kernel import FusedStep, Steps, build, load, load_kernel, structs
from ptycho_core.kernel.check import reference_step
from ptycho_core.kernel.kept import keep, own_folder, sound_library
from ptycho_core.kernel.step import radices_of
from ptycho_core.kernel.structs import layout_difference
from ptycho_core.solver import device
from ptycho_core.solver.shifts import shift_filters, shift_lines, shift_weights
from ptycho_core.solver.strain import STRAIN_COUNT, quadratic_phases, strain_products

COMPILER = shutil.which("cc")
needs_kernel = pytest.mark.skipif(load_kernel().library is None, reason=load_kernel().message)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler is on the PATH")


def complex_values(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)


@needs_kernel
@given(
    side=st.sampled_from([2, 6, 10, 16, 32, 48, 50, 64, 80, 84, 96, 98, 144, 160]),
    n_modes=st.integers(1, 4),
    n_variations=st.integers(0, 2),
    n_frames=st.integers(1, 11),
    threads=st.integers(1, 5),
    mask=st.sampled_from(["none", "shared", "each"]),
    moves=st.sampled_from([(0.7, 0.9), (0.0, 0.9), (0.7, 0.0)]),
    seed=st.integers(0, 1000),
)
def test_the_step_is_that_of_the_formulas(
    side: int,
    n_modes: int,
    n_variations: int,
    n_frames: int,
    threads: int,
    mask: str,
    moves: tuple[float, float],
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    n_filters, before = 4, 3
    n_basis = n_filters * (1 + n_variations)
    n_all = n_frames + before + 2
    frames = slice(before, before + n_frames)
    room = random.integers(0, 30, 2)
    canvas = tuple(int(side + extra + 7) for extra in room)
    corners = random.integers(3, room + 4, (n_all, 2))
    shapes = {"none": None, "shared": (side, side), "each": (n_all, side, side)}
    shape = shapes[mask]
    good = None if shape is None else (random.uniform(size=shape) > 0.2).astype(np.float32)
    amplitude = random.uniform(0, 3, (n_all, side, side)).astype(np.float32)
    filters, weights = complex_values(random, n_filters, side, side), random.normal(size=(n_all, n_basis))
    weights = weights.astype(np.float32)
    state = {
        "spectrum": complex_values(random, n_modes, side, side),
        "spectrum_velocity": complex_values(random, n_modes, side, side),
        "variations": complex_values(random, n_modes, n_variations, side, side),
        "obj": complex_values(random, *canvas),
        "object_velocity": complex_values(random, *canvas),
    }
    expected = {name: values.astype(np.complex128) for name, values in state.items()}
    steps = Steps(moves[0], moves[1], object_momentum=0.5, probe_momentum=0.8)
    first, last = corners[frames].min(axis=0), corners[frames].max(axis=0) + side
    window = (slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1])))
    fused = FusedStep(
        load_kernel().library,
        amplitude=amplitude,
        good=good,
        filters=filters,
        offset=0.02,
        object_floor=0.25,
        largest_batch=n_frames,
        threads=threads,
    )
    whole_mask = np.ones((side, side)) if good is None else good[frames] if good.ndim == 3 else good
    of_the_first = reference_step(
        amplitude=amplitude[frames][:1],
        good=whole_mask[:1] if whole_mask.ndim == 3 else whole_mask,
        filters=filters,
        weights=weights[frames][:1],
        corners=corners[frames][:1],
        offset=0.02,
        floor=0.25,
        steps=Steps(0.0, 0.0, 0.0, 0.0),
        **{name: values.copy() for name, values in expected.items()},
    ).misfit
    placed = {"corners": corners[frames], "weights": weights[frames]}
    found = fused(frames, window, steps, **placed, **state, with_overlaps=True, with_curvature=True)
    misfit = found.misfit
    assert fused.frame_misfit[before] == pytest.approx(of_the_first, rel=1e-5)
    assert fused.frame_misfit.sum(dtype=np.float64) == pytest.approx(misfit, rel=1e-5)
    assert not fused.frame_misfit[:before].any()
    outside = {name: expected[name].copy() for name in ("obj", "object_velocity")}
    right = reference_step(
        amplitude=amplitude[frames],
        good=whole_mask,
        filters=filters,
        weights=weights[frames],
        corners=corners[frames],
        offset=0.02,
        floor=0.25,
        steps=steps,
        **expected,
        window=window,
    )
    if not steps.object_step:
        expected |= outside
    if not steps.probe_step:
        expected["spectrum"] -= expected["spectrum_velocity"]
        expected["spectrum_velocity"] /= steps.probe_momentum
    for name, kept in outside.items():  # momentum acts within the window of the batch alone
        kept[window] = expected[name][window]
        expected[name] = kept
    assert misfit == pytest.approx(right.misfit, rel=1e-5)
    pairs = {name: (values, expected[name]) for name, values in state.items() if values.size}
    pairs["overlaps"] = found.overlaps, right.overlaps
    if steps.object_step:  # momentum alone was taken back above
        pairs["curvature"] = found.curvature, right.curvature
    for name, (values, wanted) in pairs.items():
        assert np.abs(values - wanted).max() <= 1e-5 * np.abs(wanted).max(), name


@needs_kernel
@given(
    side=st.sampled_from([6, 16, 32, 50, 64]),
    n_modes=st.integers(1, 2),
    n_variations=st.integers(1, 3),
    n_frames=st.integers(1, 9),
    threads=st.integers(1, 3),
    degree=st.integers(0, 4),
    probe_step=st.sampled_from([0.0, 0.9]),
    seed=st.integers(0, 1000),
)
def test_spectra_summed_up_first_are_the_sum_of_the_basis(
    side: int,
    n_modes: int,
    n_variations: int,
    n_frames: int,
    threads: int,
    degree: int,
    probe_step: float,
    seed: int,
) -> None:
    """Variations are mixed per frame where the filters are products of lines; the law is that of the sum."""
    random = np.random.default_rng(seed)
    canvas = (side + 9, side + 12)
    base = shift_weights(random.uniform(-0.5, 0.5, (n_frames, 2)), degree)
    mix = np.hstack([random.uniform(0.8, 1.2, (n_frames, 1)), random.normal(size=(n_frames, n_variations))])
    mix[0, 0] = 0  # a frame that has the variations alone
    weights = (mix[:, :, None] * base[:, None]).reshape(n_frames, -1).astype(np.float32)
    corners = random.integers(2, (8, 11), (n_frames, 2))
    amplitude = random.uniform(0, 3, (n_frames, side, side)).astype(np.float32)
    state = {
        "spectrum": complex_values(random, n_modes, side, side),
        "spectrum_velocity": complex_values(random, n_modes, side, side),
        "variations": complex_values(random, n_modes, n_variations, side, side),
        "obj": complex_values(random, *canvas),
        "object_velocity": complex_values(random, *canvas),
    }
    found = []
    for lines in (None, shift_lines(side, degree)):
        fused = FusedStep(
            load_kernel().library,
            amplitude=amplitude,
            good=None,
            filters=shift_filters(side, degree),
            offset=0.3,
            object_floor=0.25,
            largest_batch=n_frames,
            threads=threads,
            lines=lines,
        )
        moved = {name: values.copy() for name, values in state.items()}
        result = fused(
            slice(0, n_frames),
            (slice(0, canvas[0]), slice(0, canvas[1])),
            Steps(0.7, probe_step, 0.5, 0.8),
            corners=corners,
            weights=weights,
            **moved,
            with_overlaps=True,
        )
        found.append({**moved, "overlaps": result.overlaps, "misfit": np.array(result.misfit)})
    for name, summed in found[0].items():
        assert np.abs(found[1][name] - summed).max() <= 2e-5 * np.abs(summed).max(), name


@needs_kernel
@given(
    side=st.sampled_from([6, 16, 32, 50, 64]),
    n_modes=st.integers(1, 2),
    n_variations=st.integers(0, 2),
    n_frames=st.integers(1, 6),
    threads=st.integers(1, 3),
    mask=st.sampled_from(["none", "shared", "each"]),
    seed=st.integers(0, 1000),
)
def test_the_products_of_a_strain_are_those_of_the_arrays(
    side: int, n_modes: int, n_variations: int, n_frames: int, threads: int, mask: str, seed: int
) -> None:
    random, n_all, n_filters = np.random.default_rng(seed), 9, 4
    shape = {"none": None, "shared": (side, side), "each": (n_all, side, side)}[mask]
    good = None if shape is None else (random.uniform(size=shape) > 0.2).astype(np.float32)
    amplitude = random.uniform(0, 3, (n_all, side, side)).astype(np.float32)
    frames = np.sort(random.permutation(n_all)[:n_frames])
    filters, phases = complex_values(random, n_filters, side, side), quadratic_phases(side)
    spectrum = complex_values(random, n_modes, side, side)
    variations = complex_values(random, n_modes, n_variations, side, side)
    obj = complex_values(random, side + 9, side + 12)
    n_basis = n_filters * (1 + n_variations)
    placed = {
        "corners": random.integers(2, (8, 11), (n_frames, 2)),
        "weights": random.normal(size=(n_frames, n_basis)).astype(np.float32),
    }
    fused = FusedStep(
        load_kernel().library,
        amplitude=amplitude,
        good=good,
        filters=filters,
        offset=0.3,
        object_floor=0.25,
        largest_batch=n_frames,
        threads=threads,
    )
    found = fused.strain(
        frames, phases, **placed, spectrum=spectrum, variations=variations, obj=obj, count=STRAIN_COUNT
    )
    right = strain_products(
        obj,
        np.concatenate([spectrum[:, None], variations], axis=1),
        filters,
        phases,
        **placed,
        amplitude=amplitude[frames],
        good=good if good is None or good.ndim == 2 else good[frames],
        offset=0.3,
    )
    size = np.sqrt(np.diag(right))
    assert np.abs((found - right) / size / size[:, None]).max() < 1e-5


@needs_kernel
def test_a_window_beyond_the_canvas_is_refused() -> None:
    random, side = np.random.default_rng(0), 16
    fused = FusedStep(
        load_kernel().library,
        amplitude=np.ones((1, side, side), np.float32),
        good=None,
        filters=complex_values(random, 1, side, side),
        offset=0.0,
        object_floor=0.25,
        largest_batch=1,
        threads=1,
    )
    state = {name: complex_values(random, 1, side, side) for name in ("spectrum", "spectrum_velocity")}
    state |= {name: complex_values(random, side + 4, side + 4) for name in ("obj", "object_velocity")}
    for corner in ([-1, 0], [0, -1], [5, 0], [0, 5]):
        with pytest.raises(ValueError, match="canvas"):
            fused(
                slice(0, 1),
                (slice(0, side + 4), slice(0, side + 4)),
                Steps(1.0, 1.0, 0.0, 0.0),
                corners=np.array([corner]),
                weights=np.ones((1, 1), np.float32),
                **state,
            )


@given(st.integers(1, 1024))
def test_radices_multiply_to_the_length_or_there_are_none(length: int) -> None:
    radices = radices_of(length)
    assert set(radices) <= {2, 3, 4, 5, 7, 8}
    assert not radices or np.prod(radices) == length
    powers = itertools.product(range(11), range(7), range(5), range(4))
    known = any(length == 2**a * 3**b * 5**c * 7**d for a, b, c, d in powers)
    assert FusedStep.fits(length) == (known and length > 1)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of kernels, no wheel that carries one, and a loader that has forgotten what it found."""
    monkeypatch.setattr(load, "_folder", lambda: tmp_path / "no libraries")
    monkeypatch.setattr(build, "cache_directory", lambda: tmp_path / "cache")
    monkeypatch.delenv("CC", raising=False)
    load_kernel.cache_clear()
    yield tmp_path / "cache" / "kernels"
    load_kernel.cache_clear()


def made_compiler(folder: Path, script: str) -> str:
    path = folder / "own-cc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@needs_compiler
def test_it_is_compiled_once_and_then_taken_from_the_cache(fresh_cache: Path) -> None:
    first = load_kernel()
    assert first.library is not None
    assert "compiled in" in first.message
    kept = list(fresh_cache.iterdir())
    assert [path.suffix for path in kept] == [".so"]
    assert stat.S_IMODE(fresh_cache.stat().st_mode) == 0o700
    written = kept[0].stat().st_mtime_ns
    load_kernel.cache_clear()
    second = load_kernel()
    assert "from the cache" in second.message
    assert kept[0].stat().st_mtime_ns == written


def cut(kept: Path, elsewhere: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:5000])


def blocks_of_zeros(kept: Path, elsewhere: Path) -> None:
    content = bytearray(kept.read_bytes())
    content[4096 : 3 * 4096] = bytes(2 * 4096)
    kept.write_bytes(content)


def no_library(kept: Path, elsewhere: Path) -> None:
    kept.write_bytes(b"not a library")


def open_to_all(kept: Path, elsewhere: Path) -> None:
    kept.chmod(0o777)


def a_link(kept: Path, elsewhere: Path) -> None:
    kept.rename(elsewhere)
    kept.symlink_to(elsewhere)


def a_pipe(kept: Path, elsewhere: Path) -> None:
    kept.unlink()
    os.mkfifo(kept)


@needs_compiler
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut, "was damaged"),
        (blocks_of_zeros, "was damaged"),
        (no_library, "was damaged"),
        (open_to_all, "was not the user's alone"),
        (a_link, "could not be read"),
        (a_pipe, "was not the user's alone"),
    ],
)
def test_a_library_that_is_not_whole_and_ours_is_made_anew(
    fresh_cache: Path, tmp_path: Path, harm: Callable[[Path, Path], None], said: str
) -> None:
    # A process of its own made it; here nothing is mapped that could be taken away under it.
    folder, key = own_folder(fresh_cache), "a"
    (tmp_path / "made.so").write_bytes(bytes(range(256)) * 80)
    kept = keep(tmp_path / "made.so", folder, key)
    assert sound_library(folder, key) == (kept, "")
    harm(kept, tmp_path / "elsewhere.so")
    assert sound_library(folder, key) == (None, said)
    assert list(fresh_cache.iterdir()) == []


@needs_compiler
def test_one_line_says_that_a_damaged_library_was_made_anew(fresh_cache: Path) -> None:
    path, _ = build._built(COMPILER, own_folder(fresh_cache), build._key(build._compiler()))
    cut(path, path)
    kernel = load_kernel()
    assert kernel.library is not None
    assert "compiled in" in kernel.message
    assert "the one in the cache was damaged and was removed" in kernel.message
    assert "\n" not in kernel.message
    (kept,) = fresh_cache.iterdir()
    assert kept.name.rpartition("-")[2] == f"{hashlib.sha256(kept.read_bytes()).hexdigest()[:20]}.so"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@needs_compiler
def test_code_that_crashes_does_so_in_a_process_of_its_own(
    fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "printf '\n__attribute__((constructor)) static void fall(void) { *(volatile int *)8 = 1; }\n'"
    monkeypatch.setenv("CC", made_compiler(tmp_path, f'{script} >> fused.c; exec {COMPILER} "$@"'))
    kernel = load_kernel()
    assert kernel.library is None
    assert "crashed when it was tried (SIGSEGV)" in kernel.message
    assert list(fresh_cache.iterdir()) == []


def test_what_killed_builds_left_is_cleared_and_what_is_fresh_stays(fresh_cache: Path) -> None:
    fresh_cache.mkdir(parents=True, mode=0o700)
    for name in ("build-old", "build-new"):
        (fresh_cache / name).mkdir()
        (fresh_cache / name / "fused.c").write_text("")
    (fresh_cache / ".step-a.so.12.part").write_text("")
    for name in ("build-old", ".step-a.so.12.part"):
        os.utime(fresh_cache / name, (0, 0))
    own_folder(fresh_cache)
    assert [path.name for path in fresh_cache.iterdir()] == ["build-new"]


def test_without_a_compiler_the_arrays_compute_alone(
    fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _, choice = device.choose_arrays(SolverExecutionConfig(accelerator="cpu"))
    assert "no compiled kernel: no C compiler is on the PATH. Install gcc or clang" in choice.message
    load_kernel.cache_clear()
    with pytest.raises(BackendUnavailableError, match=r"no C compiler.*Leave out `--kernel required`"):
        device.choose_arrays(SolverExecutionConfig(accelerator="cpu", kernel="required"))


def test_it_can_be_switched_off() -> None:
    arrays, choice = device.choose_arrays(SolverExecutionConfig(accelerator="cpu", kernel="off"))
    assert arrays.kernel is None
    assert "switched off" in choice.record()["kernel"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'fused.c:1: what is this?' >&2; exit 1", "what is this"),
        ('while [ $# -gt 0 ]; do [ "$1" = -o ] && echo nonsense > "$2"; shift; done', "."),
    ],
)
def test_a_compiler_that_fails_leaves_nothing_behind(
    fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setenv("CC", made_compiler(tmp_path, script))
    kernel = load_kernel()
    assert kernel.library is None
    assert reason in kernel.message
    assert list(fresh_cache.iterdir()) == []


@needs_compiler
def test_wrong_code_is_found_out_before_it_is_kept(
    fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A compiler that turns one sign around: the probe is pulled the wrong way.
    script = f"sed -i 's/a \\* c + b \\* d), store/a * c - b * d), store/' fused.c && exec {COMPILER} \"$@\""
    monkeypatch.setenv("CC", made_compiler(tmp_path, script))
    kernel = load_kernel()
    assert kernel.library is None
    assert "is off by" in kernel.message
    assert list(fresh_cache.iterdir()) == []


@needs_compiler
def test_a_folder_that_others_may_write_to_is_not_trusted(fresh_cache: Path) -> None:
    fresh_cache.mkdir(parents=True)
    fresh_cache.chmod(0o777)
    assert "others may write" in load_kernel().message
    assert list(fresh_cache.iterdir()) == []


@needs_compiler
def test_another_processor_gets_a_kernel_of_its_own(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_kernel()
    monkeypatch.setattr(build, "_processor", lambda: "another one")
    load_kernel.cache_clear()
    load_kernel()
    assert len(list(fresh_cache.iterdir())) == 2


@needs_compiler
def test_other_flags_make_another_kernel(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_kernel()
    monkeypatch.setenv(build.FLAGS_VARIABLE, "-O1 '-DNOTE=two words'")
    load_kernel.cache_clear()
    assert "compiled in" in load_kernel().message
    assert len(list(fresh_cache.iterdir())) == 2


@needs_compiler
def test_flags_that_cannot_be_read_leave_the_arrays_to_compute_alone(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(build.FLAGS_VARIABLE, "-O1 'never closed")
    assert load_kernel().library is None
    assert "No closing quotation" in load_kernel().message


@needs_kernel
def test_every_struct_lies_in_memory_as_its_mirror() -> None:
    assert layout_difference(load_kernel().library) is None


def swapped(mirror: type[ctypes.Structure], one: str, other: str) -> type[ctypes.Structure]:
    """The same struct with two fields in each other's place."""
    fields = dict(mirror._fields_)
    names = [{one: other, other: one}.get(name, name) for name in fields]
    return type(mirror.__name__, (ctypes.Structure,), {"_fields_": [(name, fields[name]) for name in names]})


@needs_compiler
@pytest.mark.parametrize(
    ("mirror", "one", "other"),
    [
        ("Plan", "cosines", "sines"),
        ("Problem", "filters", "amplitude"),
        ("Batch", "first_frame", "corners"),
        ("Strain", "frames", "corners"),
    ],
)
def test_a_mirror_with_two_fields_swapped_refuses_the_library(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch, mirror: str, one: str, other: str
) -> None:
    monkeypatch.setattr(structs, mirror, swapped(getattr(structs, mirror), one, other))
    kernel = load_kernel()
    assert kernel.library is None
    assert "the C structs are not those of ptycho_core/kernel/structs.py" in kernel.message
    assert f"`{mirror}.{one}`" in kernel.message
    assert "\n" not in kernel.message
    assert list(fresh_cache.iterdir()) == []


@needs_compiler
def test_a_library_in_the_cache_is_compared_as_well(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_kernel().library is not None
    monkeypatch.setattr(structs, "Batch", swapped(structs.Batch, "row_start", "row_stop"))
    load_kernel.cache_clear()
    _, choice = device.choose_arrays(SolverExecutionConfig(accelerator="cpu"))
    assert "`Batch.row_start`: 4 bytes at 32 in C, 4 bytes at 36 in Python" in choice.message


@needs_compiler
def test_a_field_that_c_alone_has_refuses_the_library(
    fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "sed -i 's/    int64_t first_frame;/    int64_t first_frame, another;/' problem.h"
    script += f' && exec {COMPILER} "$@"'
    monkeypatch.setenv("CC", made_compiler(tmp_path, script))
    kernel = load_kernel()
    assert kernel.library is None
    assert "`Batch.n_frames`: 4 bytes at 16 in C, 4 bytes at 8 in Python" in kernel.message
