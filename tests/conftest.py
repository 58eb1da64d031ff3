"""Ground shared by all tests: no display, one thread per library, the real scan where it can be found.

`ptycho` calls the command line in this process, `once` makes what several test processes share.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
import gc
import hashlib
import importlib.util
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, get_args

import pytest
from hypothesis import Phase, settings

# Before any test imports NumPy or matplotlib. Test processes share few cores; more threads than cores only
# wait for each other, and results must not depend on their number.
for variable in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
):
    os.environ.setdefault(variable, "1")
os.environ["MPLBACKEND"] = "Agg"  # figures are drawn into files; there may be no screen
for variable in ("DISPLAY", "WAYLAND_DISPLAY"):  # and no test opens a window on somebody's
    os.environ.pop(variable, None)

# Two frameworks are millions of objects that stay. Looking through them as often as Python does by default is
# a sixth of the time of a training.
gc.set_threshold(50_000, 20, 100)

# Types are checked while tests run, and the shapes of arrays. For these the hook of jaxtyping has every
# function remember, call by call, how long each named axis is. Where no annotation names an array that is for
# nothing: beartype alone checks such a function at a small part of the cost, which was a third of the tests'.


def _checked(target: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """Stand in for `jaxtyping.jaxtyped`, which the hook asks for by its name."""
    if target is None:
        return functools.partial(_checked, typechecker=typechecker)
    if inspect.isclass(target):
        if dataclasses.is_dataclass(target) and not _needs_shapes(target.__init__):
            target.__init__ = typechecker(target.__init__)
            return target
        return _with_shapes(target, typechecker=typechecker)
    parts = [getattr(target, name, None) for name in ("__func__", "fget", "fset", "fdel")]
    functions = [part for part in parts if part is not None] or [target]
    if any(map(_needs_shapes, functions)):
        return _with_shapes(target, typechecker=typechecker)
    return typechecker(target)


def _needs_shapes(function: Callable[..., Any]) -> bool:
    """Whether an annotation is an array, or holds one, or has a name that only static checkers know."""
    space = {**vars(builtins), **getattr(function, "__globals__", {})}
    for hint in getattr(function, "__annotations__", {}).values():
        words = [hint]
        if isinstance(hint, str):
            names = re.findall(r"(?<![\w.])[A-Za-z_]\w*", re.sub(r"\"[^\"]*\"|'[^']*'", "", hint))
            if not all(name in space for name in names):
                return True
            words = [space[name] for name in names]
        if any(map(_is_array, words)):
            return True
    return False


def _is_array(hint: Any) -> bool:
    whose = str(getattr(hint, "__module__", ""))
    return whose.partition(".")[0] == "jaxtyping" or any(map(_is_array, get_args(hint)))


try:
    import jaxtyping
except ImportError:  # ptycho-config is tested alone, which knows no array
    pass
else:
    _with_shapes, jaxtyping.jaxtyped = jaxtyping.jaxtyped, _checked

# A program in the background of a script is started deaf to Ctrl-C, and so is all that it starts. What comes
# of a run that is interrupted could not be seen then: the signal would never arrive.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# At a desk few examples, and new ones each time; for a verdict the same ones every time; before a release ten
# times as many; few, and the same, for every mutant. `HYPOTHESIS_PROFILE` chooses.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None, max_examples=25)
settings.register_profile(
    # The first failure is enough: nobody reads it, so nothing is gained by making it small.
    "mutants",
    derandomize=True,
    deadline=None,
    max_examples=20,
    phases=(Phase.explicit, Phase.generate),
)
settings.register_profile("thorough", deadline=None, max_examples=1000, print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
settings.load_profile(PROFILE)
#: A test that names its own number of examples runs this many times as many.
_SCALE = settings.default.max_examples / settings.get_profile("ci").max_examples

# A checkout may have the data beside it; subprocesses that tests start find them the same way.
_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
if "PTYCHO_DATA_DIR" not in os.environ and _BESIDE.is_dir():
    os.environ["PTYCHO_DATA_DIR"] = str(_BESIDE)

#: Small scans of few epochs are often doubtful; what is done about it has tests of its own.
os.environ.setdefault("PTYCHO_DIAGNOSE", "off")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the profile decide for tests with a number of their own as well: the most they run at `ci`."""
    scaled: set[int] = set()
    for item in items:
        test = getattr(item, "function", None)
        own = getattr(test, "_hypothesis_internal_use_settings", None)  # what `@settings` leaves on a test
        if own is None or own.max_examples == settings.default.max_examples or id(test) in scaled:
            continue
        scaled.add(id(test))
        number = max(1, round(own.max_examples * _SCALE))
        test._hypothesis_internal_use_settings = settings(own, max_examples=number)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many examples hypothesis ran: those that passed and those that failed, not the discarded."""
    texts = [
        text
        for reports in terminalreporter.stats.values()
        for report in reports
        if (text := getattr(report, "_hypothesis_stats", None))
    ]
    if texts:
        counts = re.findall(r"(\d+) passing[^,]*, (\d+) failing", "\n".join(texts))
        total = sum(int(passing) + int(failing) for passing, failing in counts)
        terminalreporter.write_line(
            f"hypothesis: {total} examples in {len(texts)} property test{'s' * (len(texts) != 1)}, "
            f"profile {PROFILE}"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none; fail instead where just these tests were asked for."""
    if item.get_closest_marker("gpu") is None or _cuda_is_available():
        return
    if item.config.getoption("-m") == "gpu":
        pytest.fail("no CUDA device is seen here, and these tests need one", pytrace=False)
    pytest.skip("no CUDA device is seen here")


