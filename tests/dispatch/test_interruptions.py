"""What happens when a run meets a pipe, an impatient user, a full disk or a sudden end."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho_config.errors import DataError
from ptycho_config.flags import flag_specs
from ptycho_core import Reconstruction
from ptycho_dispatch.settings import PARTS

LONG = ("--effort", "thorough", "--solver-epochs", "100000")
RESULT_FILES = {"reconstruction.npz", "reconstruction.h5", "metrics.csv", "run.json"}
RESULT_FILES |= {"amplitude.png", "phase.png", "overview.png", "ptycho.log"}


def command(scan_file: Path, directory: Path, *words: str) -> list[str]:
    start = [sys.executable, "-m", "ptycho_dispatch", "reconstruct", str(scan_file)]
    return [*start, "--output-dir", str(directory), *words]


def begun(scan_file: Path, directory: Path, *words: str) -> subprocess.Popen[str]:
    """A reconstruction that has done its first epoch; the rest of its output is still to be read."""
    return at_work(command(scan_file, directory, *words))


def hearing_hangups() -> None:
    """As under a terminal, also where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def at_work(words: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hearing_hangups
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 1/" in line:
            return process
    raise AssertionError("the run ended before it began")


def assert_complete(path: Path) -> None:
    """Read a result file to its last byte."""
    match path.suffix:
        case ".npz":
            with np.load(path) as archive:
                assert all(archive[key] is not None for key in archive.files)
        case ".h5":
            with h5py.File(path) as file:
                file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)
        case ".png":
            assert path.read_bytes()[-8:-4] == b"IEND"
        case ".json":
            json.loads(path.read_text())
        case ".csv":
            assert path.read_text().endswith("\n")


def wait_for_file_count(directory: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if directory.is_dir() and len(list(directory.iterdir())) >= count:
            return
        time.sleep(0.0005)
    raise AssertionError("the run never wrote that many files")


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.slow), 5])
def test_killed_while_writing_every_file_under_a_final_name_is_complete(
    scan_file: Path, tmp_path: Path, count: int
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(scan_file, out, "--effort", "fast", "--quiet"), stdout=subprocess.DEVNULL, text=True
    )
    wait_for_file_count(out, count, process)
    process.kill()
    process.wait(timeout=60)
    final = [path for path in out.iterdir() if path.name in RESULT_FILES]
    for path in final:
        assert_complete(path)


def test_a_second_run_into_the_same_directory_leaves_no_temporary_file(ptycho, scan_file, tmp_path) -> None:
    for _ in range(2):
        done = ptycho("reconstruct", scan_file, "--effort", "fast", "--output-dir", "out")
        assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == RESULT_FILES


