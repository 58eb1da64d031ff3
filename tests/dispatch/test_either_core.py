"""`ptycho train` and `ptycho infer` with either core: one command line, one bundle, one object."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ptycho_core import Reconstruction
from ptycho_core.bundle import read_bundle

#: Backend -> what it needs, and the beginning of its flags.
CORES = {
    "pytorch": (("ptycho_core_torch", "torch", "lightning"), "--torch-"),
    "tensorflow": (("ptycho_core_tf", "tensorflow", "keras"), "--tensorflow-"),
}
HERE = {name: all(map(importlib.util.find_spec, needed)) for name, (needed, _) in CORES.items()}
#: The command line in a process that can hide frameworks, and that says which ones it ended with.
WRAPPED = """
import sys
out, hidden, words = sys.argv[1], sys.argv[2].split(), sys.argv[3:]
sys.modules.update(dict.fromkeys(hidden))
from ptycho_dispatch.cli import main
try:
    code = main(words)
finally:
    frameworks = {"torch", "lightning", "tensorflow", "keras"}
    with open(out, "w") as file:
        file.write(" ".join(sorted(name for name in frameworks if sys.modules.get(name))))
sys.exit(code)
"""
NETWORK = ["--architecture", "fno", "--fno-width", "4", "--fno-blocks", "1"]
NETWORK += ["--fno-cnn-blocks", "1", "--fno-modes", "4"]
NO_GPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}

each_core = pytest.mark.parametrize("backend", sorted(CORES))


@dataclass(frozen=True)
class Run:
    """A finished command."""

    code: int
    out: str
    screen: str
    frameworks: set[str]
    directory: Path

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.screen.splitlines() if line.startswith("WARNING ")]

    @property
    def record(self) -> dict:
        return json.loads((self.directory / "run.json").read_text("utf-8"))


def call(folder: Path, *words: object, hidden: str = "", out: str = "out") -> Run:
    """Run `ptycho` in a folder, its results below it."""
    directory, seen = folder / out, folder / f"frameworks-{out}"
    command = [sys.executable, "-c", WRAPPED, str(seen), hidden, *map(str, words)]
    options = {"capture_output": True, "text": True, "timeout": 300, "check": False, "env": NO_GPU}
    done = subprocess.run([*command, "--output-dir", str(directory)], cwd=folder, **options)
    return Run(done.returncode, done.stdout, done.stderr, set(seen.read_text().split()), directory)


def needs(*backends: str) -> None:
    for backend in backends:
        if not HERE[backend]:
            pytest.skip(f"the core of `{backend}` or its framework is not installed")


def on_cpu(backend: str) -> tuple[str, str, str, str]:
    return ("--backend", backend, f"{CORES[backend][1]}accelerator", "cpu")


@pytest.fixture(scope="module")
def trained(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A training by every core that works here."""
    words = (
        "train",
        "--train-data-file",
        scan_file,
        "--nepochs",
        2,
        "--batch-size",
        8,
        "--seed",
        1,
        *NETWORK,
    )
    return {
        backend: call(tmp_path_factory.mktemp(backend), *words, *on_cpu(backend))
        for backend in sorted(CORES)
        if HERE[backend]
    }


@each_core
def test_a_training_ends_well_and_leaves_everything(trained: dict[str, Run], backend: str) -> None:
    needs(backend)
    run = trained[backend]
    assert run.code == 0, run.screen
    names = {path.name for path in run.directory.iterdir()}
    assert {"wts.h5.zip", "reconstruction.npz", "run.json", "ptycho.log", "overview.png"} <= names
    assert len(list(run.directory.rglob("version_0/metrics.csv"))) == 1
    assert {path.stem for path in (run.directory / "checkpoints").iterdir()} >= {"last"}
    bundle = read_bundle(run.directory)
    assert (bundle.backend, len(bundle.history)) == (backend, 2)
    assert run.record["settings"]["training"]["backend"]["value"] == backend
    assert run.record["execution"] == {
        "requested": "cpu",
        "resolved": "cpu",
        "reason": "chosen explicitly",
    }
    assert run.record["policy_events"] == []
    # The solver refined the probe.
    solver = ["maiden2009", "thibault2012", "maiden2017", "odstrcil2018"]
    assert [paper["key"] for paper in run.record["papers"]] == [*solver, "hoidn2023", "li2021"]


@each_core
def test_the_screen_shows_our_own_lines_alone(trained: dict[str, Run], backend: str) -> None:
    needs(backend)
    lines = trained[backend].screen.splitlines()
    assert lines and all(line.startswith("INFO ") for line in lines), trained[backend].screen
    assert not any(word in trained[backend].screen for word in ("oneDNN", "cuda_executor", "TF_CPP"))


@each_core
def test_one_framework_is_loaded_and_never_the_other(trained: dict[str, Run], backend: str) -> None:
    needs(backend)
    assert trained[backend].frameworks == set(CORES[backend][0][1:])


