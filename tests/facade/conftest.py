"""Ground of the facade's tests: a small scan as the client has it, and one training on each backend."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ptycho_core.backend import discover_backends
from ptycho_core.simulate import simulate_scan

pytest.importorskip("ptycho", reason="the distribution ptychopinn is not installed")

SIDE = 32


@dataclass(frozen=True)
class ClientScan:
    """A scan as the client has it: counts, positions of pixel centres in its object, probe, object."""

    counts: np.ndarray
    x: np.ndarray
    y: np.ndarray
    probe: np.ndarray
    obj: np.ndarray

    def export(self, path: Path, dtype: str = "uint16", modes: int = 1) -> Path:
        """Write the file as the client's exporter does: the same keys, counts of its own type, savez."""
        stack = np.concatenate([self.probe, *(0.1 * self.probe for _ in range(1, modes))])
        np.savez(
            path,
            xcoords=self.x,
            ycoords=self.y,
            xcoords_start=self.x,
            ycoords_start=self.y,
            diff3d=self.counts.astype(dtype),
            bad_pixels=np.zeros(self.counts.shape[1:], bool),
            probeGuess=stack,
            objectGuess=self.obj,
            scan_index=np.zeros(len(self.x), int),
        )
        return path

    def raw(self) -> "RawData":
        """Hand it over as the client does before it reconstructs."""
        from ptycho.raw_data import RawData

        return RawData.from_coords_without_pc(
            xcoords=self.x,
            ycoords=self.y,
            diff3d=self.counts,
            probeGuess=self.probe,
            scan_index=np.zeros(len(self.x), int),
            objectGuess=self.obj,
        )


def as_client(frames: int = 24, seed: int = 1) -> ClientScan:
    scan = simulate_scan(frames=frames, frame_px=SIDE, start_kind="true", seed=seed).scan
    spans = np.ceil(np.ptp(scan.positions_px, axis=0)).astype(int)
    # The client's object is a little larger than the scan, and does not begin at a whole position.
    places = scan.positions_px - scan.positions_px.min(axis=0) + SIDE / 2 + (2.3, 5.8)
    shape = (spans[0] + SIDE + 9, spans[1] + SIDE + 14)
    counts = scan.counts().round().astype(np.uint16)
    return ClientScan(counts, places[:, 1], places[:, 0], scan.probe, np.ones(shape, np.complex128))


@pytest.fixture(scope="session")
def client_scan() -> ClientScan:
    return as_client()


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave registry, environment and remembered network as they were."""
    import ptycho.model_manager
    import ptycho.params

    monkeypatch.delenv("PTYCHO_BACKEND", raising=False)
    monkeypatch.delenv("PTYCHO_MAX_TIME", raising=False)
    monkeypatch.setattr(ptycho._last_trained, "_last", None)
    before = dict(ptycho.params.cfg)
    yield
    ptycho.params.cfg.clear()
    ptycho.params.cfg.update(before)


BACKENDS = ("pytorch", "tensorflow")


@dataclass(frozen=True)
class Trained:
    """A training by the client's calls, and where its bundle is."""

    backend: str
    output: Path
    results: dict


@pytest.fixture(scope="session", params=BACKENDS)
def trained(
    request: pytest.FixtureRequest, client_scan: ClientScan, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """One epoch on each backend that can work here, saved into the directory that the data are in."""
    backend = request.param
    require(backend)
    return train_as_the_client(backend, client_scan, tmp_path_factory.mktemp(backend))


@pytest.fixture
def train_on(client_scan: ClientScan, tmp_path: Path) -> Callable[..., Trained]:
    """Train by the client's calls on a backend by name, where it can work here, with further settings."""

    def train(backend: str, **settings: object) -> Trained:
        require(backend)
        return train_as_the_client(backend, client_scan, tmp_path, **settings)

    return train


def require(backend: str) -> None:
    """Skip where a backend cannot work, with its own reason."""
    core = discover_backends().get(backend)
    if core is None:
        pytest.skip(f"the backend {backend} is not installed")
    found = core.availability()
    if not found.installed:
        pytest.skip(f"{backend}: {found.reason}")


def train_as_the_client(backend: str, scan: ClientScan, folder: Path, **settings: object) -> Trained:
    import warnings

    import ptycho.model_manager
    import ptycho.params
    from ptycho.config.config import ModelConfig, TrainingConfig, update_legacy_dict
    from ptycho.raw_data import RawData
    from ptycho.workflows.components import run_cdi_example, save_outputs

    scan.export(folder / "train_data.npz")
    shutil.copyfile(folder / "train_data.npz", folder / "test_data.npz")
    before = dict(ptycho.params.cfg)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("PTYCHO_BACKEND", backend)
        test = RawData.from_file(folder / "test_data.npz")
        train = RawData.from_file(folder / "train_data.npz")
        fields = {"train_data_file": Path(), "test_data_file": None, "batch_size": 16, "nepochs": 1}
        fields |= {"nphotons": 1e6, "output_dir": Path(), "model": ModelConfig(N=0, gridsize=1), **settings}
        config = TrainingConfig(**fields)
        config.model.N = train.diff3d.shape[-1]
        update_legacy_dict(ptycho.params.cfg, config)
        amplitude, phase, results = run_cdi_example(train, test, config)
        ptycho._last_trained.save(folder)
        save_outputs(amplitude, phase, results, str(folder))
    ptycho.params.cfg.clear()
    ptycho.params.cfg.update(before)
    return Trained(backend, folder, results)
