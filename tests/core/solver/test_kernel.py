"""The compiled step is made once, and left out wherever it cannot be trusted."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ptycho_config.errors import BackendUnavailableError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.kernel import build, load, load_kernel, structs
from ptycho_core.kernel.kept import keep, own_folder, sound_library
from ptycho_core.kernel.structs import layout_difference
from ptycho_core.solver import device

COMPILER = shutil.which("cc")
needs_kernel = pytest.mark.skipif(load_kernel().library is None, reason=load_kernel().message)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler is on the PATH")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of kernels, no wheel that carries one, and a loader that has forgotten what it found."""
    monkeypatch.setattr(load, "_folder", lambda: tmp_path / "no libraries")
    monkeypatch.setattr(build, "cache_directory", lambda: tmp_path / "cache")
    monkeypatch.delenv("CC", raising=False)
    load_kernel.cache_clear()
    yield tmp_path / "cache" / "kernels"
    load_kernel.cache_clear()


@pytest.fixture
def fresh_cache(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, for what every level shows alike: this one takes the compiler less than half the time."""
    if not build.flags_are_set():
        monkeypatch.setenv(build.FLAGS_VARIABLE, "-O1")
    return empty_cache


def made_compiler(folder: Path, script: str) -> str:
    path = folder / "own-cc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def handed_out(fresh_cache: Path, handing_out: Path) -> Path:
    """The empty cache, and a compiler that hands out what was compiled before."""
    return fresh_cache


@needs_compiler
def test_it_is_compiled_once_and_then_taken_from_the_cache(empty_cache: Path) -> None:
    first = load_kernel()
    assert first.library is not None
    assert "compiled in" in first.message
    kept = list(empty_cache.iterdir())
    assert [path.suffix for path in kept] == [".so"]
    assert stat.S_IMODE(empty_cache.stat().st_mode) == 0o700
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
def test_one_line_says_that_a_damaged_library_was_made_anew(handed_out: Path) -> None:
    path, _ = build._built(build._compiler(), own_folder(handed_out), build._key(build._compiler()))
    cut(path, path)
    kernel = load_kernel()
    assert kernel.library is not None
    assert "compiled in" in kernel.message
    assert "the one in the cache was damaged and was removed" in kernel.message
    assert "\n" not in kernel.message
    (kept,) = handed_out.iterdir()
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
    handed_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_kernel()
    monkeypatch.setattr(build, "_processor", lambda: "another one")
    load_kernel.cache_clear()
    load_kernel()
    assert len(list(handed_out.iterdir())) == 2


@needs_compiler
def test_other_flags_make_another_kernel(
    handed_out: Path, handing_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_kernel()
    monkeypatch.setenv(build.FLAGS_VARIABLE, "-O1 '-DNOTE=two words'")
    load_kernel.cache_clear()
    assert "compiled in" in load_kernel().message
    assert len(list(handed_out.iterdir())) == 2
    assert "-DNOTE=two words" in handing_out.read_text().splitlines()


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
    handed_out: Path, monkeypatch: pytest.MonkeyPatch, mirror: str, one: str, other: str
) -> None:
    monkeypatch.setattr(structs, mirror, swapped(getattr(structs, mirror), one, other))
    kernel = load_kernel()
    assert kernel.library is None
    assert "the C structs are not those of ptycho_core/kernel/structs.py" in kernel.message
    assert f"`{mirror}.{one}`" in kernel.message
    assert "\n" not in kernel.message
    assert list(handed_out.iterdir()) == []


@needs_compiler
def test_a_library_in_the_cache_is_compared_as_well(
    handed_out: Path, monkeypatch: pytest.MonkeyPatch
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
