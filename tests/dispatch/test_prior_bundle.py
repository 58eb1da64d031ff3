"""`ptycho reconstruct --prior-bundle`: the image of a network that was trained before, as prior mean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_core import Reconstruction, scan_from_arrays, solve
from ptycho_core.backend import discover_backends
from ptycho_core.io import save_scan
from ptycho_core.result.history import RunEvent
from ptycho_core.simulate import simulate_scan

CORES = {name: core.availability() for name, core in discover_backends().items()}
HERE = [name for name in ("pytorch", "tensorflow") if name in CORES and CORES[name].installed]
pytestmark = pytest.mark.skipif(not HERE, reason="no core that trains networks is installed")
QUIET = ("--diagnose", "off", "--frc", "false", "--accelerator", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, scans with its probe, one with another, and one of another size."""
    from ptycho_config.execution import PyTorchExecutionConfig, TensorFlowExecutionConfig
    from ptycho_config.models import TrainingConfig
    from ptycho_core.backend import get_backend

    root = tmp_path_factory.mktemp("prior-bundle")
    bright = simulate_scan(frames=30, frame_px=32, start_kind="true", photons=1e5, seed=1).scan
    kind = PyTorchExecutionConfig if HERE[0] == "pytorch" else TensorFlowExecutionConfig
    where = kind(accelerator="cpu", logger_backend=None)
    get_backend(HERE[0]).train(bright, TrainingConfig(nepochs=1), where).save(root / "trained")
    dim = simulate_scan(frames=30, frame_px=32, start_kind="true", photons=1e3, seed=2).scan
    save_scan(bright, root / "bright.npz")
    save_scan(dim, root / "dim.npz")
    x = np.arange(32) - 16
    defocus = np.exp(0.02j * (x[:, None] ** 2 + x**2)).astype(np.complex64)
    save_scan(replace(dim, probe=dim.probe * defocus, ground_truth=None), root / "defocused.npz")
    save_scan(simulate_scan(frames=20, frame_px=48, photons=1e3, seed=2).scan, root / "large.npz")
    amplitudes = scan_from_arrays(
        bright.amplitude() * 0.37, bright.positions_px, bright.probe, measurement="amplitude", dc="center"
    )
    save_scan(amplitudes, root / "amplitudes.npz")
    return root


def run_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "run.json").read_text("utf-8"))


@pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=[pytest.mark.slow] if name != HERE[0] else []) for name in HERE],
)
def test_the_network_is_offered_and_what_became_of_it_is_kept(
    backend: str, folder: Path, ptycho, tmp_path: Path
) -> None:
    bundle = folder / "trained"
    words = ("--prior-bundle", bundle, "--backend", backend, *QUIET)
    done = ptycho("reconstruct", folder / "dim.npz", *words, "--output-dir", "out")
    assert done.code == 0, done.err
    assert f"Method: solver (`auto`), with the image of the network in {bundle} as prior mean" in done.err
    assert "prior mean" in done.out
    assert done.err.count("Prior mean: ") == 1
    record = run_of(tmp_path / "out")
    (event,) = (event for event in record["events"] if event["kind"] == "prior_mean")
    kept = record["prior_mean"]
    assert kept["bundle"] == str(bundle)
    assert kept["strength"] == event["data"]["strength"] >= 0
    assert event["data"]["gain"] >= 0
    cited = "hoidn2023" in {paper["key"] for paper in record["papers"]}
    assert cited == bool(kept["strength"] or kept["starts"])


def test_a_network_that_is_not_wanted_changes_nothing(folder: Path, ptycho, tmp_path: Path) -> None:
    """One epoch has taught it next to nothing."""
    words = ("reconstruct", folder / "dim.npz", *QUIET)
    assert ptycho(*words, "--output-dir", "alone").code == 0
    assert ptycho(*words, "--prior-bundle", folder / "trained", "--output-dir", "offered").code == 0
    alone, offered = (Reconstruction.load(tmp_path / name) for name in ("alone", "offered"))
    assert run_of(tmp_path / "offered")["prior_mean"]["strength"] == 0
    assert np.array_equal(alone.object, offered.object)


