"""Every example that a help text gives works as it stands."""

from __future__ import annotations

import importlib
import importlib.util
import shlex
import shutil
from pathlib import Path

import pytest

from ptycho_dispatch.cli import COMMANDS

EXAMPLES = [
    (command, example)
    for command, (module, _) in COMMANDS.items()
    for example in importlib.import_module(f"ptycho_dispatch.{module}").EXAMPLES
]


#: Training on the real scan, and a search for what is wrong, take as long as the examples say.
SLOW = ("train --train-data-file siemens-star", "diagnose scan.npz --budget")

NETWORKS = all(importlib.util.find_spec(name) for name in ("ptycho_core_torch", "torch", "lightning"))
#: What writes and runs exported networks.
EXPORTS = NETWORKS and all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime")))


@pytest.fixture(scope="module")
def folder(
    run_command, scan_file: Path, siemens_star_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with what the examples name: a scan, two results of it, a network, a file with settings.

    The real scan is fetched beforehand, where it is not there yet.
    """
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(scan_file, folder / "scan.npz")
    scan = folder / "scan.npz"
    solving = ("reconstruct", scan, "--effort", "fast")
    assert run_command(*solving, "--output-dir", folder / "reconstruction") == 0
    if NETWORKS:
        training = ("train", "--train-data-file", scan, "--nepochs", 1, "--torch-accelerator", "cpu")
        assert run_command(*training, "--output-dir", folder / "trained") == 0
    if EXPORTS:
        assert run_command("export", folder / "trained") == 0
    shutil.copytree(folder / "reconstruction", folder / "star")
    (folder / "settings.yaml").write_text("effort: fast\nprobe_modes: 2\n")
    return folder


@pytest.mark.parametrize(
    ("command", "text"),
    [
        pytest.param(
            command,
            example,
            id=example,
            marks=pytest.mark.slow if any(one in example for one in SLOW) else [],
        )
        for command, example in EXAMPLES
    ],
)
def test_the_example_works(
    command: str, text: str, folder: Path, tmp_path: Path, example, checked_once: None
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    program, *words = shlex.split(text)
    assert program == "ptycho"
    assert words[0] == command
    if not EXPORTS and (command == "export" or ".onnx" in text):
        pytest.skip("PyTorch, onnx, onnxscript or onnxruntime is not installed")
    done = example(*words)
    needs_network = command in ("train", "infer") or "network" in words
    expected = 4 if needs_network and not NETWORKS else 0
    assert done.code == expected, done.err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_shows_its_examples(command: str, ptycho) -> None:
    shown = ptycho(command, "--help").out
    wanted = [example for name, example in EXAMPLES if name == command]
    assert wanted
    for example in wanted:
        assert f"\n  {example}\n" in shown
