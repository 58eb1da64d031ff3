"""The one list of tasks. `nox -l` shows them; `nox` alone runs the tests."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "virtualenv"

ROOT = Path(__file__).parent
BASE = ("ptycho-config", "ptycho-core", "ptycho-dispatch")
EXTRA = {"base": (), "torch": ("ptycho-core-torch",), "tf": ("ptycho-core-tf",)}
EXTRA["all"] = (*EXTRA["torch"], *EXTRA["tf"], "ptychopinn")
CORES = {"base": "", "torch": "pytorch", "tf": "tensorflow", "all": "pytorch,tensorflow"}
#: What our packages import as.
OURS = sorted(path.name for path in ROOT.glob("packages/*/src/*") if path.name.isidentifier())
#: What builds our packages.
BUILDER = "hatchling>=1.26"
#: What compiles the kernel for wheels of every platform; see docs/decisions/0024-wheels-carry-the-step.md.
WHEEL_COMPILER = "ziglang==0.17.1"
#: What looks into those wheels.
WHEEL_TOOLS = ("lief>=0.17,<1", "auditwheel>=6.4")
TEST_TOOLS = (
    "pytest>=8",
    "pytest-xdist>=3.6",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
    "beartype>=0.19",
    "grimp>=3.5",
    "nbformat>=5.10",
    "zarr>=3.0",
    BUILDER,
)
#: A process for each core, four at most: each may hold both frameworks. A file's tests share what they train.
SIDE_BY_SIDE = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")
#: No test takes this long; one that hangs fails instead of holding all others up.
NOT_FOR_EVER = ("--timeout", "900")
#: Imports each of its arguments in a process of its own, side by side; fails where one of them does.
IMPORT_SIDE_BY_SIDE = (
    "import subprocess, sys\n"
    "running = [subprocess.Popen([sys.executable, '-c', f'import {name}']) for name in sys.argv[1:]]\n"
    "sys.exit(max([abs(process.wait()) for process in running], default=0))\n"
)
#: What loads all of a framework that tests use.
LOADS = {"torch": ("lightning",), "tf": ("keras",), "all": ("lightning", "keras")}
#: What the tests of ptycho-config need besides; the package itself is changed, and so not installed.
MUTATION_TOOLS = ("mutmut>=3.8,<4", "pytest>=8", "hypothesis>=6.100", "pydantic>=2.10.1", "PyYAML>=6")
NOT_SLOW = ("-m", "not slow and not gpu")
#: glibc gives the memory of a large array back to the system at once, to be cleared for the next one; keeping
#: it saves a tenth of the time. Other systems know no such names.
KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
#: The compiled kernel with both sanitizers; -O1 keeps their reports readable, and the last flags win.
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1"
#: What a compiler says of the kernel without running it; no word is allowed.
STRICT = ("-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Werror")
STRICT_LEVELS = ("-O3 -march=x86-64-v2", "-O3 -march=x86-64-v3", "-O3 -march=x86-64-v4", "-O1 -fanalyzer")
#: What runs the kernel.
KERNEL_TESTS = ("tests/core/solver", "-k", "kernel or sanitizers")
#: What each benchmark needs of our packages.
BENCHMARKS = {
    "star": "torch",
    "fidelity": "base",
    "recipe": "base",
    "memory": "base",
    "network": "all",
    "runtimes": "torch",
    "thinning": "all",
    "lines": "all",
    "curves": "all",
    "positions": "base",
    "diagnose": "base",
    "dose": "torch",
    "uncertainty": "base",
    "others": "base",
    "live": "base",
    "formats": "base",
    "gpu": "torch",
    "imports": "all",
    "cores": "all",
    "threads": "base",
    "large": "base",
    "ranks": "base",
    "plan": "base",
    "crossing": "all",
}
#: MPI for several processes, where there are wheels of a library. MPICH 5.0.2 sometimes breaks off while its
#: tasks meet under `srun --mpi=pmi2` ("Message truncated").
MPI = ("mpi4py>=4.0; sys_platform == 'linux'", "mpich>=4.2,<5; sys_platform == 'linux'")
#: The viewer, as the extra of ptycho-dispatch names it.
VIEWER = ("napari[pyqt6]>=0.6",)
#: What writes networks that were trained for runtimes, and runs them; OpenVINO is several times as large.
EXPORT = ("onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20")
OPENVINO = ("openvino>=2025.0",)
#: The client, installed without its dependencies, and those of them that it imports without a window.
CLIENT = "ptychodus==1.7.0"
CLIENT_NEEDS = (
    "numpy",
    "scipy",
    "scikit-image",
    "h5py",
    "pydantic",
    "httpx",
    "pydantic-ai-slim[openai]>=1.0,<3",
    "matplotlib",
    "colorcet",
    "watchdog",
    "psutil",
)
#: What its program imports besides.
CLIENT_PROGRAM_NEEDS = ("hdf5plugin", "mlflow-skinny", "pyyaml", "scikit-learn", "tifffile")
PEER = ("torch==2.13.0", "numpy>=2.0", "scipy>=1.14")
PEER_ALONE = ("ptychi==2.2.0",)
#: The Python for which constraints.txt brings a CPU-only PyTorch.
TORCH_PYTHON = "3.11"


def installed_pythons() -> list[str]:
    """List the Pythons of this host that we support; a launcher that starts nothing does not count."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}"}
    for version in ("3.11", "3.12", "3.13", "3.14"):
        path = shutil.which(f"python{version}")
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            found.add(version)
    return sorted(found, key=lambda version: int(version.split(".")[1]))


