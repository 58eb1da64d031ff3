"""`ptycho reconstruct --method network | both`: a whole run, and what its closing table says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho_core import Reconstruction, Scan, scan_from_arrays, solve
from ptycho_core.backend import discover_backends
from ptycho_core.held_out import SHARE
from ptycho_core.io import save_scan
from ptycho_core.simulate import simulate_scan
from ptycho_core.verdict.rivals import Rivals

CORES = {name: core.availability() for name, core in discover_backends().items()}
WAYS = ("network", "solver", "network, then solver")
LEVELS, PRIOR = "maiden2009 thibault2012 maiden2017 odstrcil2018", "rudin1992 beck2009 chambolle2011"
NETWORK = "hoidn2023 ronneberger2015"


def run_of(ptycho, tmp_path: Path, scan: Path, method: str, backend: str) -> tuple[dict, str]:
    if backend not in CORES or not CORES[backend].installed:
        pytest.skip(f"the core of the backend {backend} cannot work here")
    words = ("reconstruct", scan, "--method", method, "--max-time", "6s", "--accelerator", "cpu")
    done = ptycho(*words, "--backend", backend, "--output-dir", "out")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["timings_s"]["total"] > 3
    assert record["method"] in done.out
    assert record["network"]["configuration"]["training"]["backend"] == backend
    return record, done.err


def papers(record: dict) -> str:
    return " ".join(paper["key"] for paper in record["papers"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_the_time_of_the_run_includes_the_training(
    ptycho, scan_file: Path, tmp_path: Path, backend: str
) -> None:
    record, _ = run_of(ptycho, tmp_path, scan_file, "network", backend)
    assert record["method"] == "network"
    # The solver refined the probe.
    assert papers(record) == f"{LEVELS} {NETWORK}"


@pytest.mark.parametrize("backend", ["pytorch", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_of_many_photons_those_held_out_take_the_best_of_three_images(
    ptycho, scan_file: Path, tmp_path: Path, backend: str
) -> None:
    record, said = run_of(ptycho, tmp_path, scan_file, "both", backend)
    (event,) = (event for event in record["events"] if event["kind"] == "method")
    misfits = event["data"]["misfits"]
    assert set(misfits) == set(WAYS)
    least = min(misfits, key=misfits.__getitem__)
    clearly = misfits[least] < 0.99 * misfits["solver"]
    assert record["method"] == event["data"]["taken"] == (least if clearly else "solver")
    assert "By photons held out (network " in said
    expected = f"{LEVELS} {PRIOR}" if record["method"] == "solver" else f"{LEVELS} {PRIOR} {NETWORK}"
    assert papers(record) == expected


def test_of_few_photons_those_held_out_say_how_strongly_the_network_is_followed(
    ptycho, tmp_path: Path
) -> None:
    made = simulate_scan(frames=40, frame_px=32, photons=1e3, seed=1)
    save_scan(made.scan, tmp_path / "dim.npz")
    record, said = run_of(ptycho, tmp_path, tmp_path / "dim.npz", "both", "pytorch")
    (event,) = (event for event in record["events"] if event["kind"] == "prior_mean")
    wanted = event["data"]["strength"] > 0 or event["data"]["starts"]
    assert record["method"] == ("network, then solver" if wanted else "solver")
    assert "Prior mean: " in said and "Training a network" in said


@pytest.mark.slow
def test_frames_that_are_no_counts_are_judged_by_frames_held_out(ptycho, tmp_path: Path) -> None:
    made = simulate_scan(frames=40, frame_px=32, photons=1e6, seed=1).scan
    scan = scan_from_arrays(
        made.amplitude() * 0.37, made.positions_px, made.probe, measurement="amplitude", dc="center"
    )
    save_scan(scan, tmp_path / "amplitudes.npz")
    record, said = run_of(ptycho, tmp_path, tmp_path / "amplitudes.npz", "both", "pytorch")
    assert "By frames held out (network " in said
    assert record["method"] in WAYS and record["n_frames"] == 40


# What images are held against


def amplitudes_of(scan: Scan) -> Scan:
    told = {"measurement": "amplitude", "dc": "center"}
    return scan_from_arrays(scan.amplitude() * 0.37, scan.positions_px, scan.probe, **told)


@pytest.mark.parametrize("of_what", ["photons", "frames"])
def test_what_no_image_has_seen_finds_the_best(of_what: str) -> None:
    made = simulate_scan(frames=60, frame_px=32, photons=1e5, start_kind="true", seed=1)
    scan = made.scan if of_what == "photons" else amplitudes_of(made.scan)
    rivals = Rivals.of(scan, np.random.default_rng(0))
    assert rivals.of_what == of_what
    if of_what == "photons":
        counts = rivals.seen.counts() + rivals.judging.counts()
        assert np.allclose(counts, made.scan.counts())
        share = rivals.judging.counts().sum() / counts.sum()
        assert share == pytest.approx(SHARE, rel=0.05)
    else:
        assert rivals.seen.n_frames + rivals.judging.n_frames == scan.n_frames
    assert rivals.seen.ground_truth is None
    good = solve(rivals.seen)
    images: dict[str, Reconstruction] = {"good": good}
    random = np.random.default_rng(1)
    for name, noise in (("worse", 0.05), ("bad", 0.2)):
        spoiled = good.object + noise * (random.normal(size=(*good.object.shape, 2)) @ np.array([1, 1j]))
        images[name] = replace(good, object=spoiled.astype(np.complex64))
    misfits = rivals.misfits(images)
    assert misfits["good"] < misfits["worse"] < misfits["bad"]
    # With what judged it, the probe has as many photons more.
    light = {name: float((np.abs(one.probe) ** 2).sum()) for name, one in images.items()}
    ratio = float((np.abs(rivals.for_all(good).probe) ** 2).sum()) / light["good"]
    assert ratio == pytest.approx(1 / (1 - SHARE) if of_what == "photons" else 1.0, rel=1e-5)
    # A scale that passes from the object to the probe, or none, changes nothing.
    brighter = replace(good, object=good.object * np.complex64(3j))
    assert rivals.misfits({"brighter": brighter})["brighter"] == pytest.approx(misfits["good"], rel=1e-3)
