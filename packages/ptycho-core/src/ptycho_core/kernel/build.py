"""Compile the kernel for this processor, once.

The library is kept in the user's cache under a name that holds its source, the compiler and the processor,
so that a home directory shared by different machines never gives one of them the code of another. Before it
gets that name it has reproduced a step computed with NumPy, in a process of its own, which code that crashes
may end. Whenever it is loaded, its content is compared with the hash in its name (`kept`), and its structs
with their mirrors in Python.

What `PTYCHO_KERNEL_FLAGS` holds goes behind the compiler's flags (`nox -s sanitize` uses it); a library that
was made with other flags has a name of its own.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from ptycho_config.errors import BackendUnavailableError, OutputError
from ptycho_core.files import cache_directory
from ptycho_core.kernel.kept import keep, own_folder, sound_library
from ptycho_core.kernel.shipped import hash_of_sources, source_names
from ptycho_core.kernel.structs import layout_difference

__all__ = ["LARGEST_ERROR", "REFUSALS", "compiled_library", "flags_are_set", "opened_library"]

_FLAGS = (
    *("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-shared", "-fPIC", "-pthread"),
)
FLAGS_VARIABLE = "PTYCHO_KERNEL_FLAGS"
_COMPILERS = ("cc", "gcc", "clang")
_PATIENCE_S = 120
#: A library that gives any of these is left alone. ValueError: data that cannot be written, or a
#: quote left open in the flags.
REFUSALS = (
    OSError,
    AttributeError,
    ValueError,
    subprocess.SubprocessError,
    BackendUnavailableError,
    OutputError,
)
LARGEST_ERROR = 1e-4
_ADVICE = "Install gcc or clang for a solver that is several times faster."


def compiled_library() -> tuple[ctypes.CDLL, str, float]:
    """Return the library for this processor, compiled now where the user's cache does not hold it.

    Returns:
        The library; how it came about, in words for the log; the seconds that the compiler took now, 0 where
        the library was in the cache.
    Raises:
        BackendUnavailableError: there is none here, for a reason in one line.
    """
    if os.name != "posix":
        raise BackendUnavailableError(f"it is not compiled on {platform.system()}")
    compiler = _compiler()
    if compiler is None:
        raise BackendUnavailableError(f"no C compiler is on the PATH. {_ADVICE}")
    seconds, wrong = 0.0, ""
    try:
        folder, key = own_folder(cache_directory() / "kernels"), _key(compiler)
        path, wrong = sound_library(folder, key)
        if path is None:
            path, seconds = _built(compiler, folder, key)
        library = opened_library(path)
    except REFUSALS as error:
        raise BackendUnavailableError(_one_line(error)) from error
    made = f"compiled in {seconds:.1f} s, once for this processor" if seconds else "from the cache"
    made += f"; the one in the cache {wrong} and was removed" if wrong else ""
    return library, made, seconds


def _one_line(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        words = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        return f"`{error.cmd[0]}` failed: {words[0] if words else f'exit status {error.returncode}'}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _compiler() -> str | None:
    chosen = os.environ.get("CC", "").split()
    return next((found for name in (*chosen[:1], *_COMPILERS) if (found := shutil.which(name))), None)


def flags_are_set() -> bool:
    """Return whether flags of the environment ask for a library of their own."""
    return bool(os.environ.get(FLAGS_VARIABLE, "").strip())


def _flags() -> tuple[str, ...]:
    """The flags of every kernel, and those of the environment behind them, where they win."""
    return (*_FLAGS, *shlex.split(os.environ.get(FLAGS_VARIABLE, "")))


def _key(compiler: str) -> str:
    program = Path(compiler).resolve()
    about = program.stat()
    parts = [*_flags(), str(program), str(about.st_size), str(about.st_mtime_ns), _processor()]
    parts.append(hash_of_sources(files("ptycho_core.kernel")))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]


def _processor() -> str:
    """What tells processors apart for which `-march=native` may mean different instructions."""
    name = f"{sys.platform} {platform.machine()} {platform.processor()}"
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return name
    told = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return "\n".join([name, *(line for line in lines if line.split("\t")[0].split(":")[0].strip() in told)])


def _built(compiler: str, folder: Path, key: str) -> tuple[Path, float]:
    """Compile, try and keep the library; return its path and the seconds that took."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as place:
        sources = files("ptycho_core.kernel")
        for name in source_names(sources):
            Path(place, name).write_bytes(sources.joinpath(name).read_bytes())
        made = Path(place, "step.so")
        command = [compiler, *_flags(), "fused.c", "-o", made.name, "-lm"]
        subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=_PATIENCE_S)
        error = _error_of(made)
        if not error < LARGEST_ERROR:
            raise BackendUnavailableError(
                f"what `{compiler}` made of it is off by {error:.1e} and is not used"
            )
        opened_library(made)  # refuses structs that are not these
        path = keep(made, folder, key)
    return path, time.perf_counter() - started


def _error_of(made: Path) -> float:
    """Let another process run the library and compare it with NumPy; one that crashes ends that alone.

    Raises:
        BackendUnavailableError: it crashed, or the other process could not say.
    """
    places = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-m", "ptycho_core.kernel.check", str(made)],
        env={**os.environ, "PYTHONPATH": places},
        cwd=made.parent,
        capture_output=True,
        timeout=_PATIENCE_S,
    )
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BackendUnavailableError(f"what the compiler made of it crashed when it was tried ({name})")
    said = (done.stderr if done.returncode else done.stdout).decode(errors="replace").strip().splitlines()
    if done.returncode:
        raise BackendUnavailableError(said[-1] if said else "it could not be tried")
    return float(said[-1]) if said else float("nan")


def opened_library(path: Path) -> ctypes.CDLL:
    """Load a library and declare its functions.

    Raises:
        OSError, AttributeError: it is no library, or not this one.
        BackendUnavailableError: its structs are not those of `structs`.
    """
    library = ctypes.CDLL(str(path))
    library.ptycho_step.restype = ctypes.c_double
    library.ptycho_step.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ptycho_proximal.restype = None
    library.ptycho_proximal.argtypes = [ctypes.c_void_p]
    library.ptycho_scratch_floats.restype = ctypes.c_int64
    library.ptycho_scratch_floats.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_int64]
    library.ptycho_strain.restype = None
    library.ptycho_strain.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.ptycho_strain_floats.restype = ctypes.c_int64
    library.ptycho_strain_floats.argtypes = [ctypes.c_int32]
    library.ptycho_places.restype = None
    library.ptycho_places.argtypes = [ctypes.c_void_p]
    library.ptycho_places_floats.restype = ctypes.c_int64
    library.ptycho_places_floats.argtypes = [ctypes.c_int32]
    library.ptycho_plane_floats.restype = ctypes.c_int64
    library.ptycho_plane_floats.argtypes = [ctypes.c_int32]
    library.ptycho_vector_width.restype = ctypes.c_int32
    library.ptycho_vector_width.argtypes = []
    difference = layout_difference(library)
    if difference:
        raise BackendUnavailableError(
            f"the C structs are not those of ptycho_core/kernel/structs.py, and it is not used: {difference}"
        )
    return library
