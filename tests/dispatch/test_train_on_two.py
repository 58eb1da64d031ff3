"""`ptycho train --torch-devices 2`: two processes, and one run as far as anybody can see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_dispatch.dispatcher import follows

for needed in ("ptycho_core_torch", "torch", "lightning"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")


@pytest.fixture
def alone() -> dict[str, str]:
    """The environment of somebody who was not started by a launcher."""
    launchers = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    return {name: value for name, value in os.environ.items() if name not in launchers}


def command(scan_file: Path, out: Path, *words: str) -> list[str]:
    start = [sys.executable, "-m", "ptycho_dispatch", "train", "--train-data-file", str(scan_file)]
    devices = ["--torch-devices", "2", "--torch-accelerator", "cpu", "--batch-size", "8"]
    narrow = ["--architecture", "fno_vanilla", "--fno-width", "8", "--fno-blocks", "1"]
    return [*start, *devices, *narrow, "--probe-refinement", "false", "--output-dir", str(out), *words]


def test_it_says_and_writes_what_one_process_would(
    scan_file: Path, tmp_path: Path, alone: dict[str, str]
) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        command(scan_file, out, "--nepochs", "2", "--torch-strategy", "ddp"),
        env=alone,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = Counter(done.stderr.splitlines())
    assert any("epoch 2/2" in line for line in said)
    assert max(said.values()) == 1, said
    assert [line.split()[0] for line in done.stdout.splitlines() if line.strip()] == [
        "scan",
        "network",
        "epochs",
        "time",
        "residual",
        "files",
    ]
    assert len((out / "ptycho.log").read_text().splitlines()) == len(said)
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == {
        *("wts.h5.zip", "reconstruction.npz", "reconstruction.h5", "metrics.csv", "run.json", "ptycho.log"),
        *("amplitude.png", "phase.png", "overview.png"),
        *("reconstructed_amplitude.png", "reconstructed_phase.png"),
        *("checkpoints/last.ckpt", *(name for name in written if name.startswith("checkpoints/epoch="))),
        "lightning_logs/version_0/metrics.csv",
    }
    amplitude = (out / "amplitude.png").read_bytes()
    assert (out / "reconstructed_amplitude.png").read_bytes() == amplitude


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_first_process_ends_both_and_keeps_the_network(
    scan_file: Path, tmp_path: Path, alone: dict[str, str], sign: signal.Signals
) -> None:
    out = tmp_path / "out"
    words = command(scan_file, out, "--nepochs", "100000")
    pipes: dict[str, int] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, env=alone, text=True, **pipes) as process:
        assert process.stderr is not None
        assert any("epoch 1/" in line for line in process.stderr)
        process.send_signal(sign)
        # Both processes hold the pipe: it is at its end when both have ended.
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + sign, stderr
    assert stderr.count("Stopped on request") == 1
    assert "(interrupted)" in stdout
    assert (out / "wts.h5.zip").exists()


TWO = PyTorchExecutionConfig(accelerator="cpu", devices=2)


@pytest.mark.parametrize(
    ("environment", "answer"),
    [
        ({}, False),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, False),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}, True),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}, False),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, True),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "1"}, False),
        ({"RANK": "7"}, False),
    ],
)
def test_a_follower_has_a_number_among_several(environment: dict[str, str], answer: bool) -> None:
    assert follows(TWO, environment) is answer
    assert not follows(PyTorchExecutionConfig(accelerator="cpu"), environment)


def test_on_a_second_machine_every_process_follows() -> None:
    machines = PyTorchExecutionConfig(accelerator="cpu", devices=1, num_nodes=2)
    assert follows(machines, {"NODE_RANK": "1"})
    assert not follows(machines, {"NODE_RANK": "0"})


PROGRAM = """
import os, sys
written = []
sys.addaudithook(lambda event, given: written.append(str(given[1])) if event == "os.rename" else None)
from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.models import ModelConfig, TrainingConfig
from ptycho_dispatch.dispatcher import train_cdi_model_with_backend

narrow = ModelConfig(architecture="fno_vanilla", fno_width=8, fno_blocks=1)
config = TrainingConfig(model=narrow, nepochs=1, batch_size=8, output_dir=sys.argv[2])
execution = PyTorchExecutionConfig(devices=2, strategy="ddp", accelerator="cpu", enable_checkpointing=False)
results = train_cdi_model_with_backend(sys.argv[1], None, config, torch_execution_config=execution)
bundles = sum(name.endswith("wts.h5.zip") for name in written)
number = os.environ.get("LOCAL_RANK", "0")
print(f"process {number} wrote {bundles} and names {results['bundle'].name}", flush=True)
"""


@pytest.mark.slow
def test_the_dispatcher_writes_one_bundle_for_both(
    scan_file: Path, tmp_path: Path, alone: dict[str, str]
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, str(program), str(scan_file), str(tmp_path / "out")]
    done = subprocess.run(words, env=alone, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "process 0 wrote 1 and names wts.h5.zip",
        "process 1 wrote 0 and names wts.h5.zip",
    ]
