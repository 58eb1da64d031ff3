"""How wheels come to carry the kernel: only where a platform is named, and never untried."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import ptycho_core.kernel
from ptycho_core.kernel.shipped import LEVELS_OF, hash_of, hash_of_sources

ROOT = Path(__file__).resolve().parents[3]
CORE = ROOT / "packages" / "ptycho-core"
WHEELS = CORE / "wheels"
COMPILER = shutil.which("cc")
KERNEL = Path(ptycho_core.kernel.__file__).parent
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler is on the PATH")
needs_hatchling = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None,
    reason="hatchling is not installed",
)
needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed; `nox -s build` has it"
)
needs_x86_linux = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="is about x86-64 Linux"
)


def module(path: Path) -> ModuleType:
    """Import one file that is no part of a package."""
    spec = importlib.util.spec_from_file_location(f"under_test_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


targets = module(WHEELS / "targets.py")


def built(folder: Path, **told: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel of ptycho-core into a folder."""
    copy = folder / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "libraries")
    if not copy.exists():
        shutil.copytree(CORE, copy, ignore=lambda at, names: ignored(at, names) - {"libraries.py"})
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=copy,
        env={"PATH": "", "HOME": str(folder), **told},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@needs_hatchling
def test_without_a_platform_nothing_is_compiled_and_the_wheel_is_for_all(tmp_path: Path) -> None:
    done = built(tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "ptycho_core/kernel/fused.c" in names
    assert not [name for name in names if "kernel/libraries" in name or name.endswith((".so", ".dll"))]


@needs_hatchling
def test_a_platform_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    done = built(tmp_path, PTYCHO_WHEEL_TARGET="solaris_sparc")
    assert done.returncode != 0
    assert "PTYCHO_WHEEL_TARGET=solaris_sparc: expected one of manylinux_2_17_x86_64" in done.stderr
    assert list(tmp_path.glob("*.whl")) == []


@needs_hatchling
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is not None, reason="ziglang is installed")
def test_a_platform_without_the_compiler_says_where_there_is_one(tmp_path: Path) -> None:
    done = built(tmp_path, PTYCHO_WHEEL_TARGET="win_amd64")
    assert done.returncode != 0
    assert "needs ziglang beside hatchling; `nox -s build` has it" in done.stderr


@needs_hatchling
@needs_zig
@needs_x86_linux
def test_the_hosts_wheel_has_a_library_for_each_level(tmp_path: Path) -> None:
    done = built(tmp_path, PTYCHO_WHEEL_TARGET="manylinux_2_17_x86_64")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*-py3-none-manylinux_2_17_x86_64.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = [name for name in archive.namelist() if "kernel/libraries/" in name]
        for name in found:
            if name.endswith(".so"):
                assert Path(name).stem.rpartition("-")[2] == hash_of(archive.read(name))
        (tags,) = [name for name in archive.namelist() if name.endswith("/WHEEL")]
        assert "Tag: py3-none-manylinux_2_17_x86_64\n" in archive.read(tags).decode()
    levels = {Path(name).name.split(f"-{hash_of_sources(KERNEL)}-")[0] for name in found if "/step-" in name}
    assert levels == {f"step-{level}" for level in LEVELS_OF["x86_64"]}
    assert [name for name in found if "/processor-" in name]
    assert [name for name in found if name.endswith("/LICENSES.txt")]


def test_every_platform_is_named_as_pip_names_it_and_has_levels_that_are_looked_for() -> None:
    known = {level for levels in LEVELS_OF.values() for level in levels}
    for tag, target in targets.TARGETS.items():
        assert set(target.levels) <= known, tag
        assert target.is_x86 == tag.endswith(("x86_64", "amd64")), tag
        system = {"many": "gnu", "musl": "musl", "maco": "macos", "win_": "windows"}[tag[:4]]
        assert system in target.triple, tag
        suffix = {"macos": ".dylib", "windows": ".dll"}.get(system, ".so")
        assert target.suffix == suffix, tag
    # The oldest system of the tag is the one that is built for.
    assert targets.TARGETS["manylinux_2_17_x86_64"].triple.endswith("gnu.2.17")
    assert targets.TARGETS["macosx_11_0_arm64"].triple.endswith("macos.11.0")
    assert targets.TARGETS["macosx_10_13_x86_64"].triple.endswith("macos.10.13")


