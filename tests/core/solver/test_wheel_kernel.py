"""The kernel that a wheel carries: the best that the processor can run, and nothing but what was built."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ptycho_core.kernel
from ptycho_config.errors import BackendUnavailableError
from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.kernel import build, load, load_kernel
from ptycho_core.kernel.shipped import (
    LEVELS_OF,
    Shipped,
    hash_of,
    hash_of_sources,
    library_name,
    shipped_library,
)
from ptycho_core.solver import device

COMPILER = shutil.which("cc")
SOURCES = Path(ptycho_core.kernel.__file__).parent
HERE = hash_of_sources(SOURCES)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler is on the PATH")


def compiled(folder: Path, name: str, source: str | Path, *flags: str) -> Path:
    """Compile some C, given as text or as a file, without looking for more speed than tests need."""
    made = folder / name
    text = ["-x", "c", "-"] if isinstance(source, str) else [str(source)]
    command = [str(COMPILER), "-shared", "-fPIC", "-pthread", "-O1", *flags, "-o", str(made), *text, "-lm"]
    given = source if isinstance(source, str) else None
    subprocess.run(command, input=given, text=True, check=True, timeout=120)
    return made


def put_probe(folder: Path, level: int) -> Path:
    """Put a library there that answers with a level."""
    plain = compiled(folder, "plain.so", f"int ptycho_processor_level(void) {{ return {level}; }}")
    return plain.rename(folder / f"processor-{hash_of(plain.read_bytes())}.so")


def put_step(folder: Path, level: str, content: bytes, sources: str = HERE) -> Path:
    path = folder / library_name(level, sources, content, ".so")
    path.write_bytes(content)
    return path


@pytest.fixture
def sound(made_before: Path) -> bytes:
    """A library made from these sources."""
    return made_before.read_bytes()


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the wheel's libraries, empty; an empty cache, no flags, and nothing found so far."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    monkeypatch.setattr(load, "_folder", lambda: folder)
    monkeypatch.setattr(build, "cache_directory", lambda: tmp_path / "cache")
    monkeypatch.delenv(build.FLAGS_VARIABLE, raising=False)
    monkeypatch.delenv("CC", raising=False)
    load_kernel.cache_clear()
    yield folder
    load_kernel.cache_clear()


def put_wheel(folder: Path, content: bytes) -> Path:
    """Put a library there that this processor may run, as a wheel would; return it."""
    level = LEVELS_OF[platform.machine()][-1]
    if level.startswith("x86"):
        put_probe(folder, 4)
    return put_step(folder, level, content)


def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@needs_compiler
@pytest.mark.parametrize(
    ("offered", "made", "chosen"),
    [
        (4, "234", 4),
        (3, "234", 3),
        (2, "234", 2),
        (4, "23", 3),
        (3, "24", 2),
    ],
)
def test_the_highest_level_of_the_processor_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offered: int, made: str, chosen: int
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    put_probe(tmp_path, offered)
    put = {level: put_step(tmp_path, f"x86-64-v{level}", level.encode()) for level in made}
    assert shipped_library(tmp_path, HERE) == Shipped(put[str(chosen)], f"x86-64-v{chosen}")


@needs_compiler
@pytest.mark.parametrize(("offered", "made"), [(1, "234"), (2, "34"), (3, "4")])
def test_a_level_that_the_processor_has_not_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offered: int, made: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    put_probe(tmp_path, offered)
    for level in made:
        put_step(tmp_path, f"x86-64-v{level}", level.encode())
    assert shipped_library(tmp_path, HERE) == Shipped(
        wrong="needs newer instructions than this processor has"
    )


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
def test_arm_has_one_level_and_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    put = put_step(tmp_path, "neon", b"code")
    assert shipped_library(tmp_path, HERE) == Shipped(put, "neon")


@pytest.mark.parametrize("machine", ["riscv64", "aarch64", ""])
def test_another_processors_wheel_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    put_step(tmp_path, "x86-64-v2", b"code")
    assert shipped_library(tmp_path, HERE).wrong.startswith("is for other processors than")


def test_a_folder_that_is_not_there_carries_nothing(tmp_path: Path) -> None:
    assert shipped_library(tmp_path / "none", HERE) == Shipped()


def test_the_hash_is_that_of_every_c_file_and_its_name(tmp_path: Path) -> None:
    found = {HERE}
    for change in ("content", "name", "boundary"):
        folder = tmp_path / change
        shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("*.py", "libraries", "__pycache__"))
        assert hash_of_sources(folder) == HERE
        if change == "content":
            (folder / "fft.h").write_bytes((folder / "fft.h").read_bytes() + b"\n")
        elif change == "name":
            (folder / "fft.h").rename(folder / "fft2.h")
        else:
            (folder / "extra.h").write_bytes(b"")
        found.add(hash_of_sources(folder))
    assert len(found) == 4


@needs_compiler
def test_the_wheels_library_is_used_and_nothing_is_compiled(
    carried: Path, sound: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = put_wheel(carried, sound)
    no_compiler(monkeypatch, tmp_path)
    kernel = load_kernel()
    assert kernel.library is not None
    assert kernel.library._name == str(put)
    level = LEVELS_OF[platform.machine()][-1]
    width = kernel.library.ptycho_vector_width()
    assert kernel.message == f"compiled kernel with vectors of {width} floats (from the wheel, {level})"
    assert kernel.build_seconds == 0
    assert not (tmp_path / "cache").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def a_page_of_zeros(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)


def a_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def of_other_sources(path: Path) -> None:
    path.rename(path.with_name(path.name.replace(HERE, "0" * 20)))


def no_library(path: Path) -> None:
    content = b"\x7fELF and nothing more"
    put_step(path.parent, path.name.removeprefix("step-").rsplit("-", 2)[0], content)
    path.unlink()


def of_another_layout(path: Path) -> None:
    text = (SOURCES / "fused.c").read_text("utf-8").replace("FIELD(Batch, first_frame), ", "")
    _made_of(path, text)


def that_computes_wrongly(path: Path) -> None:
    text = (SOURCES / "fused.c").read_text("utf-8")
    assert "a * c + b * d), store" in text
    _made_of(path, text.replace("a * c + b * d), store", "a * c - b * d), store"))


def _made_of(path: Path, text: str) -> None:
    place = path.parent.parent / "changed"
    shutil.copytree(SOURCES, place, ignore=shutil.ignore_patterns("*.py", "libraries", "__pycache__"))
    (place / "fused.c").write_text(text, encoding="utf-8")
    content = compiled(place, "step.so", place / "fused.c").read_bytes()
    path.unlink()
    put_step(path.parent, path.name.removeprefix("step-").rsplit("-", 2)[0], content)


HARMS: list[tuple[Callable[[Path], None], str]] = [
    (cut, "is damaged (step-"),
    (a_page_of_zeros, "is damaged (step-"),
    (a_broken_link, "cannot be loaded ("),
    (a_folder, "cannot be loaded ("),
    (no_library, "cannot be loaded ("),
    (of_other_sources, "was made from other sources"),
    (of_another_layout, "the C structs are not those of"),
    (that_computes_wrongly, "is off by"),
]


@needs_compiler
@pytest.mark.parametrize(("harm", "said"), HARMS, ids=lambda one: getattr(one, "__name__", ""))
def test_one_that_cannot_be_trusted_is_left_with_a_word(
    carried: Path,
    sound: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path], None],
    said: str,
) -> None:
    harm(put_wheel(carried, sound))
    no_compiler(monkeypatch, tmp_path)
    kernel = load_kernel()
    assert kernel.library is None
    assert kernel.message.startswith("no compiled kernel: the one of the wheel ")
    assert said in kernel.message
    assert "is not used; no C compiler is on the PATH" in kernel.message
    assert "\n" not in kernel.message


@needs_compiler
def test_where_the_wheels_is_damaged_the_compiler_is_asked(
    carried: Path, sound: bytes, handing_out: Path
) -> None:
    cut(put_wheel(carried, sound))
    kernel = load_kernel()
    assert kernel.library is not None
    assert "compiled in" in kernel.message
    assert "; the one of the wheel is damaged (step-" in kernel.message


@needs_compiler
@pytest.mark.skipif(not platform.machine().startswith("x86"), reason="only x86-64 has a library that asks")
def test_a_damaged_library_that_asks_the_processor_is_not_run(
    carried: Path, sound: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_wheel(carried, sound)
    cut(next(carried.glob("processor-*")))
    next(carried.glob("processor-*")).write_bytes(b"")
    no_compiler(monkeypatch, tmp_path)
    assert "the one of the wheel is damaged (processor-" in load_kernel().message
    next(carried.glob("processor-*")).unlink()
    load_kernel.cache_clear()
    assert "the one of the wheel is damaged (processor-" in load_kernel().message


@needs_compiler
def test_flags_ask_for_a_library_that_is_compiled_with_them(
    carried: Path, sound: bytes, handing_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_wheel(carried, sound)
    monkeypatch.setenv(build.FLAGS_VARIABLE, "-O1")
    kernel = load_kernel()
    assert kernel.library is not None
    assert "compiled in" in kernel.message
    assert "wheel" not in kernel.message
    assert "-O1" in handing_out.read_text().splitlines()


@needs_compiler
def test_either_can_be_insisted_on(
    carried: Path, sound: bytes, handing_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = put_wheel(carried, sound)
    words = {
        wanted: device.choose_arrays(SolverExecutionConfig(accelerator="cpu", kernel=wanted))[1].kernel
        for wanted in ("wheel", "compiled")
    }
    assert "from the wheel" in words["wheel"]
    assert "compiled in" in words["compiled"]
    put.unlink()
    monkeypatch.delenv("CC")
    no_compiler(monkeypatch, tmp_path)
    load_kernel.cache_clear()
    for wanted, reason in (("wheel", "this installation carries none"), ("compiled", "no C compiler")):
        with pytest.raises(BackendUnavailableError, match=rf"{reason}.*Leave out `--kernel {wanted}`"):
            device.choose_arrays(SolverExecutionConfig(accelerator="cpu", kernel=wanted))


def test_an_installation_from_the_sources_says_nothing_of_wheels(
    carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_compiler(monkeypatch, tmp_path)
    assert load_kernel().message.startswith("no compiled kernel: no C compiler is on the PATH")
    assert list(carried.iterdir()) == []