def install(session: nox.Session, kind: str, *more: str) -> None:
    """Install our packages of one kind together, since their versions are pinned to each other.

    They are built with the hatchling of this environment, not with one fetched for each of them.
    """
    packages = [f"./packages/{name}" for name in (*BASE, *EXTRA[kind])]
    session.install(BUILDER)
    # Frameworks hold ten thousand modules, of which some hundreds are imported: those are compiled then,
    # once, whatever the host says of bytecode.
    session.install("--no-compile", "-c", "constraints.txt", "--no-build-isolation", *packages, *more)
    session.env["PYTHONDONTWRITEBYTECODE"] = ""


def install_client(session: nox.Session) -> None:
    """Install Ptychodus without what it declares, which is windows and services too."""
    session.install("--no-deps", CLIENT)


def compile_frameworks(session: nox.Session, kind: str) -> None:
    """Have Python compile what it loads of each framework, once: test processes would each do all of it."""
    session.run("python", "-c", IMPORT_SIDE_BY_SIDE, *LOADS.get(kind, ()))


def use_data_beside(session: nox.Session) -> None:
    """Let tests and benchmarks use the data folder beside the checkout where there is one."""
    beside = ROOT.parent / "shared" / "data"
    if "PTYCHO_DATA_DIR" not in os.environ and beside.is_dir():
        session.env["PTYCHO_DATA_DIR"] = str(beside)


def run_tests(
    session: nox.Session, kind: str, *arguments: str, also: Sequence[str] = (), none_is_fine: bool = False
) -> None:
    """Install our packages of one kind and run pytest, which checks that it finds just these cores."""
    install(session, kind, *TEST_TOOLS, *also)
    use_data_beside(session)
    session.env["PTYCHO_TEST_BACKENDS"] = CORES[kind]
    session.env.update(KEPT_MEMORY)
    codes = [0, 5] if none_is_fine else [0]  # 5: no test was selected
    several = () if "gpu" in arguments else SIDE_BY_SIDE
    if several:
        compile_frameworks(session, kind)
    session.run("python", "-m", "pytest", "-ra", *NOT_FOR_EVER, *several, *arguments, success_codes=codes)


