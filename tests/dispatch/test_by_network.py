"""`ptycho reconstruct --method network | both`: a whole run, and what its closing table says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

for needed in ("ptycho_core_torch", "torch", "lightning"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")


@pytest.mark.parametrize(("method", "said"), [("network", "network"), ("both", "network, then solver")])
def test_the_time_of_the_run_includes_the_training(
    ptycho, scan_file: Path, tmp_path: Path, method: str, said: str
) -> None:
    words = ("reconstruct", scan_file, "--method", method, "--max-time", "6s", "--accelerator", "cpu")
    done = ptycho(*words, "--output-dir", "out")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["method"] == said
    assert record["timings_s"]["total"] > 3
    assert said in done.stdout
