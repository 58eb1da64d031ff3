"""`ptycho train --resume`: go on with the bundle in the output directory, or say why not."""

from __future__ import annotations

from pathlib import Path

import pytest

for needed in ("ptycho_core_torch", "torch", "lightning"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

TRAIN = ("train", "--output-dir", "out", "--torch-accelerator", "cpu", "--torch-logger", "none")


def test_a_training_goes_on_from_its_bundle(ptycho, scan_file: Path, tmp_path: Path) -> None:
    words = (*TRAIN, "--train-data-file", scan_file)
    missing = ptycho(*words, "--resume")
    assert missing.returncode == 2
    assert "`--resume`: out holds no bundle to go on with" in missing.stderr
    first = ptycho(*words, "--nepochs", "1", "--batch-size", "8")
    assert first.returncode == 0, first.stderr
    other = ptycho(*words, "--resume", "--nepochs", "2", "--batch-size", "4")
    assert other.returncode == 2
    assert "`batch_size` was 8 and is 4" in other.stderr
    second = ptycho(*words, "--resume", "--nepochs", "2")
    assert second.returncode == 0, second.stderr
    assert "Going on with the network in out after 1 epochs." in second.stderr
    assert any(line.split() == ["epochs", "2"] for line in second.stdout.splitlines())
    finished = ptycho(*words, "--resume")
    assert finished.returncode == 2
    assert "All 2 epochs are done" in finished.stderr
