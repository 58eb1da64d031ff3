"""The command line from outside: output, files, exit codes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ptycho_config import hardware
from ptycho_config.flags import flag_specs
from ptycho_core import Reconstruction
from ptycho_dispatch.cli import COMMANDS
from ptycho_dispatch.settings import PARTS

RESULT_FILES = {
    "reconstruction.npz",
    "reconstruction.h5",
    "metrics.csv",
    "run.json",
    "amplitude.png",
    "phase.png",
    "overview.png",
    "ptycho.log",
}


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith(("INFO", "WARNING"))]
    assert len(lines) == 1, text
    return lines[0]


def test_reconstruct_writes_every_file_and_reports(ptycho_process, scan_file: Path, tmp_path: Path) -> None:
    done = ptycho_process("reconstruct", scan_file, "--output-dir", "out")
    assert done.code == 0, done.err
    assert names(tmp_path / "out") == RESULT_FILES
    for word in ("frames", "method", "time", "frames/s", "residual R", "files"):
        assert word in done.out
    assert "\x1b" not in done.out + done.err
    result = Reconstruction.load(tmp_path / "out")
    assert result.n_frames == 40
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["settings"]["run"]["output_dir"]["source"] == "flag"
    assert record["settings"]["solver"]["effort"]["source"] == "default"
    assert record["input"]["sha256"]
    assert record["versions"]["ptycho-core"]
    assert "epoch" in (tmp_path / "out" / "ptycho.log").read_text()


def test_progress_lines_name_level_epoch_residual_speed_and_time_left(ptycho, scan_file: Path) -> None:
    done = ptycho("reconstruct", scan_file, "--output-dir", "out")
    assert re.search(
        r"level 1/\d \(\d+ px\), epoch 1/\d+, residual 0\.\d+, \d+ frames/s, at most \d+ s left", done.err
    )


def test_quiet_leaves_the_table_only(ptycho_process, scan_file: Path) -> None:
    done = ptycho_process("reconstruct", scan_file, "--quiet", "--output-dir", "out")
    # Only what a user must know: so few frames are doubtful.
    assert [line for line in done.err.splitlines() if not line.startswith("WARNING Verdict: ")] == []
    assert "residual R" in done.out


NETWORKS = all(importlib.util.find_spec(name) for name in ("ptycho_core_torch", "torch", "lightning"))
NO_NETWORK = (3, "no such file") if NETWORKS else (4, "pip install")
NO_BUNDLE = (3, "nothing") if NETWORKS else (4, "pip install")
NO_RESUME = (2, "--method solver") if NETWORKS else (4, "pip install")
INFER_FROM_NOTHING = ("infer", "--test-data", "x.npz", "--model-path", "nothing")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["reconstruct", "no-such-file.npz"], 3, "no such file"),
        (["reconstruct", "siemens-sta"], 3, "siemens-star"),
        (["recon"], 2, "Did you mean `ptycho reconstruct`"),
        (["reconstruct"], 2, "SCAN"),
        (["reconstruct", "x.npz", "--efort", "fast"], 2, "did you mean `--effort`"),
        (["reconstruct", "x.npz", "--effort", "huge"], 2, "huge"),
        (["reconstruct", "x.npz", "--probe-modes", "0"], 2, "probe"),
        (["reconstruct", "x.npz", "--method", "network"], *NO_NETWORK),
        (["reconstruct", "x.npz", "--method", "both", "--resume"], *NO_RESUME),
        (["train", "--nepochs", "1"], 2, "--train-data-file"),
        ([*INFER_FROM_NOTHING, "--torch-accelerator", "cpu"], *NO_BUNDLE),
        (["reconstruct", "x.npz", "--arrays", "numpy", "--accelerator", "cuda"], 5, "POLICY-001"),
        (["reconstruct", "x.npz", "--config", "none.yaml"], 2, "none.yaml"),
        (["reconstruct", "x.npz", "--resume"], 2, "reconstruction.npz"),
        (["compare", "nothing", "nothing"], 3, "nothing"),
        (["data", "fetch"], 2, "needs a name"),
        (["data", "fetch", "siemens"], 2, "siemens-star"),
        (["simulate", "--overlap", "2"], 2, "overlap"),
        (["inspect", "no-such-file.npz"], 3, "no such file"),
    ],
)
def test_a_user_error_is_one_line_and_a_code(
    ptycho, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, text: str
) -> None:
    monkeypatch.setattr(hardware, "cuda_available", lambda: False)
    done = ptycho(*words)
    assert done.code == code, done.err
    assert text in one_line(done.err)
    assert "Traceback" not in done.err


def test_debug_shows_the_traceback(ptycho) -> None:
    done = ptycho("reconstruct", "no-such-file.npz", "--debug")
    assert done.code == 3
    assert "Traceback" in done.err


def test_an_output_directory_below_a_file_is_refused_before_any_work(ptycho, scan_file: Path) -> None:
    done = ptycho("reconstruct", scan_file, "--output-dir", scan_file / "below")
    assert done.code == 1
    assert "--output-dir" in one_line(done.err)
    assert "epoch" not in done.err


def test_a_full_disk_leaves_nothing_half_written(ptycho_process, scan_file: Path, tmp_path: Path) -> None:
    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    done = ptycho_process("reconstruct", scan_file, "--output-dir", "out", preexec_fn=small_files_only)
    assert done.code == 1, done.err
    assert "reconstruction.npz" in one_line(done.err)
    assert names(tmp_path / "out") <= {"ptycho.log"}


def running(scan_file: Path, directory: Path, marker: str) -> subprocess.Popen[str]:
    """A long reconstruction that has begun its work."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "ptycho_dispatch",
            "reconstruct",
            str(scan_file),
            "--output-dir",
            str(directory),
            "--effort",
            "thorough",
            "--solver-epochs",
            "100000",
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if marker in line:
            return process
    raise AssertionError("the run ended before it began")


