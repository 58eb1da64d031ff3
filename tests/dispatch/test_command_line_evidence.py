"""The two command lines of the execution policy, run as they are written, and every line that they owe.

A host with a GPU hides it from these processes, so that everything here runs on every host; the tests marked
`gpu` are the same on a real one. Each line is a process once; what else is asked of it is asked in this one.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config import hardware
from ptycho_config.legacy import params
from ptycho_core import Reconstruction, open_scan
from ptycho_dispatch.cli import main

ROOT = Path(__file__).resolve().parents[2]
DATA = Path("tests/fixtures/pytorch_integration/minimal_dataset_v1.npz")
SIMULATE = f"ptycho simulate --frames 64 --size 32 --seed 1 --output {DATA}"
TRAIN = """
python scripts/training/train.py \
  --config configs/gridsize2_minimal.yaml \
  --train_data_file tests/fixtures/pytorch_integration/minimal_dataset_v1.npz \
  --test_data_file tests/fixtures/pytorch_integration/minimal_dataset_v1.npz \
  --backend pytorch \
  --output_dir .../train_outputs \
  --n_groups 4 --n_subsample 16 --neighbor_count 7 --batch_size 4 --nepochs 1
"""
INFER = """
python scripts/inference/inference.py \
  --model_path .../train_outputs \
  --test_data tests/fixtures/pytorch_integration/minimal_dataset_v1.npz \
  --backend pytorch \
  --output_dir .../inference_outputs \
  --n_images 4 --n_subsample 16