@pytest.mark.parametrize(
    ("scan", "why"), [("bright.npz", "need no help"), ("amplitudes.npz", "are no photon counts")]
)
def test_where_it_is_not_asked_for_the_run_says_why(
    scan: str, why: str, folder: Path, ptycho, tmp_path: Path
) -> None:
    words = ("reconstruct", folder / scan, "--prior-bundle", folder / "trained", *QUIET)
    done = ptycho(*words, "--output-dir", "out")
    assert done.code == 0, done.err
    assert "not asked for (strength 0)" in done.err and why in done.err
    assert run_of(tmp_path / "out")["prior_mean"]["strength"] == 0


def test_another_probe_is_a_warning(folder: Path, ptycho) -> None:
    words = ("--prior-bundle", folder / "trained", "--solver-epochs", "1", *QUIET)  # it is said before them
    done = ptycho("reconstruct", folder / "defocused.npz", *words)
    assert done.code == 0, done.err
    assert "WARNING" in done.err and "was trained with another probe than that of defocused" in done.err
    assert "another probe" not in ptycho("reconstruct", folder / "dim.npz", *words).err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("large.npz", "--prior-bundle", "trained"), 2, "frames of 32 px and large has frames of 48 px"),
        (("dim.npz", "--prior-bundle", "nowhere"), 3, "nowhere"),
        (("dim.npz", "--prior-bundle", "dim.npz"), 3, "dim.npz"),
        (("dim.npz", "--prior-bundle", "trained", "--method", "both"), 2, "`--method both` trains one"),
        (("dim.npz", "--prior-bundle", "trained", "--method", "network"), 2, "`ptycho infer` images"),
        (("dim.npz", "--prior-bundle", "trained", "--start", "x"), 2, "Leave `--start` and `--resume` out"),
        (("dim.npz", "--prior-bundle", "trained", "--resume"), 2, "Leave `--start` and `--resume` out"),
        (("dim.npz", "--prior-bundle", "trained", "--prior", "none"), 2, "which `--prior none` leaves out"),
        (("dim.npz", "--prior-bundle", "trained", "--effort", "fast"), 2, "which `--effort fast` leaves out"),
        (("dim.npz", "--prior-bundle", "trained", "--uncertainty", "true"), 2, "lets a network take part"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    words: tuple[str, ...], code: int, said: str, folder: Path, ptycho, tmp_path: Path
) -> None:
    there = {path.name for path in folder.iterdir()}
    done = ptycho("reconstruct", *(folder / word if word in there else word for word in words))
    assert done.code == code, done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("ptycho: "))
    assert said in line
    assert not (tmp_path / "reconstruction" / "reconstruction.npz").exists()


def test_a_yaml_file_names_it_too(folder: Path, ptycho, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(f"prior_bundle: {folder / 'trained'}\n", encoding="utf-8")
    done = ptycho("reconstruct", folder / "dim.npz", "--config", "settings.yaml", *QUIET)
    assert done.code == 0, done.err
    assert "Prior mean: " in done.err


def test_the_papers_of_a_network_that_is_followed_are_named(folder: Path) -> None:
    from ptycho_config.execution import SolverExecutionConfig
    from ptycho_config.models import RunConfig
    from ptycho_core import open_scan
    from ptycho_dispatch.prior_bundle import PriorBundle

    execution = SolverExecutionConfig(arrays="numpy", accelerator="cpu")
    bundle = PriorBundle.open(RunConfig(prior_bundle=folder / "trained"), execution)
    assert bundle is not None
    result = solve(open_scan(folder / "bright.npz"), None, execution)
    for strength in (0.0, 12.5):
        event = RunEvent("prior_mean", "", {"strength": strength, "starts": False})
        kept = bundle.recorded(replace(result, events=(event,))).provenance
        assert kept["prior_mean"]["strength"] == strength
        assert ("ronneberger2015" in {paper["key"] for paper in kept["papers"]}) == (strength > 0)