def test_ctrl_c_keeps_the_image_and_exits_130(scan_file: Path, tmp_path: Path) -> None:
    process = running(scan_file, tmp_path / "out", "epoch 1/")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert names(tmp_path / "out") == RESULT_FILES
    assert "interrupted" in out
    assert np.isfinite(Reconstruction.load(tmp_path / "out").object).all()


def test_kill_9_leaves_no_file_under_a_final_name(scan_file: Path, tmp_path: Path) -> None:
    process = running(scan_file, tmp_path / "out", "epoch 1/")
    time.sleep(0.05)
    process.kill()
    process.communicate(timeout=60)
    assert names(tmp_path / "out") <= {"ptycho.log"}


def test_a_result_can_be_resumed_inspected_and_compared(ptycho, scan_file: Path) -> None:
    assert ptycho("reconstruct", scan_file, "--effort", "fast", "--output-dir", "out").code == 0
    resumed = ptycho("reconstruct", scan_file, "--effort", "fast", "--resume", "--output-dir", "out")
    assert resumed.code == 0, resumed.err
    assert "result of the solver" in ptycho("inspect", "out").out
    assert "product" in ptycho("inspect", "out/reconstruction.h5").out
    compared = ptycho("compare", "out", scan_file, "--output-dir", "compared")
    assert compared.code == 0, compared.err
    assert "object_error" in compared.out


def test_inspect_tells_what_is_in_a_scan(ptycho, scan_file: Path, tmp_path: Path) -> None:
    done = ptycho("inspect", scan_file, "--picture", "scan.png")
    assert done.code == 0, done.err
    for word in ("frames", "counts", "overlap", "probe", "truth"):
        assert word in done.out
    assert (tmp_path / "scan.png").stat().st_size > 10_000


def test_flags_beat_environment_beats_file_beats_default(ptycho, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("seed: 1\neffort: fast\nprobe_modes: 2\n")
    words = ("config", "show", "--config", "run.yaml", "--seed", "3")
    done = ptycho(*words, PTYCHO_SEED="2", PTYCHO_EFFORT="thorough")
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line.split()}
    assert rows["seed"][0] == "3"
    assert rows["effort"][0] == "thorough"
    assert rows["probe_modes"][0] == "2"
    assert rows["background"][1] == "default"


def test_every_setting_of_the_models_is_a_flag(ptycho) -> None:
    text = ptycho("reconstruct", "--help").out
    missing = [
        spec.name for part in PARTS for spec in flag_specs(part) if not spec.hidden and spec.name not in text
    ]
    assert not missing


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(ptycho, command: str) -> None:
    done = ptycho(command, "--help")
    assert done.code == 0
    assert f"ptycho {command}" in done.out


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["backends"], ["data", "list"], ["config", "schema"]]
)
def test_the_small_commands_answer(ptycho, words: list[str]) -> None:
    done = ptycho(*words)
    assert done.code == 0, done.err
    assert done.out


def test_too_few_photons_are_said_in_the_table(ptycho) -> None:
    assert ptycho("simulate", "--photons", "30", "--frames", "30", "--output", "dim.npz").code == 0
    done = ptycho("reconstruct", "dim.npz", "--output-dir", "out")
    assert done.code == 0, done.err
    assert "too few photons" in done.out
    assert "carry no image" in done.err


def test_the_command_line_imports_no_framework_and_no_core_by_name() -> None:
    code = (
        "import sys; from ptycho_dispatch.cli import main; main(['config', 'show']); "
        "heavy = {'torch', 'tensorflow', 'ptycho_core_torch', 'ptycho_core_tf', 'scipy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_backend_of_matplotlib_that_is_none_ends_no_command() -> None:
    """Some libraries load matplotlib, which takes the name as it stands; a command shows no window."""
    code = "import os; from ptycho_dispatch import cli; cli.main(); import matplotlib; os._exit(0)"
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"],
        env=os.environ | {"MPLBACKEND": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
