"""The kernel under AddressSanitizer and UndefinedBehaviorSanitizer; `nox -s sanitize` compiles it so.

What the sanitizers find ends the process, so that every test which runs the kernel is one of theirs. These
here prove that they are awake, and run a whole reconstruction.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.execution import SolverExecutionConfig
from ptycho_config.models import SolverConfig
from ptycho_core import solve
from ptycho_core.kernel import build, load_kernel
from ptycho_core.simulate import simulate_scan

pytestmark = pytest.mark.skipif(
    not any(flag.startswith("-fsanitize") for flag in build._flags()),
    reason="needs a kernel with sanitizers: `nox -s sanitize`",
)
#: `write` and `sum` are right where the caller is.
CONTROL = """
void write(float *values, int index) { values[index] = 1; }
int sum(int a, int b) { return a + b; }
"""
CALL = """
import ctypes, sys
import numpy as np

library = ctypes.CDLL(sys.argv[1])
values = np.zeros(1000, np.float32)
{call}
print("done")
"""


def test_the_kernel_that_is_tested_has_sanitizers() -> None:
    kernel = load_kernel()
    assert kernel.library is not None, kernel.message
    made = Path(kernel.library._name).read_bytes()
    assert b"__asan_report_load" in made
    assert b"__ubsan_handle" in made


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ("library.write(ctypes.c_void_p(values.ctypes.data), 999); library.sum(2**30, 2**30 - 1)", None),
        ("library.write(ctypes.c_void_p(values.ctypes.data), 1000)", "heap-buffer-overflow"),
        ("library.write(ctypes.c_void_p(values.ctypes.data), -1)", "heap-buffer-overflow"),
        ("library.sum(2**30, 2**30)", "signed integer overflow"),
    ],
)
def test_a_fault_made_on_purpose_ends_the_process(tmp_path: Path, call: str, word: str | None) -> None:
    source, made = tmp_path / "control.c", tmp_path / "control.so"
    source.write_text(CONTROL)
    compiler = build._compiler()
    assert compiler is not None
    subprocess.run([compiler, *build._flags(), str(source), "-o", str(made)], check=True, timeout=120)
    program = [sys.executable, "-c", CALL.format(call=call), str(made)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)
    if word is None:
        assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    else:
        assert done.returncode != 0
        assert word in done.stderr
        assert "done" not in done.stdout


#: The step works in memory that Python gives it; here every piece is 400 floats short.
SHORT = """
from ptycho_core.kernel import load_kernel, step
from ptycho_core.kernel.check import largest_error

given = step.aligned
step.aligned = lambda count: given(count - 400)
largest_error(load_kernel().library)
print("done")
"""


def test_a_kernel_that_leaves_its_memory_is_stopped_at_the_line() -> None:
    done = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert "in ptycho_step" in done.stderr
    assert "done" not in done.stdout


@pytest.mark.parametrize("modes", [1, 2])
def test_a_whole_reconstruction_keeps_to_its_memory(modes: int) -> None:
    made = simulate_scan(frames=60, frame_px=64, photons=1e5, bad_pixel_fraction=0.02, seed=1)
    config = SolverConfig(effort="fast", probe_modes=modes)
    compiled, plain = (
        solve(made.scan, config, SolverExecutionConfig(arrays="numpy", accelerator="cpu", kernel=kernel))
        for kernel in ("required", "off")
    )
    assert np.isfinite(compiled.object).all()
    assert compiled.data_residual == pytest.approx(plain.data_residual, rel=0.02)
