"""`ptycho reconstruct --method network | both`: a whole run, and what its closing table says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptycho_core.backend import discover_backends

CORES = {name: core.availability() for name, core in discover_backends().items()}


@pytest.mark.parametrize(
    ("backend", "method", "said"),
    [
        ("pytorch", "both", "network, then solver"),
        pytest.param("tensorflow", "network", "network", marks=pytest.mark.slow),
        pytest.param("pytorch", "network", "network", marks=pytest.mark.slow),
        pytest.param("tensorflow", "both", "network, then solver", marks=pytest.mark.slow),
    ],
)
def test_the_time_of_the_run_includes_the_training(
    ptycho, scan_file: Path, tmp_path: Path, method: str, said: str, backend: str
) -> None:
    if backend not in CORES or not CORES[backend].installed:
        pytest.skip(f"the core of the backend {backend} cannot work here")
    words = ("reconstruct", scan_file, "--method", method, "--max-time", "6s", "--accelerator", "cpu")
    words += ("--backend", backend)
    done = ptycho(*words, "--output-dir", "out")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["method"] == said
    assert record["timings_s"]["total"] > 3
    assert said in done.out
    # The solver refined the probe, and with `both` it went on from the network's image.
    papers = " ".join(paper["key"] for paper in record["papers"])
    levels, prior = "maiden2009 thibault2012 maiden2017 odstrcil2018", "rudin1992 beck2009 chambolle2011"
    solver = f"{levels} {prior}" if method == "both" else levels
    assert papers == f"{solver} hoidn2023 ronneberger2015"