@needs_compiler
@needs_x86_linux
def test_the_processor_is_told_as_the_system_tells_it(tmp_path: Path) -> None:
    made = tmp_path / "processor.so"
    words = [str(COMPILER), "-shared", "-fPIC", "-O1", str(WHEELS / "processor.c"), "-o", str(made)]
    subprocess.run(words, check=True, timeout=60)
    asked = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).ptycho_processor_level())"
    level = int(
        subprocess.run([sys.executable, "-c", asked, str(made)], capture_output=True, check=True).stdout
    )
    flags = set(Path("/proc/cpuinfo").read_text().partition("flags")[2].splitlines()[0].split())
    needed = {
        2: {"pni", "ssse3", "cx16", "sse4_1", "sse4_2", "popcnt", "lahf_lm"},
        3: {"fma", "movbe", "avx", "f16c", "bmi1", "avx2", "bmi2", "abm"},
        4: {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"},
    }
    expected = 1
    while expected < 4 and needed[expected + 1] <= flags:
        expected += 1
    assert level == expected


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that makes recorded calls again, for this host."""
    made = tmp_path_factory.mktemp("replay") / "replay"
    words = [str(COMPILER), "-O1", str(WHEELS / "replay.c"), "-o", str(made), "-lm", "-ldl"]
    subprocess.run(words, check=True, timeout=60)
    return made


RECORD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import recorded
from ptycho_core.kernel.build import opened_library
from ptycho_core.kernel.check import largest_error
recorder = recorded.Recorder(opened_library(Path(sys.argv[1])))
assert largest_error(recorder) < 1e-4
content = recorded._number(len(recorder.calls)) + b"".join(recorder.calls)
Path(sys.argv[2]).write_bytes(content)
"""


@needs_compiler
def test_recorded_calls_give_the_same_again_and_betray_a_fault(tmp_path: Path, replay: Path) -> None:
    place = tmp_path / "kernel"
    shutil.copytree(KERNEL, place, ignore=shutil.ignore_patterns("*.py", "libraries", "__pycache__"))
    words = [str(COMPILER), "-shared", "-fPIC", "-pthread", "-O1", "fused.c", "-lm", "-o"]
    subprocess.run([*words, str(tmp_path / "step.so")], cwd=place, check=True, timeout=120)
    source = (place / "fused.c").read_text("utf-8")
    right, wrong = "a * c + b * d), store", "a * c - b * d), store"
    assert right in source
    (place / "fused.c").write_text(source.replace(right, wrong), encoding="utf-8")
    subprocess.run([*words, str(tmp_path / "wrong.so")], cwd=place, check=True, timeout=120)
    calls = tmp_path / "calls"
    record = [sys.executable, "-c", RECORD, str(tmp_path / "step.so"), str(calls), str(WHEELS)]
    subprocess.run(record, check=True, timeout=120)
    (count,) = struct.unpack("<q", calls.read_bytes()[:8])
    assert count >= 6

    def said(library: str, file: Path = calls) -> subprocess.CompletedProcess[str]:
        asked = [str(replay), str(tmp_path / library), str(file)]
        return subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)

    width, made, difference = said("step.so").stdout.split()
    assert (int(width), int(made)) == (4 if platform.machine() == "x86_64" else int(width), count)
    assert float(difference) < 1e-6
    assert float(said("wrong.so").stdout.split()[2]) > 1e-3
    assert said("none.so").returncode != 0
    short = tmp_path / "short"
    short.write_bytes(calls.read_bytes()[:-100])
    assert "the calls end too early" in said("step.so", short).stderr
