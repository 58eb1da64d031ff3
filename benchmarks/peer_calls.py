"""Call pty-chi in its own environment and judge what comes back with our evaluator."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import frame
import numpy as np

from ptycho_core import Scan
from ptycho_core.physics.residual import data_residual

__all__ = ["OTHER_PEERS", "Peer", "PeerSnapshot", "described", "flags", "least_epochs"]

#: Why pty-chi is the only peer; stands on every page with a peer.
OTHER_PEERS = (
    "PtyPy (`DM`, `ML`) is no peer here: pip knows no package of it (`pip download` and `pip index versions` of "
    "`ptypy` and of `python-ptypy` find no version at all), nor does Debian. It is installed from a checkout of its "
    "source, which is nothing that this comparison could pin and make anew."
)
#: What the option of a run is called in a table.
_WORDS = {
    "batch_size": "batch",
    "coarse": "epochs at coarser levels",
    "momentum": "momentum",
    "batching": "batches",
    "noise": "noise",
    "positions": "positions by",
    "position_limit": "px a move up to",
    "position_step": "position step",
    "position_momentum": "position momentum",
    "position_start": "positions from epoch",
}


@dataclass(frozen=True, eq=False)
class PeerSnapshot:
    """State after some epochs; `centres_px` are canvas coordinates of index N/2 of the windows.

    `processor_seconds` are those of all threads. `intensity` (M,) has the mean 1; all are 1 where none was found.
    """

    epoch: int
    seconds: float
    processor_seconds: float
    obj: np.ndarray
    probe: np.ndarray
    centres_px: np.ndarray
    intensity: np.ndarray

    def residual(self, scan: Scan, subpixel: str) -> float:
        """R under one sub-pixel model."""
        found = None if np.ptp(self.intensity) == 0 else self.intensity
        compared = data_residual(
            self.obj, self.probe, self.centres_px, scan, subpixel=subpixel, frame_intensity=found
        )
        return compared.value


class Peer:
    """The peer's interpreter, from `--peer-python` or the variable PTYCHO_PEER_PYTHON."""

    def __init__(self, python: str | None = None) -> None:
        self.python = python or os.environ.get("PTYCHO_PEER_PYTHON", "")
        if not self.python or not Path(self.python).exists():
            raise SystemExit("the peer's interpreter is missing: run `nox -s bench`, or give --peer-python")

    def run(
        self,
        scan: Scan,
        *,
        epochs: int,
        snapshots: Sequence[int] = (),
        modes: int = 1,
        **choices: object,
    ) -> list[PeerSnapshot]:
        """Reconstruct the scan and return the snapshots and the end.

        Args:
            epochs: all in all, those at coarser levels included.
            choices: the arguments of `peer.py` by name; None and False leave one out.
        """
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
            arrays = {
                "counts": scan.counts(),
                "positions_px": scan.positions_px,
                "probe": start_modes(scan, modes),
            }
            if scan.bad_pixels is not None:
                arrays["good"] = scan.good_pixels()
            np.savez(source, **arrays)
            told = flags({"epochs": epochs, "snapshots": tuple(snapshots), **choices})
            program = str(Path(__file__).with_name("peer.py"))
            frame.run_child([self.python, program, source, target, *told], "pty-chi", quiet=True)
            with np.load(target, allow_pickle=False) as archive:
                out = {key: archive[key] for key in archive.files}
        centres = windows_on(out, scan)
        return [
            PeerSnapshot(int(epoch), *map(float, times), obj, probe, where, intensity)
            for epoch, *times, obj, probe, where, intensity in zip(
                out["epochs"],
                out["seconds"],
                out["processor_seconds"],
                out["objects"],
                out["probes"],
                centres,
                out["intensities"],
                strict=True,
            )
        ]


def flags(choices: Mapping[str, object]) -> list[str]:
    """Write choices as arguments of a program; None and False are left out, lists are joined by commas."""
    told: list[str] = []
    for name, value in choices.items():
        if value is None or value is False:
            continue
        told.append("--" + name.replace("_", "-"))
        if value is not True:
            several = isinstance(value, (list, tuple))
            told.append(",".join(map(str, value)) if several else str(value))
    return told


def described(option: Mapping[str, Any]) -> str:
    """Say in words what the peer was offered."""
    said = []
    for name, value in option.items():
        shown = " and ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        said.append(f"{_WORDS.get(name, name)} {shown}")
    return ", ".join(said)


def least_epochs(options: Sequence[Mapping[str, Any]]) -> int:
    """Fewest epochs that leave one at full resolution behind the coarser levels of every option."""
    return 1 + max(sum(option.get("coarse", ())) for option in options)


def start_modes(scan: Scan, modes: int) -> np.ndarray:
    """The scan's start probe, and further modes as our solver seeds them where the scan has none."""
    from ptycho_core.solver.spectra import probe_of, seed_modes, spectrum_of

    if 1 < modes <= len(scan.probe):
        return scan.probe[:modes]
    return probe_of(seed_modes(spectrum_of(scan.probe[0]).astype(np.complex64), modes))


def windows_on(out: Mapping[str, np.ndarray], scan: Scan) -> np.ndarray:
    """Where the windows of each snapshot lie on the peer's canvas, (S, M, 2).

    It lays them about the middle of its canvas: to the half pixel that explains the end best.
    """
    middle = np.asarray(out["objects"].shape[-2:]) / 2
    obj, probe = out["objects"][-1], out["probes"][-1]
    part = scan.select(np.arange(min(60, scan.n_frames)))

    def misfit(offset: np.ndarray) -> float:
        centres = out["positions_px"][-1, : part.n_frames] + offset
        return data_residual(obj, probe, centres, part, subpixel="object_bilinear").value

    offsets = [middle + np.array(half) for half in product((-0.5, 0.0, 0.5), repeat=2)]
    return out["positions_px"] + min(offsets, key=misfit)