@pytest.mark.parametrize(
    ("trainer", "backend"),
    [pytest.param("pytorch", "tensorflow", marks=pytest.mark.slow), ("tensorflow", "pytorch")],
)
def test_a_bundle_of_one_core_gives_the_same_object_in_the_other(
    trained: dict[str, Run], scan_file: Path, tmp_path: Path, trainer: str, backend: str
) -> None:
    needs(trainer, backend)
    words = ("infer", "--model-path", trained[trainer].directory, "--test-data", scan_file)
    run = call(tmp_path, *words, *on_cpu(backend))
    assert run.code == 0, run.screen
    assert run.frameworks and run.frameworks <= set(CORES[backend][0][1:])
    # A network of a few epochs is no image of the sample, and that is said.
    assert all(line.startswith(("INFO ", "WARNING Verdict: ")) for line in run.screen.splitlines()), (
        run.screen
    )
    own, other = (Reconstruction.load(one.directory) for one in (trained[trainer], run))
    assert np.abs(own.object - other.object).max() <= 1e-5 * np.abs(own.object).max()
    assert other.data_residual == pytest.approx(own.data_residual, rel=1e-5)
    assert [paper["key"] for paper in run.record["papers"]] == ["hoidn2023", "li2021"]


def test_without_a_word_the_core_that_trained_a_bundle_opens_it(
    trained: dict[str, Run], scan_file: Path, tmp_path: Path
) -> None:
    needs("tensorflow")
    words = (
        "infer",
        "--model-path",
        trained["tensorflow"].directory / "wts.h5.zip",
        "--test-data",
        scan_file,
    )
    run = call(tmp_path, *words, "--tensorflow-accelerator", "cpu", "--torch-num-workers", 2)
    assert run.code == 0, run.screen
    assert run.frameworks == {"tensorflow", "keras"}
    warnings = [line for line in run.warnings if not line.startswith("WARNING Verdict: ")]
    assert warnings == ["WARNING Without effect with the backend `tensorflow`: --torch-num-workers."]
    assert "INFO TensorFlow model: accelerator=cpu, inference_batch_size=None" in run.screen


def test_where_the_core_that_trained_a_bundle_is_absent_the_other_is_named_and_not_taken(
    trained: dict[str, Run], scan_file: Path, tmp_path: Path
) -> None:
    needs("tensorflow", "pytorch")
    words = ("infer", "--model-path", trained["tensorflow"].directory, "--test-data", scan_file)
    run = call(tmp_path, *words, hidden="tensorflow")
    assert run.code == 4
    assert run.screen == (
        "ptycho: The backend `tensorflow` cannot work here: tensorflow not installed. "
        "Install it: pip install 'ptycho-dispatch[tf]'. "
        "Or use `--backend pytorch`, which opens this bundle too.\n"
    )
    assert not run.directory.exists()


@each_core
def test_a_framework_that_is_absent_ends_the_run_with_its_command_and_nothing_made(
    scan_file: Path, tmp_path: Path, backend: str
) -> None:
    needs(backend)
    _, framework, _ = CORES[backend][0]
    words = ("train", "--train-data-file", scan_file, *on_cpu(backend))
    run = call(tmp_path, *words, hidden=framework)
    assert run.code == 4
    assert f"The backend `{backend}` cannot work here: {framework} not installed" in run.screen
    assert "pip install 'ptycho-dispatch[" in run.screen
    assert not run.directory.exists()
    assert run.frameworks <= {"lightning"}


@pytest.mark.finding("POLICY-001")
@each_core
@pytest.mark.parametrize("command", ["train", pytest.param("infer", marks=pytest.mark.slow)])
def test_an_absent_gpu_that_was_asked_for_ends_the_run_before_anything_is_read_or_made(
    tmp_path: Path, backend: str, command: str
) -> None:
    needs(backend)
    files = {
        "train": ("--train-data-file", "nothing.npz"),
        "infer": ("--model-path", "nowhere", "--test-data", "nothing.npz"),
    }
    flag = f"{CORES[backend][1]}accelerator"
    run = call(tmp_path, command, *files[command], "--backend", backend, flag, "cuda")
    assert run.code == 5
    assert run.screen.splitlines()[-1] == (
        "ptycho: POLICY-001: accelerator 'cuda' was asked for, but no CUDA device detected. "
        f"Use `{flag} auto` to take what the host has, or `cpu`."
    )
    assert not run.directory.exists()


@pytest.mark.slow
@each_core
def test_a_resumed_training_that_is_interrupted_keeps_its_network(
    trained: dict[str, Run], scan_file: Path, tmp_path: Path, backend: str
) -> None:
    needs(backend)
    directory = shutil.copytree(trained[backend].directory, tmp_path / "out")
    words = ["train", "--train-data-file", str(scan_file), "--output-dir", str(directory), "--resume"]
    other = "--torch-num-workers" if backend == "tensorflow" else "--tensorflow-jit-compile"
    words += ["--nepochs", "100000", *on_cpu(backend), other, "1" if backend == "tensorflow" else "false"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": NO_GPU}
    with subprocess.Popen([sys.executable, "-m", "ptycho_dispatch", *words], **pipes) as process:
        heard = []
        try:
            for line in process.stderr:
                heard.append(line)
                # One line a second: which epochs have one depends on the host.
                told = re.search(r"epoch (\d+)/", line)
                if told and int(told[1]) >= 2:
                    break
            process.send_signal(signal.SIGINT)
            table, rest = process.communicate(timeout=120)
        finally:
            process.kill()  # where it does not hear: leaving the block waits for it
    screen = "".join(heard) + rest
    assert process.returncode == 130, screen
    assert "Going on with the network in" in screen
    assert f"WARNING Without effect with the backend `{backend}`: {other}." in screen
    assert "Stopped on request; the weights reached so far are kept." in screen
    assert "Traceback" not in screen
    assert all(line.startswith(("INFO ", "WARNING ")) for line in screen.splitlines()), screen
    assert "(interrupted)" in table
    assert len(read_bundle(directory).history) >= 4
    assert np.isfinite(Reconstruction.load(directory).object).all()