@nox.session
def demo(session: nox.Session) -> None:
    """The main job on the real scan, as a newcomer sees it; no PyTorch, no TensorFlow."""
    install(session, "base")
    session.run("ptycho", "reconstruct", "siemens-star", "--output-dir", "demo", *session.posargs)
    session.log("Look at demo/overview.png; demo/amplitude.png and demo/phase.png are larger.")
    ptycho = Path(session.bin, "ptycho")
    ptycho = ptycho.relative_to(Path.cwd()) if ptycho.is_relative_to(Path.cwd()) else ptycho
    session.log(f"Your own scan: {ptycho} reconstruct SCAN")


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite on this host, with every package and the client Ptychodus."""
    install_client(session)
    run_tests(session, "all", *(session.posargs or NOT_SLOW), also=(*CLIENT_NEEDS, *MPI, *EXPORT))


@nox.session
@nox.parametrize("python,kind", [(python, kind) for kind in CORES for python in installed_pythons()])
def tests_matrix(session: nox.Session, kind: str) -> None:
    """The suite without any framework on every Python, with each core alone and with all on one of them.

    `-- --full` runs every kind on every Python, where pip finds PyTorch for it.
    """
    arguments = [argument for argument in session.posargs if argument != "--full"]
    if kind != "base" and session.python != TORCH_PYTHON and arguments == session.posargs:
        session.skip(f"runs on Python {TORCH_PYTHON}; `nox -s tests_matrix -- --full` runs it here too")
    run_tests(session, kind, *(arguments or NOT_SLOW))


@nox.session
def tests_cpu(session: nox.Session) -> None:
    """The suite with every CUDA device hidden."""
    session.env["CUDA_VISIBLE_DEVICES"] = ""
    run_tests(session, "all", *(session.posargs or NOT_SLOW))


@nox.session
def tests_gpu(session: nox.Session) -> None:
    """The tests that need a CUDA device; fails where there is none."""
    run_tests(session, "torch", "-m", "gpu", *session.posargs)


@nox.session
def tests_slow(session: nox.Session) -> None:
    """What the suite leaves out because it takes long: more sizes, kinds and examples of what it tests."""
    run_tests(session, "all", "-m", "slow", *session.posargs, also=(*EXPORT, *OPENVINO), none_is_fine=True)


@nox.session
def tests_viewer(session: nox.Session) -> None:
    """`ptycho view` in napari, under a screen that nobody sees (Debian: xvfb, libegl1, libxcb-cursor0)."""
    if shutil.which("xvfb-run") is None:
        session.skip("there is no xvfb-run: install Debian's xvfb, libegl1 and libxcb-cursor0")
    # napari brings plugins of pytest that load Qt in this process; the tests open windows in their own.
    more = ("-p", "no:napari", "-p", "no:npe2", "-p", "no:napari-plugin-engine")
    run_tests(session, "base", *more, *(session.posargs or ("tests/dispatch/test_view.py",)), also=VIEWER)


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage of the suite, the processes that tests start included; writes what is not reached.

    Tests that limit the size of files fail here, since what coverage writes meets the limit too.
    """
    install_client(session)
    install(session, "all", *TEST_TOOLS, *CLIENT_NEEDS, "coverage>=7.10")
    use_data_beside(session)
    session.env["PTYCHO_TEST_BACKENDS"] = CORES["all"]
    # Tests change the folder they run in; their processes must still find the settings and the data files.
    place = Path(session.create_tmp()).resolve()
    session.env.pop("TMPDIR", None)
    settings = place / "coverage.toml"
    settings.write_text(
        "[tool.coverage.run]\n"
        "branch = true\n"
        "parallel = true\n"
        'patch = ["subprocess"]\n'
        f"data_file = '{place / 'data'}'\n"
        f"source_pkgs = {OURS}\n"
        "[tool.coverage.report]\n"
        'exclude_also = ["if TYPE_CHECKING:", "@overload"]\n',
        encoding="utf-8",
    )
    for old in place.glob("data*"):
        old.unlink()
    run = ("python", "-m", "coverage")
    told = f"--rcfile={settings}"
    arguments = (*NOT_FOR_EVER, *SIDE_BY_SIDE, *(session.posargs or NOT_SLOW))
    # A test that fails is another session's to report.
    session.run(*run, "run", told, "-m", "pytest", "-ra", *arguments, success_codes=[0, 1])
    session.run(*run, "combine", "--quiet", told)
    session.run(*run, "report", told, "--skip-covered", "--show-missing")


