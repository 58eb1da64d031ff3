"""`ptycho train` that somebody ends from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

for needed in ("ptycho_core_torch", "torch", "lightning"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")


def ended(scan_file: Path, out: Path, *signals: signal.Signals) -> tuple[int, str, str]:
    """Exit code and output of a training that gets signals after its first epoch."""
    command = [sys.executable, "-m", "ptycho_dispatch", "train", "--train-data-file", str(scan_file)]
    settings = ["--nepochs", "100000", "--torch-accelerator", "cpu", "--probe-refinement", "false"]
    words = [*command, *settings, "--output-dir", str(out)]
    pipes: dict[str, int] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as process:
        assert process.stderr is not None
        assert any("epoch 1/" in line for line in process.stderr)
        for one in signals:
            process.send_signal(one)
        stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def test_what_a_scheduler_ends_keeps_its_network(scan_file: Path, tmp_path: Path) -> None:
    code, stdout, stderr = ended(scan_file, tmp_path / "out", signal.SIGTERM)
    assert code == 143, stderr
    assert "Stopped on request; the weights reached so far are kept." in stderr
    assert "(interrupted)" in stdout
    assert (tmp_path / "out" / "wts.h5.zip").exists()


@pytest.mark.slow
def test_a_second_interrupt_ends_at_once_and_says_no_more_than_that(scan_file: Path, tmp_path: Path) -> None:
    code, _, stderr = ended(scan_file, tmp_path / "out", signal.SIGINT, signal.SIGINT)
    assert code == 130, stderr
    assert "Traceback" not in stderr
