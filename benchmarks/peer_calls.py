"""Call pty-chi in its own environment and judge what comes back with our evaluator."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import frame
import numpy as np

from ptycho_core import Scan
from ptycho_core.physics.residual import data_residual

__all__ = ["Peer", "PeerSnapshot"]


@dataclass(frozen=True, eq=False)
class PeerSnapshot:
    """State after some epochs; `centres_px` are canvas coordinates of index N/2 of the windows.

    `processor_seconds` are those of all threads.
    """

    epoch: int
    seconds: float
    processor_seconds: float
    obj: np.ndarray
    probe: np.ndarray
    centres_px: np.ndarray

    def residual(self, scan: Scan, subpixel: str) -> float:
        """R under one sub-pixel model."""
        return data_residual(self.obj, self.probe, self.centres_px, scan, subpixel=subpixel).value


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
        engine: str,
        batch_size: int,
        epochs: int,
        snapshots: tuple[int, ...] = (),
        momentum: float | None = None,
        batching: str | None = None,
        noise: str | None = None,
        modes: int = 1,
    ) -> list[PeerSnapshot]:
        """Reconstruct the scan and return the snapshots and the end."""
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
            command = [
                self.python,
                str(Path(__file__).with_name("peer.py")),
                str(source),
                str(target),
                "--engine",
                engine,
                "--batch-size",
                str(batch_size),
                "--epochs",
                str(epochs),
                "--snapshots",
                ",".join(map(str, snapshots)),
            ]
            choices = {"--momentum": momentum, "--batching": batching, "--noise": noise}
            for flag, value in choices.items():
                if value is not None:
                    command += [flag, str(value)]
            frame.run_child(command, "pty-chi", quiet=True)
            with np.load(target, allow_pickle=False) as archive:
                out = {key: archive[key] for key in archive.files}
        centres = windows_on(out, scan)
        return [
            PeerSnapshot(int(epoch), *map(float, times), obj, probe, centres)
            for epoch, *times, obj, probe in zip(
                out["epochs"],
                out["seconds"],
                out["processor_seconds"],
                out["objects"],
                out["probes"],
                strict=True,
            )
        ]


def start_modes(scan: Scan, modes: int) -> np.ndarray:
    """The scan's start probe, and further modes as our solver seeds them."""
    from ptycho_core.solver.spectra import probe_of, seed_modes, spectrum_of

    return probe_of(seed_modes(spectrum_of(scan.probe[0]).astype(np.complex64), modes))


def windows_on(out: dict[str, np.ndarray], scan: Scan) -> np.ndarray:
    """Where the windows lie on the peer's canvas: about its middle, to the half pixel that explains best."""
    middle = np.asarray(out["objects"].shape[-2:]) / 2
    candidates = [
        out["positions_px"] + middle + np.array(half) for half in product((-0.5, 0.0, 0.5), repeat=2)
    ]
    obj, probe = out["objects"][-1], out["probes"][-1]
    part = scan.select(np.arange(min(60, scan.n_frames)))

    def misfit(centres: np.ndarray) -> float:
        return data_residual(obj, probe, centres[: part.n_frames], part, subpixel="object_bilinear").value

    return min(candidates, key=misfit)