@nox.session(python="3.11")
def tests_lowest(session: nox.Session) -> None:
    """The suite without any framework on the lowest Python, with the lowest versions that we declare."""
    names = [f"./packages/{name}" for name in BASE]
    place = Path(session.create_tmp()).resolve()
    # Tests find the repository's folders above files inside of it, so their files go where they always do.
    session.env.pop("TMPDIR", None)
    wanted, lowest = place / "wanted.txt", place / "lowest.txt"
    wanted.write_text("\n".join(names), encoding="utf-8")
    session.install("uv")
    resolve = ("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version", "3.11")
    found = session.run(*resolve, "--resolution", "lowest-direct", str(wanted), silent=True)
    # What is ours is no constraint: it is installed from here.
    pins = [line for line in str(found).splitlines() if "==" in line]
    lowest.write_text("\n".join(pins), encoding="utf-8")
    session.log("lowest versions: " + ", ".join(pins))
    session.install("-c", str(lowest), *names, *TEST_TOOLS)
    use_data_beside(session)
    session.env["PTYCHO_TEST_BACKENDS"] = ""
    # Old releases use what the newest of their own dependencies call deprecated; that is not ours to mend.
    aging = ("-W", "ignore::DeprecationWarning")
    arguments = (*NOT_FOR_EVER, *SIDE_BY_SIDE, *aging, *(session.posargs or NOT_SLOW))
    session.run("python", "-m", "pytest", "-ra", *arguments)


@nox.session
def sanitize(session: nox.Session) -> None:
    """The compiled kernel under AddressSanitizer and UndefinedBehaviorSanitizer; needs gcc with both.

    Before that its source has to pass the compiler's warnings, and gcc's static analyser.

    The tests find a kernel with sanitizers or fail, and see that errors made on purpose are caught.
    """
    compiler, runtimes = sanitizers_here()
    if not runtimes:
        session.error(
            f"no compiler has AddressSanitizer and UndefinedBehaviorSanitizer (found: {compiler or 'none'}); "
            "install gcc with libasan and libubsan, or name one in CC"
        )
    source = "packages/ptycho-core/src/ptycho_core/kernel/fused.c"
    native = os.uname().machine == "x86_64"
    for how in STRICT_LEVELS if native else ("-O3", "-O1 -fanalyzer"):
        words = (compiler, *STRICT, *how.split(), "-pthread", "-c", source, "-o", os.devnull)
        session.run(*words, external=True)
    install(session, "base", *TEST_TOOLS)
    session.env["CC"] = compiler
    session.env["PTYCHO_KERNEL_FLAGS"] = SANITIZERS
    session.env["PTYCHO_CACHE_DIR"] = str(Path(session.create_tmp()).resolve())
    use_data_beside(session)
    session.env["PTYCHO_TEST_BACKENDS"] = ""
    # Python leaves memory to the system at its end, and a crash on purpose has to end as one. The runtimes
    # must be loaded before all other libraries.
    session.env["ASAN_OPTIONS"] = "detect_leaks=0:handle_segv=0"
    session.env["UBSAN_OPTIONS"] = "print_stacktrace=1"
    preload = {"LD_PRELOAD": " ".join(runtimes)}
    arguments = (*NOT_FOR_EVER, *(session.posargs or KERNEL_TESTS))
    # What a sanitizer says of a process that it ends is not Python's to capture.
    session.run("python", "-m", "pytest", "-ra", "--capture=sys", *arguments, env=preload)


def sanitizers_here() -> tuple[str, list[str]]:
    """Find a compiler and the runtime libraries of its sanitizers; none where it has not both."""
    first = ""
    for name in (*os.environ.get("CC", "").split()[:1], "gcc", "cc"):
        compiler = shutil.which(name)
        if compiler is None:
            continue
        first = first or compiler
        asked = [[compiler, f"-print-file-name={library}"] for library in ("libasan.so", "libubsan.so")]
        told = [subprocess.run(words, capture_output=True, text=True, check=False) for words in asked]
        # A compiler that has no such library answers with the bare name.
        paths = [done.stdout.strip() for done in told]
        if all(Path(path).is_absolute() and Path(path).exists() for path in paths):
            return compiler, paths
    return first, []


