"""`ptycho simulate`: a scan with known truth, as a file that `ptycho reconstruct` opens."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pydantic import Field

from ptycho_config.errors import ConfigError
from ptycho_config.flags import add_flags, given_flags
from ptycho_config.models import Config
from ptycho_config.plaintext import typed
from ptycho_config.sources import load
from ptycho_config.values import FilePath, PositiveInteger, Seed
from ptycho_core.io import save_scan
from ptycho_core.memory import memory_bytes
from ptycho_core.simulate import ObjectKind, PositionKind, ProbeKind, StartKind, simulate_scan
from ptycho_dispatch.table import print_rows

__all__ = ["EXAMPLES", "SimulationConfig", "add_arguments", "run"]

EXAMPLES = (
    "ptycho simulate --output scan.npz",
    "ptycho simulate --object lines --photons 1e4 --positions raster --output dim.npz",
)


#: Of every pixel of every frame, while it is simulated: counts, amplitude, and what lies between.
_BYTES_OF_A_PIXEL = 12


class SimulationConfig(Config):
    """What to simulate."""

    object: ObjectKind = Field(default="star", description="what the sample shows")
    probe: ProbeKind = Field(default="focus", description="what the beam looks like")
    positions: PositionKind = Field(default="spiral", description="path of the scan")
    start: StartKind = Field(default="scan-like", description="how wrong the start probe in the file is")
    overlap: float = Field(
        default=0.7, ge=0, lt=1, description="overlap of neighbours, of the probe's diameter"
    )
    photons: float = Field(default=1e6, gt=0, le=1e15, description="mean counts per frame")
    frames: PositiveInteger = Field(default=200, description="number of frames")
    size: int = Field(default=64, ge=32, le=1024, multiple_of=16, description="side of a frame in px")
    modes: int = Field(default=1, ge=1, le=8, description="incoherent probe modes")
    background: float = Field(
        default=0.0, ge=0, le=1e3, description="flat background, as a part of the photons"
    )
    bad_pixel_fraction: float = Field(
        default=0.0, ge=0, lt=0.5, description="part of the pixels that are bad"
    )
    seed: Seed = Field(default=0, description="seed of everything random")
    output: FilePath = Field(default=Path("simulated.npz"), description="file to write")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the model."""
    add_flags(parser, SimulationConfig)


def _check_room(config: SimulationConfig) -> None:
    """Refuse what this machine cannot hold before anything is allocated.

    Raises:
        ConfigError: with the number of bytes.
    """
    needed = _BYTES_OF_A_PIXEL * config.frames * config.size**2
    memory = memory_bytes()
    if memory is not None and needed > memory:
        raise ConfigError(
            f"`--frames {config.frames}` of {config.size} px need {needed:.3g} bytes, and this machine has "
            f"{memory:.3g}. Ask for at most {memory // (_BYTES_OF_A_PIXEL * config.size**2)} frames."
        )


def run(arguments: argparse.Namespace) -> int:
    """Simulate and write one scan.

    Raises:
        ConfigError: a setting is impossible, or asks for more memory than there is.
        OutputError: the file cannot be written.
    """
    config = load(SimulationConfig, flags=given_flags(arguments), env=os.environ).config
    _check_room(config)
    made = simulate_scan(
        object_kind=config.object,
        probe_kind=config.probe,
        position_kind=config.positions,
        start_kind=config.start,
        overlap=config.overlap,
        photons=config.photons,
        frames=config.frames,
        frame_px=config.size,
        modes=config.modes,
        background=config.background,
        bad_pixel_fraction=config.bad_pixel_fraction,
        seed=config.seed,
    )
    save_scan(made.scan, config.output)
    print_rows(
        "",
        [
            ("frames", f"{config.frames} of {config.size} x {config.size} px"),
            ("object", f"{config.object}, {made.obj.shape[0]} x {made.obj.shape[1]} px"),
            ("file", str(config.output)),
            ("next", typed(["ptycho", "reconstruct", str(config.output)])),
        ],
    )
    return 0