"""
NO_FLAGS = (
    "POLICY-001: No --torch-* execution flags provided. Backend will use GPU-first defaults "
    "(auto-detects CUDA if available, else CPU). CPU-only users should pass --torch-accelerator cpu."
)
INSTANTIATED = (
    "Backend dispatcher: auto-instantiated PyTorchExecutionConfig with accelerator='{device}' "
    "(POLICY-001 GPU-first defaults)"
)
MOVED = "PyTorch model moved to device: {device}"
ACCELERATOR = "accelerator={device}, num_workers=0, inference_batch_size=None"
FALLBACK = "No CUDA device detected"
PICTURES = {
    "amplitude.png",
    "phase.png",
    "overview.png",
    "reconstructed_amplitude.png",
    "reconstructed_phase.png",
}
FILES = PICTURES | {"reconstruction.npz", "reconstruction.h5", "metrics.csv", "run.json", "ptycho.log"}
POLICY = pytest.mark.finding("POLICY-001")


@dataclass(frozen=True)
class Run:
    """A finished command: what it said on the screen and in its log file, and where it wrote."""

    code: int
    screen: str
    directory: Path

    @property
    def log(self) -> str:
        return (self.directory / "ptycho.log").read_text("utf-8")


def call(line: str, directory: Path, *more: str, gpu: bool = False) -> Run:
    """Run a command line from the root of the checkout, its outputs below a directory."""
    words = shlex.split(line.replace(".../", f"{directory.as_posix()}/"))
    assert words.pop(0) == "python"
    output = Path(words[words.index("--output_dir") + 1])
    hidden = {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PTYCHO_TORCH")}
    done = subprocess.run(
        [sys.executable, *words, *more],
        cwd=ROOT,
        env=environment | hidden,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Run(done.returncode, done.stderr, output)


@pytest.fixture
def call_here(ptycho, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Run]:
    """Run the command of a line in this process, which holds the framework already, on a host without a GPU.

    That the scripts of the lines call just these commands, `trained` and `inferred` show.
    """
    monkeypatch.setattr(hardware, "cuda_available", lambda: False)

    def run(line: str, *more: str) -> Run:
        words = shlex.split(line.replace(".../", f"{tmp_path.as_posix()}/"))
        assert words[0] == "python"
        command = {"train.py": "train", "inference.py": "infer"}[Path(words[1]).name]
        there = [str(ROOT / word) if word.startswith(("configs/", "tests/")) else word for word in words[2:]]
        done = ptycho(command, *there, *more)
        assert "Traceback" not in done.err
        return Run(done.code, done.err, Path(words[words.index("--output_dir") + 1]))

    return run


@pytest.fixture(scope="session")
def data() -> Path:
    """Make the scan of the command lines where they look for it."""
    path = ROOT / DATA
    path.parent.mkdir(parents=True, exist_ok=True)
    _, *words = shlex.split(SIMULATE)
    # Written under another name first and renamed, as every file of ours: sessions side by side do no harm.
    subprocess.run(
        [sys.executable, "-m", "ptycho_dispatch", *words], cwd=ROOT, check=True, capture_output=True
    )
    assert open_scan(path).n_frames == 64
    return path


@pytest.fixture(scope="session")
def core() -> None:
    for needed in ("ptycho_core_torch", "torch", "lightning"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="session")
def trained(core: None, data: Path, outputs: Path) -> Run:
    """The training command as it stands, without any `--torch-*` flag."""
    run = call(TRAIN, outputs)
    assert run.code == 0, run.screen
    return run


@pytest.fixture(scope="session")
def inferred(trained: Run, outputs: Path) -> Run:
    """The inference command as it stands, with the network of the training."""
    run = call(INFER, outputs)
    assert run.code == 0, run.screen
    return run


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Run:
    return request.getfixturevalue(request.param)


@POLICY
@pytest.mark.parametrize(
    ("run", "line"),
    [
        ("trained", NO_FLAGS),
        ("trained", INSTANTIATED),
        ("inferred", NO_FLAGS),
        ("inferred", INSTANTIATED),
        ("inferred", MOVED),
        ("inferred", ACCELERATOR),
    ],
    indirect=["run"],
)
def test_each_line_stands_once_on_the_screen_and_once_in_the_log(run: Run, line: str) -> None:
    line = line.format(device="cpu")
    assert run.screen.splitlines().count(f"INFO {line}") == 1
    assert run.screen.count(line) == 1
    assert run.log.count(f" INFO {line}\n") == 1
    assert run.log.count(line) == 1


@POLICY
@pytest.mark.parametrize("run", ["trained", "inferred"], indirect=True)
def test_a_host_without_a_gpu_is_warned_once(run: Run) -> None:
    for text in (run.screen, run.log):
        [warning] = [line for line in text.splitlines() if FALLBACK in line]
        assert "WARNING POLICY-001: No CUDA device detected" in warning
        assert text.index(warning) < text.index(NO_FLAGS)


def test_training_writes_its_bundle_and_its_results(trained: Run) -> None:
    assert FILES | {"wts.h5.zip"} <= {path.name for path in trained.directory.iterdir()}
    for name in PICTURES:
        assert (trained.directory / name).read_bytes().startswith(b"\x89PNG")
    result = Reconstruction.load(trained.directory)
    assert result.method == "network"
    assert np.isfinite(result.object).all()


def test_inference_writes_its_results(inferred: Run) -> None:
    assert {path.name for path in inferred.directory.iterdir()} == FILES
    for name in PICTURES:
        assert (inferred.directory / name).read_bytes().startswith(b"\x89PNG")
    result = Reconstruction.load(inferred.directory)
    # Four groups of four out of sixteen frames.
    assert 4 <= result.n_frames <= 16
    assert np.isfinite(result.object).all()


def test_the_network_is_the_one_that_was_asked_for(trained: Run) -> None:
    from ptycho_core.bundle import read_bundle

    bundle = read_bundle(trained.directory)
    assert (bundle.model["gridsize"], bundle.architecture, len(bundle.history)) == (2, "cnn", 1)
    wanted = {"n_groups": 4, "n_subsample": 16, "neighbor_count": 7, "batch_size": 4, "nepochs": 1}
    assert {name: bundle.training[name] for name in wanted} == wanted


@POLICY
@pytest.mark.parametrize("run", ["trained", "inferred"], indirect=True)
def test_the_run_record_says_what_became_of_auto_and_what_was_warned(run: Run) -> None:
    record = json.loads((run.directory / "run.json").read_text("utf-8"))
    assert record["execution"]["requested"] == "auto"
    assert record["execution"]["resolved"] == "cpu"
    assert FALLBACK in record["execution"]["reason"]
    assert record["settings"]["execution"]["accelerator"] == {
        "value": "cpu",
        "source": "default",
        "origin": "default",
    }
    [event] = record["policy_events"]
    assert event["finding"] == "POLICY-001"
    assert FALLBACK in event["message"]
    assert record["versions"]["torch"]
    assert record["input"]["sha256"]


@POLICY
def test_with_a_flag_nothing_is_said_of_defaults(core: None, trained: Run, call_here) -> None:
    infer = INFER.replace(".../train_outputs", trained.directory.as_posix())
    for line in (TRAIN, infer):
        run = call_here(line, "--torch-accelerator", "cpu")
        assert run.code == 0, run.screen
        for text in (run.screen, run.log):
            assert "POLICY-001" not in text
            assert "Backend dispatcher" not in text
        record = json.loads((run.directory / "run.json").read_text("utf-8"))
        assert record["execution"]["reason"] == "chosen explicitly"
        assert record["policy_events"] == []


@POLICY
@pytest.mark.parametrize("accelerator", ["cuda", "gpu"])
@pytest.mark.parametrize("line", [TRAIN, INFER], ids=["train", "infer"])
def test_an_absent_gpu_that_was_asked_for_ends_the_run_before_anything_is_read_or_written(
    core: None, line: str, accelerator: str, call_here, tmp_path: Path
) -> None:
    # There is no such scan and no such network; whoever looked would end with exit code 3.
    run = call_here(line.replace(str(DATA), "absent.npz"), "--torch-accelerator", accelerator)
    assert run.code == 5
    [said] = run.screen.splitlines()
    assert said.startswith(
        f"ptycho: POLICY-001: accelerator '{accelerator}' was asked for, but no CUDA device"
    )
    assert "--torch-accelerator auto" in said
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `ptycho` in this process, on a host whose hardware gives a chosen answer.

    The scan named does not exist, so that each run ends when it would begin to read, and with it before any
    device is touched.
    """
    monkeypatch.chdir(tmp_path)
    before = params.params()

    def run(there_is_a_gpu: bool, *words: str) -> str:
        monkeypatch.setattr(hardware, "cuda_available", lambda: there_is_a_gpu)
        assert main([*words, "--output-dir", "out"]) == 3
        screen = capsys.readouterr().err
        assert screen.splitlines()[-1].startswith("ptycho: absent.npz: no such file")
        logged = (tmp_path / "out" / "ptycho.log").read_text("utf-8")
        for line in screen.splitlines()[:-1]:
            assert line in logged
        return screen

    yield run
    params.cfg.clear()
    params.cfg.update(before)