def _cuda_is_available() -> bool:
    from ptycho_config import hardware

    return hardware.cuda_available()


@pytest.fixture(scope="session")
def siemens_star_path() -> Path:
    """The real scan as a file: from `PTYCHO_DATA_DIR`, the user's cache, or fetched into it."""
    from ptycho_core.datasets import fetch

    return fetch("siemens-star")


@pytest.fixture(scope="session")
def siemens_star() -> "Scan":
    """The real scan, opened by name."""
    from ptycho_core import open_scan

    return open_scan("siemens-star")


@pytest.fixture(scope="session")
def simulated() -> Callable[..., "SimulatedScan"]:
    """Simulate a scan with known truth: once for all tests that give the same settings."""
    from ptycho_core.simulate import simulate_scan

    return functools.cache(simulate_scan)


@pytest.fixture(scope="session")
def mpiexec() -> tuple[str, ...]:
    """The words that start several tasks over MPI; skips where there is none, or no mpi4py."""
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("there is no mpiexec here")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return (found, "--oversubscribe", "--allow-run-as-root") if "Open MPI" in told else (found,)


# The command line, without a process of its own.


@dataclass(frozen=True)
class Result:
    """A finished command: its exit code, and what it wrote to the screen."""

    code: int
    out: str
    err: str


@contextmanager
def as_in_a_program() -> Iterator[None]:
    """Let things be as in a program: warnings are no errors, calls are not checked; keep the registry."""
    from jaxtyping import config

    from ptycho_config.legacy import params

    before, checks_off = params.params(), config.jaxtyping_disable
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        # Old import paths are for others; a command that takes one itself would not live beyond a release.
        warnings.filterwarnings("error", r".* moved and will not be found", DeprecationWarning)
        config.update("jaxtyping_disable", True)
        try:
            yield
        finally:
            config.update("jaxtyping_disable", checks_off)
            params.cfg.clear()
            params.cfg.update(before)


@pytest.fixture(scope="session")
def run_command() -> Callable[..., int]:
    """Call the command line with words in this process, which holds the libraries already; its exit code."""
    from ptycho_dispatch.cli import main

    def call(*words: object) -> int:
        with as_in_a_program():
            return main([*map(str, words)])

    return call


@pytest.fixture
def ptycho(
    run_command: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., Result]:
    """Call the command line in the test's folder; `environment` is added to that of the tests.

    What only a process of its own can show (signals, limits, what is imported) has one: `ptycho_process` in
    tests/dispatch.
    """

    def call(*words: object, **environment: str) -> Result:
        with monkeypatch.context() as changed:
            changed.chdir(tmp_path)
            for name, value in environment.items():
                changed.setenv(name, value)
            capfd.readouterr()
            return Result(run_command(*words), *capfd.readouterr())

    return call


