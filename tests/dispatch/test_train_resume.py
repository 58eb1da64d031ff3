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
    assert missing.code == 2
    assert "`--resume`: out holds no bundle to go on with" in missing.err
    first = ptycho(*words, "--nepochs", "1", "--batch-size", "8")
    assert first.code == 0, first.err
    other = ptycho(*words, "--resume", "--nepochs", "2", "--batch-size", "4")
    assert other.code == 2
    assert "`batch_size` was 8 and is 4" in other.err
    second = ptycho(*words, "--resume", "--nepochs", "2")
    assert second.code == 0, second.err
    assert "Going on with the network in out after 1 epochs." in second.err
    assert any(line.split() == ["epochs", "2"] for line in second.out.splitlines())
    finished = ptycho(*words, "--resume")
    assert finished.code == 2
    assert "All 2 epochs are done" in finished.err


@pytest.fixture(scope="module")
def trained(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the bundle of one epoch."""
    from ptycho_config.execution import PyTorchExecutionConfig
    from ptycho_config.models import TrainingConfig
    from ptycho_core import open_scan
    from ptycho_core.backend import get_backend

    directory = tmp_path_factory.mktemp("trained")
    execution = PyTorchExecutionConfig(accelerator="cpu", logger_backend="none")
    network = get_backend("pytorch").train(open_scan(str(scan_file)), TrainingConfig(nepochs=1), execution)
    network.save(directory)
    return directory


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def turned(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [cut, turned, lambda content: b"", lambda content: b"not a bundle"],
    ids=["cut", "turned", "empty", "text"],
)
def test_a_damaged_bundle_is_refused_and_stays_as_it_is(
    ptycho, scan_file: Path, tmp_path: Path, trained: Path, damage
) -> None:
    bundle = tmp_path / "out" / "wts.h5.zip"
    bundle.parent.mkdir()
    bundle.write_bytes(damage((trained / "wts.h5.zip").read_bytes()))
    before = bundle.read_bytes()
    done = ptycho(*TRAIN, "--train-data-file", scan_file, "--resume", "--nepochs", "2")
    assert done.code == 3
    last = done.err.splitlines()[-1]
    assert last.startswith("ptycho: BUNDLE-001")
    assert "wts.h5.zip" in last
    assert bundle.read_bytes() == before
    assert "Traceback" not in done.err


def test_everything_that_differs_is_named(ptycho, scan_file: Path, tmp_path: Path, trained: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "wts.h5.zip").write_bytes((trained / "wts.h5.zip").read_bytes())
    other = ("--seed", "4", "--N", "64", "--architecture", "cnn")
    done = ptycho(*TRAIN, "--train-data-file", scan_file, "--resume", "--nepochs", "2", *other)
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        "ptycho: The network was trained with other settings: `seed` was None and is 4; "
        "`N` was 32 and is 64; `architecture` was 'unet' and is 'cnn'. "
        "Leave them out to go on with it, or leave out `--resume` to train anew."
    )