def test_ctrl_c_while_writing_still_writes_everything_and_exits_130(scan_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(scan_file, out, "--effort", "fast"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_file_count(out, 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert {path.name for path in out.iterdir()} == RESULT_FILES
    assert np.isfinite(Reconstruction.load(out).object).all()


def test_an_interrupted_run_says_so_on_the_screen_in_the_log_and_in_the_record(
    scan_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = begun(scan_file, out, *LONG)
    process.send_signal(signal.SIGINT)
    table, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "WARNING Stopping after this step" in err
    assert "(interrupted)" in table
    assert "Stopping after this step" in (out / "ptycho.log").read_text()
    assert json.loads((out / "run.json").read_text())["interrupted"] is True


def test_a_second_ctrl_c_ends_at_once_without_a_traceback(scan_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = begun(scan_file, out, *LONG)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("Stopping" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    # Either the second signal found the run still writing, or the run had just ended.
    assert process.returncode == 130, err
    assert "Traceback" not in err
    for path in out.iterdir():
        if path.name in RESULT_FILES:
            assert_complete(path)


@pytest.mark.parametrize("most_bytes", [0, pytest.param(600, marks=pytest.mark.slow)])
def test_a_log_that_cannot_grow_is_said_once_and_never_as_a_traceback(
    ptycho_process, scan_file: Path, most_bytes: int
) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    words = ("reconstruct", scan_file, "--effort", "fast", "--output-dir", "out")
    done = ptycho_process(*words, preexec_fn=limited)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.count("ptycho.log: cannot be written further") == 1
    assert done.err.splitlines()[-1].startswith("ptycho: ")


def test_the_error_that_ends_a_run_is_in_its_log(ptycho, tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    done = ptycho("reconstruct", "broken.npz", "--output-dir", "out")
    assert done.code == 3
    assert " ERROR " in (tmp_path / "out" / "ptycho.log").read_text()
    assert len([line for line in done.err.splitlines() if not line.startswith("INFO")]) == 1


def test_a_pipe_shows_neither_colour_nor_wrapped_lines(ptycho_process, scan_file: Path) -> None:
    words = ("reconstruct", scan_file, "--effort", "fast", "--output-dir", "out")
    piped = ptycho_process(*words, environment={"COLUMNS": "40"})
    assert "\x1b" not in piped.out + piped.err
    assert "\r" not in piped.out + piped.err
    assert all(line.startswith(("INFO ", "WARNING ")) for line in piped.err.splitlines())
    assert all(line.startswith("  ") for line in piped.out.splitlines())


def test_every_flag_of_the_help_comes_from_the_models(ptycho) -> None:
    shown = set(re.findall(r"^\s+(--[a-z-]+)", ptycho("reconstruct", "--help").out, re.MULTILINE))
    specs = [spec for part in PARTS for spec in flag_specs(part)]
    known = {name for spec in specs for name in (spec.name, *spec.aliases)}
    # --quiet and --verbose are short ways to write --console-level; a description speaks of --orientations.
    assert shown - known <= {"--config", "--debug", "--quiet", "--verbose", "--orientations"}
    assert {"--seed", "--max-time", "--solver-epochs", "--arrays", "--accelerator", "--threads"} <= shown


def test_a_run_records_which_source_won(ptycho, scan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("effort: fast\nseed: 1\nobject_step: 0.9\n")
    words = ("reconstruct", scan_file, "--config", "run.yaml", "--seed", "3", "--output-dir", "out")
    done = ptycho(*words, PTYCHO_SEED="2", PTYCHO_OBJECT_STEP="0.8")
    assert done.code == 0, done.err
    solver = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["solver"]
    found = {name: (solver[name]["value"], solver[name]["source"]) for name in solver}
    assert found["seed"] == (3, "flag")
    assert found["object_step"] == (0.8, "environment")
    assert found["effort"] == ("fast", "yaml")
    assert found["background"] == ("auto", "default")


@pytest.mark.parametrize("odd", ["link", "FIFO"])
def test_a_log_that_is_no_file_of_its_own_is_refused_at_once(odd: str, ptycho, tmp_path, scan_file) -> None:
    log, elsewhere = tmp_path / "out" / "ptycho.log", tmp_path / "elsewhere"
    log.parent.mkdir()
    elsewhere.write_text("mine")
    if odd == "link":
        log.symlink_to(elsewhere)
    else:
        os.mkfifo(log)
    done = ptycho("reconstruct", scan_file, "--effort", "fast", "--output-dir", "out")
    assert done.code == 1
    assert "ptycho.log: cannot be written" in done.err
    assert ("symbolic link" if odd == "link" else "FIFO") in done.err
    assert elsewhere.read_text() == "mine"


@pytest.mark.parametrize("name", ["reconstruction.npz", "run.json", "overview.png"])
def test_a_directory_under_the_name_of_a_result_is_found_before_the_work(
    name: str, ptycho, tmp_path, scan_file
) -> None:
    (tmp_path / "out" / name).mkdir(parents=True)
    done = ptycho("reconstruct", scan_file, "--effort", "fast", "--output-dir", "out")
    assert done.code == 1
    assert f"{name}: cannot be written (it is a directory" in done.err
    assert "epoch" not in done.err


def test_too_few_addresses_are_said_before_anything_waits_for_them(ptycho_process, scan_file) -> None:
    few = 256 << 20
    done = ptycho_process(
        "inspect", scan_file, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (few, few))
    )
    assert done.code == 1
    assert "256 MiB of address space; its libraries need" in done.err.splitlines()[-1]


def test_a_scan_that_is_gone_after_the_image_costs_what_follows_and_not_the_image(
    ptycho, tmp_path, scan_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptycho_core import verdict

    def gone(*_: object, **__: object) -> None:
        raise DataError("scan.npz: cannot be read any more.")

    monkeypatch.setattr(verdict, "judged", gone)
    monkeypatch.setattr(verdict, "with_uncertainty", gone)
    done = ptycho(
        "reconstruct", scan_file, "--effort", "fast", "--uncertainty", "true", "--output-dir", "out"
    )
    assert done.code == 0
    assert done.err.count("The image is kept. scan.npz: cannot be read any more.") == 2
    assert Reconstruction.load(tmp_path / "out").n_frames == 40


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow)]
)
def test_a_scheduler_and_a_terminal_that_closes_end_a_run_as_ctrl_c_does(
    scan_file: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    process = begun(scan_file, out, *LONG)
    process.send_signal(number)
    process.send_signal(number)  # a shell and its terminal both send one
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert {path.name for path in out.iterdir()} == RESULT_FILES
    assert json.loads((out / "run.json").read_text())["interrupted"] is True


def test_a_hangup_that_nohup_lets_pass_is_not_heard(scan_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(scan_file, out, "--effort", "fast"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for_file_count(out, 1, process)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_with_several_scans_an_interruption_counts_before_a_failure(scan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    words = command(scan_file, tmp_path / "out", *LONG)
    words.insert(words.index(str(scan_file)), str(tmp_path / "broken.npz"))
    process = at_work(words)
    process.send_signal(signal.SIGTERM)
    table, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert re.search(r"broken\.npz +failed", table)
    assert "interrupted" in table


#: Sends its own process a signal from the first moment in which some module is loaded.
DURING_START = """
import os, sys
from ptycho_dispatch import __main__
module, number = sys.argv[1:3]
sys.argv[1:3] = []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), int(number))
sys.meta_path.insert(0, Finder())
sys.exit(__main__.main())
"""


#: Each signal and each module once whenever the tests run; the slow ones take every pair.
AT_THE_START = {
    "ptycho_dispatch.cli": signal.SIGHUP,
    "numpy": signal.SIGINT,
    "ptycho_core.solver.solve": signal.SIGTERM,
}


@pytest.mark.parametrize(
    ("module", "number"),
    [
        pytest.param(module, number, marks=[] if number == usual else pytest.mark.slow)
        for module, usual in AT_THE_START.items()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ],
)
def test_a_signal_while_the_program_is_loaded_is_one_line(
    scan_file: Path, tmp_path: Path, module: str, number: signal.Signals
) -> None:
    words = [module, str(int(number)), "reconstruct", str(scan_file), "--output-dir", "out", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", DURING_START, *words],
        preexec_fn=hearing_hangups,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr == "ptycho: interrupted\n"


#: Ctrl-C at the moment at which the module of that name is looked for.
AT_THE_IMPORT = """
import os, sys

class Now:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), 2)

sys.meta_path.insert(0, Now())
from ptycho_dispatch import __main__
sys.argv[1:] = ["--help"]
sys.exit(__main__.main())
"""


@pytest.mark.parametrize("module", ["ptycho_dispatch.signals", "signal"])
def test_ctrl_c_before_any_signal_is_heard_ends_with_one_line(module: str) -> None:
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{AT_THE_IMPORT}", module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ptycho: interrupted\n")


def test_nothing_is_loaded_before_signals_are_heard() -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\nbefore = set(sys.modules); import ptycho_dispatch\n"
        "print(*set(sys.modules) - before)\n"
        "from ptycho_dispatch import __main__; print('typing' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["ptycho_dispatch", "False"]


#: A command whose one step never ends, and which no signal gets out of: it waits for itself.
DEAF = """
import ctypes, sys
from types import ModuleType
from ptycho_dispatch import __main__, cli

def run(arguments):
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
    libc.pthread_mutex_lock(mutex)
    print("working", flush=True)
    libc.pthread_mutex_lock(mutex)

deaf = ModuleType("ptycho_dispatch.commands.deaf")
deaf.EXAMPLES, deaf.add_arguments, deaf.run = (), lambda parser: None, run
sys.modules[deaf.__name__] = deaf
cli.COMMANDS["deaf"] = ("commands.deaf", "never ends")
sys.argv = ["ptycho", "deaf"]
sys.exit(__main__.main())
"""


def test_a_step_that_hears_nothing_is_answered_for_and_ended_by_the_second_ctrl_c() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "working\n"
    time.sleep(0.5)  # until it waits for itself
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("ptycho: stopping as soon as the present step is done")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "ptycho: interrupted\n"


def test_a_child_process_hears_signals_as_any_other(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from ptycho_dispatch.signals import HEARING; HEARING.listen(); "
        "HEARING.begin_work(); ready, told = os.pipe(); child = os.fork(); "
        "child or (os.write(told, b'.'), signal.pause()); os.read(ready, 1); os.kill(child, signal.SIGTERM); "
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), HEARING.exit_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [str(-signal.SIGTERM), "None"], done.stderr


#: A command that is interrupted where Python does not let an interruption through.
INTERRUPTED = """
import signal, sys, time
from ptycho_dispatch.__main__ import main
from ptycho_dispatch.commands import inspection

def run(arguments):
    {work}

inspection.run = run
sys.argv[1:] = ["inspect", "scan.npz"]
sys.exit(main())
"""
#: In code made of a text, as where a dataclass is made by a late import; in a destructor.
WHERE = {
    "in made code": """exec("signal.raise_signal(signal.SIGHUP)")""",
    "in a destructor": """
    class Gone:
        def __del__(self):
            signal.raise_signal(signal.SIGHUP)

    Gone()
    time.sleep(30)
    print("it got lost")
""",
}


@pytest.mark.parametrize("where", WHERE)
def test_an_interruption_is_not_lost_and_ends_with_its_code(where: str, tmp_path: Path) -> None:
    (tmp_path / "beginning.py").write_text(INTERRUPTED.format(work=WHERE[where]))
    ended = subprocess.run(
        [sys.executable, "-m", "beginning"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=hearing_hangups,
    )
    assert (ended.stdout, ended.stderr) == ("", "ptycho: interrupted\n")
    assert ended.returncode == 129
