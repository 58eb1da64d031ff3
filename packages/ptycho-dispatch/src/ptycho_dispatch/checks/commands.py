"""What `ptycho train`, `infer` and `reconstruct` do before data are read: POLICY-001, CONFIG-001."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ptycho_config import hardware
from ptycho_config.checks.evidence import Evidence, demand, observe, refused
from ptycho_config.commandline import FlagParser
from ptycho_config.errors import BackendUnavailableError, CheckError, DataError, PolicyError
from ptycho_config.legacy import params
from ptycho_core.backend import Availability
from ptycho_dispatch.checks.recording import registry_kept
from ptycho_dispatch.commands import inference, reconstruct, training

__all__ = ["commands_are_gpu_first", "train_writes_the_registry_first"]

_ABSENT = "there-is-no-such-scan.npz"
_TRAIN = ("--train-data-file", _ABSENT)
_INFER = ("--test-data", _ABSENT, "--model-path", "there-is-no-such-bundle")
NO_FLAGS = "POLICY-001: No --torch-* execution flags provided."


def _run(command: ModuleType, *words: str, **more: Any) -> None:
    """Run a command in this process, its results in a folder that is removed afterwards.

    Args:
        more: for `run` of the command.
    """
    with tempfile.TemporaryDirectory() as folder, registry_kept():
        parser = FlagParser(prog="ptycho")
        command.add_arguments(parser)
        command.run(parser.parse_args([*words, "--output-dir", folder]), **more)


def commands_are_gpu_first() -> Evidence:
    """Run the commands on a scan that does not exist: what the rule wants said must come before that.

    Raises:
        CheckError: POLICY-001 does not hold.
    """
    finding, has_cuda = "POLICY-001", hardware.cuda_available()
    evidence: Evidence = {}
    if not has_cuda:
        attempts: Mapping[str, Callable[[], None]] = {
            "train --torch-accelerator cuda": lambda: _run(training, *_TRAIN, "--torch-accelerator", "cuda"),
            "infer --torch-accelerator cuda": lambda: _run(inference, *_INFER, "--torch-accelerator", "cuda"),
            "reconstruct --accelerator cuda": lambda: _run(reconstruct, _ABSENT, "--accelerator", "cuda"),
        }
        for what, attempt in attempts.items():
            refused(finding, PolicyError, f"`ptycho {what}` without a GPU", attempt)
        evidence["an explicit GPU that is absent"] = (
            f"refused before the scan is opened by {', '.join(attempts)}"
        )
    for flags, expected in (((), 1), (("--torch-accelerator", "cpu"), 0), (("--torch-num-workers", "0"), 0)):
        observed = observe(lambda flags=flags: _fails_for_want_of_data(*flags))
        what = " ".join(flags) or "no flag"
        said = sum(line.startswith(NO_FLAGS) for line in observed.logged)
        demand(
            said == expected, finding, f"with {what} the line on defaults came {said} times", f"{expected}"
        )
        warned = sum(hardware.NO_CUDA in line for line in observed.logged) + len(observed.warned)
        fell_back = not has_cuda and flags[:1] != ("--torch-accelerator",)
        demand(
            warned == int(fell_back), finding, f"with {what} it warned {warned} times", f"{int(fell_back)}"
        )
    return {
        **evidence,
        "train without execution flags": f"says so once, {0 if has_cuda else 1} warnings",
        "train with one": "does not say so",
    }


def _fails_for_want_of_data(*flags: str) -> None:
    with suppress(DataError, BackendUnavailableError):
        _run(training, *_TRAIN, *flags)


def train_writes_the_registry_first() -> Evidence:
    """Run `ptycho train` up to the moment when it calls a backend, and look at the registry then.

    Raises:
        CheckError: CONFIG-001 does not hold.
    """
    finding, reached = "CONFIG-001", _Backend()
    with tempfile.TemporaryDirectory() as folder:
        scan = _write_scan(Path(folder) / "scan.npz")
        words = ("--train-data-file", str(scan), "--nepochs", "7", "--torch-accelerator", "cpu")
        with suppress(CheckError):
            _run(training, *words, "--probe-refinement", "false", find=lambda name: reached)
    found = (reached.registry or {}).get("nepochs"), (reached.registry or {}).get("train_data_file_path")
    demand(
        found == (7, str(scan)),
        finding,
        f"the registry held {found} when the backend was called",
        "(7, the scan)",
    )
    return {"registry when `ptycho train` calls its backend": "holds the settings of the command"}


class _Backend:
    """A backend whose training ends where it would begin."""

    name = "pytorch"
    registry: dict[str, Any] | None = None

    def availability(self) -> Availability:
        return Availability(installed=True)

    def train(self, *arguments: Any, **options: Any) -> Any:
        self.registry = dict(params.cfg)
        raise CheckError("the backend is reached", finding="CONFIG-001")


def _write_scan(path: Path) -> Path:
    at = np.arange(32) - 16
    light = 200 * np.exp(-(at[:, None] ** 2 + at**2) / 30)
    np.savez(
        path,
        diff3d=np.stack([light + frame for frame in range(9)]).astype(np.uint16),
        xcoords=np.arange(9) % 3 * 2.0,
        ycoords=np.arange(9) // 3 * 2.0,
        probeGuess=np.exp(-(at[:, None] ** 2 + at**2) / 60).astype(np.complex64),
    )
    return path
