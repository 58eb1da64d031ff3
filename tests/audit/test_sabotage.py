"""Disable the enforcement of each finding in turn: the audit must name that finding, and no other."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptycho_config.findings import finding_ids, read_finding

FOLDER = Path(__file__).parent / "sabotage"
CORE_IS_HERE = all(importlib.util.find_spec(name) for name in ("ptycho_core_torch", "torch", "lightning"))

#: What is sabotaged below the cores -> the findings that share the enforcement.
BELOW_THE_CORES = {
    "reader_skips_checksums": {"BUNDLE-001"},
    "reader_takes_extra_members": {"BUNDLE-001"},
    "reader_takes_newer_versions": {"BUNDLE-001"},
    "reader_takes_any_name": {"BUNDLE-001"},
    "dispatcher_without_the_registry": {"CONFIG-001"},
    "command_without_the_registry": {"CONFIG-001"},
    "failing_update_leaves_keys": {"CONFIG-001"},
    "execution_copied_into_the_registry": {"CONFIG-002"},
    "registry_takes_anything": {"CONFIG-001", "CONFIG-002"},
    "training_takes_an_accelerator": {"CONFIG-002"},
    "no_logger_by_default": {"CONFIG-LOGGER-001"},
    "dispatcher_chooses_no_logger": {"CONFIG-LOGGER-001"},
    "door_takes_metres": {"DATA-001"},
    "corner_taken_for_the_centre": {"DATA-001"},
    "counts_taken_for_amplitude": {"DATA-001"},
    "labels_are_not_asked_for": {"DATA-SUP-001"},
    "manual_guard_always_allows": {"EXEC-ACCUM-001"},
    "epoch_guard_always_allows": {"EXEC-ACCUM-002"},
    "collapse_guard_always_allows": {"TRAIN-COLLAPSE-001"},
    "transposition_is_silent": {"FORMAT-001"},
    "transposition_is_said_twice": {"FORMAT-001"},
    "squares_wrap": {"NORMALIZATION-001"},
    "photons_not_rooted": {"NORMALIZATION-001"},
    "groups_without_the_opt_in": {"OVERSAMPLING-001"},
    "explicit_gpu_becomes_the_cpu": {"POLICY-001"},
    "fallback_is_silent": {"POLICY-001"},
    "fallback_is_said_twice": {"POLICY-001"},
    "auto_is_the_cpu": {"POLICY-001"},
    "absent_gpu_is_ignored": {"POLICY-001"},
    "dispatcher_is_silent": {"POLICY-001"},
    "solver_takes_the_cpu_instead": {"POLICY-001"},
}
#: What is sabotaged inside the PyTorch core. Importing PyTorch takes longest, so one audit judges them all.
INSIDE_THE_CORE = {
    "core_writes_no_csv": {"CONFIG-LOGGER-001"},
    "core_asks_for_no_labels": {"DATA-SUP-001"},
    "core_asks_no_guard": {"EXEC-ACCUM-001", "EXEC-ACCUM-002"},
    "core_sees_no_collapse": {"TRAIN-COLLAPSE-001"},
}


def audit(*words: str, sabotage: str = "", hide_cores: bool) -> tuple[int, dict[str, Any], str]:
    """Run the real command; the probes meet what the sabotage left of the code."""
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "PTYCHO_SABOTAGE": sabotage}
    if hide_cores:
        environment["PTYCHO_HIDE_CORES"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "ptycho_dispatch", "audit", "--format", "json", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def failed(record: dict[str, Any]) -> set[str]:
    return {finding["id"] for finding in record["findings"] if finding["outcome"] == "failed"}


def test_an_honest_installation_without_cores_passes() -> None:
    code, record, errors = audit(hide_cores=True)
    assert failed(record) == set()
    assert code == 0, errors
    assert {finding["outcome"] for finding in record["findings"]} == {"passed"}


@pytest.mark.parametrize("sabotage", BELOW_THE_CORES)
def test_a_disabled_rule_is_named_and_no_other(sabotage: str) -> None:
    code, record, errors = audit(sabotage=sabotage, hide_cores=True)
    assert failed(record) == BELOW_THE_CORES[sabotage], errors
    assert code == 5
    for finding in BELOW_THE_CORES[sabotage]:
        assert f"\n{finding}: " in f"\n{errors}"


@pytest.mark.skipif(not CORE_IS_HERE, reason="the PyTorch core, torch or lightning is not installed")
def test_rules_disabled_inside_the_core_are_named_and_no_other() -> None:
    code, record, errors = audit(sabotage=",".join(INSIDE_THE_CORE), hide_cores=False)
    expected = set().union(*INSIDE_THE_CORE.values())
    assert failed(record) == expected, errors
    assert code == 5
    for finding in record["findings"]:
        broken = {one["probe"] for one in finding["evidence"]["probes"] if one["outcome"] == "failed"}
        assert all(probe.startswith("ptycho_core_torch.probes.") for probe in broken)
        assert bool(broken) == (finding["id"] in expected)


def test_every_active_finding_is_sabotaged() -> None:
    sabotaged = set().union(*BELOW_THE_CORES.values(), *INSIDE_THE_CORE.values())
    active = {one for one in finding_ids() if read_finding(one).status == "active"}
    assert active == sabotaged


def test_every_sabotage_is_used() -> None:
    spec = importlib.util.spec_from_file_location("sabotages", FOLDER / "sabotages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = {
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == "sabotages"
    }
    assert functions - {"nothing", "twice"} == {*BELOW_THE_CORES, *INSIDE_THE_CORE}