@nox.session
def slurm(session: nox.Session) -> None:
    """The scripts of docs/how-to/cluster.md on a real SLURM: Debian's, as a cluster of one node.

    Skips in words where there is no Debian, or no root to install it.
    """
    reason = str(session.run("python", "scripts/slurm", "--why-not", silent=True)).strip()
    if reason:
        session.skip(reason)
    install(session, "base", *MPI)
    session.run("python", "scripts/slurm", *session.posargs)


@nox.session
def report(session: nox.Session) -> None:
    """`ptycho report` in a real browser, and its picture in docs/images; uses the browser of the host.

    Where there is none, Playwright fetches its own; where that fails the tests skip and say so.
    """
    session.install("playwright>=1.49")
    hosts = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
    if not any(map(shutil.which, hosts)):
        session.run("playwright", "install", "chromium-headless-shell", success_codes=[0, 1])
    session.env["PTYCHO_PICTURES"] = str(ROOT / "docs" / "images")
    run_tests(session, "base", "-m", "slow", "tests/dispatch/test_report_browser.py", *session.posargs)


@nox.session
def ptychodus(session: nox.Session) -> None:
    """Ptychodus itself through both of its libraries on the whole scan, and every call that it relies on."""
    install_client(session)
    session.env["PTYCHO_CLIENT"] = "whole"
    needed = (*CLIENT_NEEDS, *CLIENT_PROGRAM_NEEDS)
    run_tests(session, "all", "-rA", "tests/ptychodus", "tests/facade", *session.posargs, also=needed)