# What several test processes share.


def _lock(file: IO[str]) -> None:
    """Wait until no other process has the file locked, and lock it until it is closed."""
    if os.name == "posix":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    else:
        import msvcrt

        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                return
            except OSError:  # it gives up after ten seconds
                continue


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder once in this run: the first test process that asks fills it, the others wait for it.

    Whoever changes what is inside takes a copy.
    """
    ours = tmp_path_factory.getbasetemp()
    everyone = ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder = everyone / f"once-{name}"
        with (everyone / f"once-{name}.lock").open("w") as lock:
            _lock(lock)
            if not folder.exists():
                fill(begun := tmp_path_factory.mktemp(name))
                begun.rename(folder)
        return folder

    return made


#: Examples that pages of the documentation and help texts share; they need no file but the real scan.
SHARED_EXAMPLES = (
    ("reconstruct", "siemens-star", "--output-dir", "star"),
    ("watch", "siemens-star", "--replay", "500", "--output-dir", "live"),
)


@pytest.fixture(scope="session")
def shared_examples() -> tuple[tuple[str, ...], ...]:
    """The words of commands that `example` runs once in this run."""
    return SHARED_EXAMPLES


@pytest.fixture
def example(
    ptycho: Callable[..., Result],
    run_command: Callable[..., int],
    once: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., Result]:
    """Call the command line in the test's folder; a shared example was run once, and its files are copied."""

    def call(*words: str) -> Result:
        if words not in SHARED_EXAMPLES:
            return ptycho(*words)

        def run(folder: Path) -> None:
            (folder / "files").mkdir()
            capfd.readouterr()
            with monkeypatch.context() as changed:
                changed.chdir(folder / "files")
                code = run_command(*words)
            done = Result(code, *capfd.readouterr())
            (folder / "done.json").write_text(json.dumps(asdict(done)), encoding="utf-8")

        folder = once(f"example-{hashlib.sha256(repr(words).encode()).hexdigest()[:12]}", run)
        shutil.copytree(folder / "files", tmp_path, dirs_exist_ok=True)
        return Result(**json.loads((folder / "done.json").read_text("utf-8")))

    return call


@pytest.fixture
def checked_once(monkeypatch: pytest.MonkeyPatch, once: Callable[..., Path]) -> None:
    """Put the same question to the checks of `ptycho audit` once in this run.

    They start both frameworks; the answer is the same for whoever asks, in a test or in an example.
    """
    from ptycho_config.findings import finding_ids, read_finding
    from ptycho_dispatch.audit import verdicts
    from ptycho_dispatch.audit.checking import Checking, CheckResult, checks_of, run_checks

    def answer(checks: Any, *, packages: Any, symbols: Any) -> Checking:
        everything = [read_finding(name) for name in finding_ids()]
        active = [finding for finding in everything if finding.status == "active"]
        whole = {finding.id: checks_of(finding, packages) for finding in active}
        if not symbols and all(checks[name] == whole.get(name) for name in checks):
            # A part of what the whole audit asks: its answers are among those of the whole.
            every = {path for finding in everything for path in finding.enforced_by}
            found = asked_once(whole, packages=packages, symbols=every)
            return Checking(tuple(result for result in found.results if result.finding in checks), {})
        return asked_once(checks, packages=packages, symbols=symbols)

    def asked_once(checks: Any, *, packages: Any, symbols: Any) -> Checking:
        def ask(folder: Path) -> None:
            found = run_checks(checks, packages=packages, symbols=symbols)
            (folder / "answer.json").write_text(json.dumps(asdict(found)), encoding="utf-8")

        question = json.dumps([{key: list(value) for key, value in checks.items()}, sorted(symbols)])
        folder = once(f"checks-{hashlib.sha256(question.encode()).hexdigest()[:12]}", ask)
        found = json.loads((folder / "answer.json").read_text("utf-8"))
        return Checking(
            tuple(CheckResult(**result) for result in found["results"]),
            {cuda == "true": tuple(steps) for cuda, steps in found["flow"].items()},
        )

    monkeypatch.setattr(verdicts, "run_checks", answer)