TRAIN_ABSENT = ("train", "--train_data_file", "absent.npz")


@POLICY
def test_on_a_gpu_host_training_says_cuda(core: None, in_process: Any) -> None:
    screen = in_process(True, *TRAIN_ABSENT)
    assert screen.count(NO_FLAGS) == 1
    assert screen.count(INSTANTIATED.format(device="cuda")) == 1
    assert "WARNING" not in screen


@POLICY
def test_on_a_gpu_host_inference_says_cuda(in_process: Any, trained: Run) -> None:
    screen = in_process(True, "infer", "--model_path", str(trained.directory), "--test_data", "absent.npz")
    for line in (NO_FLAGS, INSTANTIATED, MOVED, ACCELERATOR):
        assert screen.count(line.format(device="cuda")) == 1
    assert "WARNING" not in screen


@POLICY
@pytest.mark.parametrize(
    "flags",
    [
        ("--torch-accelerator", "cpu"),
        ("--torch_accelerator", "cpu"),
        ("--torch-accelerator", "auto"),
        ("--torch-logger", "none"),
        ("--torch-accumulate-grad-batches", "2"),
        ("--torch-num-workers=1",),
        ("--torch-deterministic",),
    ],
    ids=" ".join,
)
def test_any_flag_of_the_execution_silences_the_line(
    core: None, in_process: Any, flags: tuple[str, ...]
) -> None:
    screen = in_process(True, *TRAIN_ABSENT, *flags)
    assert "No --torch-* execution flags" not in screen
    assert "auto-instantiated" not in screen


@POLICY
@pytest.mark.parametrize("words", [("--learning_rate", "1e-3"), ("--nepochs", "2"), ("--batch-size", "4")])
def test_flags_of_the_training_do_not_silence_it(core: None, in_process: Any, words: tuple[str, ...]) -> None:
    screen = in_process(True, *TRAIN_ABSENT, *words)
    assert screen.count(NO_FLAGS) == 1
    assert screen.count(INSTANTIATED.format(device="cuda")) == 1


@POLICY
def test_an_accelerator_from_elsewhere_is_no_default(
    core: None, in_process: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PTYCHO_TORCH_ACCELERATOR", "cpu")
    assert "GPU-first defaults" not in in_process(True, *TRAIN_ABSENT)
    monkeypatch.delenv("PTYCHO_TORCH_ACCELERATOR")
    (tmp_path / "run.yaml").write_text("torch:\n  accelerator: cpu\n", encoding="utf-8")
    assert "GPU-first defaults" not in in_process(True, *TRAIN_ABSENT, "--config", "run.yaml")


@pytest.mark.finding("CONFIG-001")
def test_the_command_line_updates_the_registry_before_it_opens_anything(core: None, in_process: Any) -> None:
    params.cfg["nepochs"] = -1
    in_process(True, *TRAIN_ABSENT, "--nepochs", "7")
    assert params.cfg["nepochs"] == 7


@POLICY
@pytest.mark.gpu
def test_on_a_real_gpu_both_commands_run_there(data: Path, tmp_path: Path) -> None:
    trained = call(TRAIN, tmp_path, gpu=True)
    inferred = call(INFER, tmp_path, gpu=True)
    for run in (trained, inferred):
        assert run.code == 0, run.screen
        for text in (run.screen, run.log):
            assert text.count(NO_FLAGS) == 1
            assert text.count(INSTANTIATED.format(device="cuda")) == 1
            assert FALLBACK not in text
    for line in (MOVED, ACCELERATOR):
        assert inferred.screen.count(line.format(device="cuda")) == 1
        assert inferred.log.count(line.format(device="cuda")) == 1
    assert trained.screen.count("GPU available: True (cuda), used: True, device ") == 1
    assert json.loads((trained.directory / "run.json").read_text("utf-8"))["policy_events"] == []