@nox.session
def faults(session: nox.Session) -> None:
    """Two thousand faults in files, settings, results and surroundings; what does harm becomes a program.

    `-- --cases 20000 --seed 5` looks longer and elsewhere, `-- --only readers` at one class; `-- --seed 2 3 4
    --write-docs` renews docs/reference/faults.md. The tests run sixty of them, the slow ones two hundred.
    """
    install(session, "all", *TEST_TOOLS)
    session.run("python", "tests/faults", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """The tests of the findings, then `ptycho audit` with their outcomes; writes the inventory in docs/."""
    install(session, "all", *TEST_TOOLS)
    use_data_beside(session)
    outcomes = str(Path(session.create_tmp()).resolve() / "findings.xml")
    selected = ("-m", "finding and not slow", f"--junitxml={outcomes}", "-o", "junit_family=xunit2")
    # A test that failed is named by the audit, with its finding.
    session.run("python", "-m", "pytest", "-q", *selected, *session.posargs, success_codes=[0, 1])
    inventory = "docs/reference/policy-inventory.md"
    session.run("ptycho", "audit", "--tests", outcomes, "--format", "md", "--output", inventory)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and import contracts."""
    install(session, "all", "ruff>=0.15", "import-linter>=2.3")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Types: strict for ptycho-config, basic for the rest."""
    install(session, "all", "pyright>=1.1.400", "scipy-stubs", "hatchling", "nox", "lief", "mpi4py")
    session.run("pyright", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Mutation testing of ptycho-config; fails below 95 % killed, or with an unexplained survivor."""
    session.install("-c", "constraints.txt", *MUTATION_TOOLS)
    session.run("python", "benchmarks/mutants.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The figures of the documentation: the names are those of BENCHMARKS.

    `nox -s bench -- star --ours-only --against COMMIT` takes turns with another commit's packages.
    """
    names = [entry.stem for entry in (ROOT / "benchmarks").glob("*.py")]
    wanted = session.posargs[0] if session.posargs else ""
    if wanted not in BENCHMARKS or wanted not in names:
        session.error(f"say which: nox -s bench -- {' | '.join(BENCHMARKS)}")
    besides = {"ranks": MPI, "large": MPI, "runtimes": (*EXPORT, *OPENVINO)}
    install(session, BENCHMARKS[wanted], *besides.get(wanted, ()))
    use_data_beside(session)
    peers = {
        "fidelity": True,
        "star": "--ours-only" not in session.posargs,
        "recipe": "--ours-only" not in session.posargs,
        "dose": "--peer" in session.posargs,
    }
    if peers.get(wanted):
        session.env["PTYCHO_PEER_PYTHON"] = str(peer_interpreter(session))
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument("--against")
    commit = chosen.parse_known_args(session.posargs[1:])[0].against
    if commit:
        python = interpreter_of(session, commit, BENCHMARKS[wanted])
        session.env["PTYCHO_AGAINST_PYTHON"] = str(python)
    session.run("python", f"benchmarks/{wanted}.py", *session.posargs[1:])


def interpreter_of(session: nox.Session, commit: str, kind: str) -> Path:
    """Make an environment with our packages at a commit once, and return its interpreter.

    All other packages are those of this session, so that only ours differ.
    """
    git = ("git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    found = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        session.error(f"`{commit}` is no commit of this repository; `git log` lists them")
    full = found.stdout.strip()
    home = (
        Path(session.cache_dir) / f"at-{full[:12]}-{kind}-{sys.version_info.major}.{sys.version_info.minor}"
    )
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        session.run("python", "-m", "venv", str(home))
        with tempfile.TemporaryDirectory() as place:
            tree = Path(place) / "tree"
            session.run("git", "worktree", "add", "--detach", str(tree), full, external=True, silent=True)
            try:
                packages = [str(tree / "packages" / name) for name in (*BASE, *EXTRA[kind])]
                pip_install = (str(python), "-m", "pip", "install", "--quiet", "--no-deps")
                session.run(*pip_install, *packages, external=True)
            finally:
                session.run("git", "worktree", "remove", "--force", str(tree), external=True)
        (home / "complete").touch()
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = session.run(str(python), "-c", where, external=True, silent=True)
    ours = session.run("python", "-c", where, silent=True)
    # Behind its own: what both hold is taken from the commit.
    Path(str(theirs).strip(), "session.pth").write_text(str(ours), encoding="utf-8")
    return python


def peer_interpreter(session: nox.Session) -> Path:
    """Make the environment of pty-chi once and return its interpreter.

    It declares a torchvision that exists only for CUDA and needs of it no more than a Gaussian blur; so it
    is installed without its dependencies, beside the pinned torch.
    """
    home = Path(session.cache_dir) / f"peer-{sys.version_info.major}.{sys.version_info.minor}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        session.run("python", "-m", "venv", str(home))
        pip = (str(python), "-m", "pip", "install", "--quiet")
        session.run(*pip, "-c", "constraints.txt", *PEER, *peer_requirements(), external=True)
        session.run(*pip, "--no-deps", *PEER_ALONE, external=True)
        (home / "complete").touch()
    return python


def peer_requirements() -> list[str]:
    """The small packages that pty-chi imports."""
    return (ROOT / "benchmarks" / "peer-requirements.txt").read_text("utf-8").split()


@nox.session
def build(session: nox.Session) -> None:
    """Wheels and sdists of every package, and wheels with the compiled kernel for seven platforms; all tried.

    What can be run of the platforms' wheels here, or emulated, is run. `-- --write-docs` renews
    docs/reference/wheels.md.
    """
    dist = make_dist(session)
    session.install(*WHEEL_TOOLS)
    core = ROOT / "packages" / "ptycho-core"
    bare = Path(session.create_tmp()).resolve() / "bare"
    shutil.rmtree(bare, ignore_errors=True)
    session.run("python", "-m", "venv", str(bare))
    scripts = bare / ("Scripts" if os.name == "nt" else "bin")
    pip_install = (str(scripts / "python"), "-m", "pip", "install", "--quiet", "-c", "constraints.txt")
    listed = str(session.run("python", "scripts/release/files.py", str(dist), silent=True)).split()
    heavy = [wheel for wheel in listed if Path(wheel).name.startswith("ptycho_core_t")]
    light = [wheel for wheel in listed if wheel not in heavy]
    session.run(*pip_install, *light, external=True)
    session.run("python", str(core / "wheels"), str(dist), str(scripts / "python"), *session.posargs)
    ptycho = str(scripts / "ptycho")
    session.run(ptycho, "--version", external=True)
    with session.chdir(session.create_tmp()):
        session.run(ptycho, "audit", external=True)
    with session.chdir(session.create_tmp()):
        # No compiler can be found there: what runs is the wheel's.
        alone = {"PATH": str(scripts), "PTYCHO_CACHE_DIR": str(bare / "cache")}
        session.run(ptycho, "simulate", "--frames", "60", "--output", "tiny.npz", external=True)
        here = ("--kernel", "wheel", "--output-dir", "tiny")
        session.run(ptycho, "reconstruct", "tiny.npz", *here, external=True, env=alone)
    session.run(*pip_install, *heavy, external=True)
    session.run(ptycho, "backends", external=True)
    with session.chdir(session.create_tmp()):
        on_torch = ("--arrays", "torch", "--output-dir", "tiny-torch")
        session.run(ptycho, "reconstruct", "tiny.npz", *on_torch, external=True)


@nox.session
def release(session: nox.Session) -> None:
    """The files of a release in `dist/`; each package installed from them offline, alone, and the demo run.

    `-- --light` leaves out what needs PyTorch or TensorFlow. CONTRIBUTING.md tells of signing and publishing.
    """
    session.run("python", "scripts/release/version.py")
    dist = make_dist(session)
    session.install("twine>=6.1", *WHEEL_TOOLS)
    session.run("python", "packages/ptycho-core/wheels", str(dist))
    use_data_beside(session)
    work = Path(session.create_tmp()).resolve() / "release"
    session.run("python", "scripts/release", str(dist), str(work), *session.posargs)


def make_dist(session: nox.Session) -> Path:
    """Build sdists and wheels of every package into `dist/`, those with the kernel for each platform."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.install("build", BUILDER, WHEEL_COMPILER)
    for package in sorted((ROOT / "packages").iterdir()):
        if (package / "pyproject.toml").exists():
            session.run("python", "-m", "build", "--outdir", str(dist), str(package), silent=True)
    made_by_zig(session)
    core = ROOT / "packages" / "ptycho-core"
    for platform in wheel_platforms(session):
        told = {"PTYCHO_WHEEL_TARGET": platform}
        with session.chdir(core):
            session.run("python", "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist), env=told)
    for built in sorted(dist.iterdir()):
        session.log(f"{built.name}  {built.stat().st_size / 1024:.0f} KiB")
    return dist


def made_by_zig(session: nox.Session) -> None:
    """Keep what zig makes of each platform's C library beside the sessions, so that it is made once."""
    kept = ROOT / ".nox" / ".cache" / "zig"
    session.env["ZIG_GLOBAL_CACHE_DIR"] = session.env["ZIG_LOCAL_CACHE_DIR"] = str(kept)


def wheel_platforms(session: nox.Session) -> list[str]:
    """List the platforms whose wheels carry the kernel."""
    return str(session.run("python", "packages/ptycho-core/wheels/targets.py", silent=True)).split()


@nox.session
def docs(session: nox.Session) -> None:
    """Run every example of the documentation and follow every link."""
    run_tests(session, "all", "tests/test_examples.py", *session.posargs, also=EXPORT)


@nox.session
def site(session: nox.Session) -> None:
    """The documentation as a site in `site/`, which opens from the disk; a browser looks at every page.

    Its notebooks are run before. `-- --write-notebooks` keeps what they show; `-- --publish 0.2 latest` puts
    the site beside the versions that are published; see scripts/site.
    """
    install(session, "torch", "-r", "scripts/site/requirements.txt", *EXPORT)
    use_data_beside(session)
    session.run("python", "scripts/site", *session.posargs)
