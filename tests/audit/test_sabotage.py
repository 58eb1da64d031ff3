"""Disable the enforcement of each finding in turn: the audit must name that finding, and no other."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ptycho_config.findings import finding_ids, read_finding

FOLDER = Path(__file__).parent / "sabotage"
#: Core -> the frameworks that its checks need.
CORES = {"ptycho_core_torch": ("torch", "lightning"), "ptycho_core_tf": ("tensorflow", "keras")}
HERE = [
    core for core, needed in CORES.items() if all(importlib.util.find_spec(name) for name in (core, *needed))
]

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
#: What is sabotaged inside the cores. Importing frameworks takes longest, so one audit judges them all.
INSIDE_THE_CORES = {
    "ptycho_core_torch": {
        "core_writes_no_csv": {"CONFIG-LOGGER-001"},
        "cores_ask_for_no_labels": {"DATA-SUP-001"},
        "core_asks_no_guard": {"EXEC-ACCUM-001", "EXEC-ACCUM-002"},
        "core_looks_for_no_gpu": {"POLICY-001"},
        "core_sees_no_collapse": {"TRAIN-COLLAPSE-001"},
    },
    "ptycho_core_tf": {
        "tensorflow_core_writes_no_csv": {"CONFIG-LOGGER-001"},
        "cores_ask_for_no_labels": {"DATA-SUP-001"},
        "tensorflow_core_looks_for_the_gpu_later": {"POLICY-001"},
        "tensorflow_core_falls_back_silently": {"POLICY-001"},
        "tensorflow_core_sees_no_collapse": {"TRAIN-COLLAPSE-001"},
    },
}


#: A process that audits once for each line it reads, a line that names what is sabotaged. It has loaded and
#: parsed everything once; the checks have new processes each time, which are those that the sabotage reaches.
JUDGE = """
import contextlib, io, json, os, sys
from ptycho_dispatch.cli import main
for line in sys.stdin:
    os.environ["PTYCHO_SABOTAGE"] = line.strip()
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(["audit", "--format", "json"])
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Judge:
    """The real command in a process of its own; its checks meet what the sabotage left of the code."""

    def __init__(self, *, hide_cores: bool) -> None:
        places = filter(None, (str(FOLDER), os.environ.get("PYTHONPATH")))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        if hide_cores:
            environment["PTYCHO_HIDE_CORES"] = "1"
        command, pipe = [sys.executable, "-c", JUDGE], subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def __call__(self, sabotage: str = "") -> tuple[int, dict[str, Any], str]:
        """Audit; returns the exit code, the record and what was said on stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(sabotage, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"the process of the audit ended with code {self._process.wait()}"
        code, out, errors = json.loads(answer)
        assert out, errors
        return code, json.loads(out), errors

    def end(self) -> None:
        """Let the process read that there is no more."""
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """Audits of an installation that looks like one without any core."""
    judge = Judge(hide_cores=True)
    yield judge
    judge.end()


def failed(record: dict[str, Any]) -> set[str]:
    return {finding["id"] for finding in record["findings"] if finding["outcome"] == "failed"}


def test_an_honest_installation_without_cores_passes(judge: Judge) -> None:
    code, record, errors = judge()
    assert failed(record) == set()
    assert code == 0, errors
    assert {finding["outcome"] for finding in record["findings"]} == {"passed"}


def apart() -> list[tuple[str, ...]]:
    """Put sabotages into few audits, so that no two of an audit break findings of the same family.

    Those of the configuration share functions: one sabotage would undo another.
    """

    def families(name: str) -> set[str]:
        return {finding.partition("-")[0] for finding in BELOW_THE_CORES[name]}

    together: list[tuple[str, ...]] = []
    for name in BELOW_THE_CORES:
        free = (
            number
            for number, others in enumerate(together)
            if not any(families(name) & families(other) for other in others)
        )
        place = next(free, len(together))
        together[place : place + 1] = [(*(together[place] if place < len(together) else ()), name)]
    return together


@pytest.mark.parametrize("sabotages", apart(), ids="+".join)
def test_disabled_rules_are_named_and_no_other(judge: Judge, sabotages: tuple[str, ...]) -> None:
    code, record, errors = judge(",".join(sabotages))
    expected = set().union(*(BELOW_THE_CORES[name] for name in sabotages))
    assert failed(record) == expected, errors
    assert code == 5
    for finding in expected:
        assert f"\n{finding}: " in f"\n{errors}"


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", BELOW_THE_CORES)
def test_a_disabled_rule_alone_is_named_and_no_other(judge: Judge, sabotage: str) -> None:
    _, record, errors = judge(sabotage)
    assert failed(record) == BELOW_THE_CORES[sabotage], errors


@pytest.fixture(scope="module")
def inside() -> dict[str, Any]:
    """The record of one audit for which the enforcement inside every core that works here was disabled."""
    if not HERE:
        pytest.skip("no core is installed together with its framework")
    sabotages = dict.fromkeys(name for core in HERE for name in INSIDE_THE_CORES[core])
    judge = Judge(hide_cores=False)
    code, record, errors = judge(",".join(sabotages))
    judge.end()
    assert code == 5, errors
    return record


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
def test_rules_disabled_inside_a_core_are_named_by_its_checks(inside: dict[str, Any], core: str) -> None:
    if core not in HERE:
        pytest.skip(f"{core} or its framework is not installed")
    broken = {
        finding["id"]
        for finding in inside["findings"]
        for one in finding["evidence"]["probes"]
        if one["outcome"] == "failed" and one["probe"].startswith(f"{core}.checks.")
    }
    assert broken == set().union(*INSIDE_THE_CORES[core].values())


@pytest.mark.slow
def test_rules_disabled_inside_the_cores_are_named_and_no_other(inside: dict[str, Any]) -> None:
    assert failed(inside) == set().union(
        *(found for core in HERE for found in INSIDE_THE_CORES[core].values())
    )
    for finding in inside["findings"]:
        broken = {one["probe"] for one in finding["evidence"]["probes"] if one["outcome"] == "failed"}
        assert all(path.startswith(tuple(f"{core}.checks." for core in HERE)) for path in broken)


@pytest.mark.parametrize("core", CORES)
def test_every_check_of_a_core_is_sabotaged(core: str) -> None:
    checks = pytest.importorskip(f"{core}.checks", reason=f"{core} is not installed").CHECKS
    assert set().union(*INSIDE_THE_CORES[core].values()) == checks.keys()


def test_every_active_finding_is_sabotaged() -> None:
    inside = (found for core in INSIDE_THE_CORES.values() for found in core.values())
    active = {one for one in finding_ids() if read_finding(one).status == "active"}
    assert active == set().union(*BELOW_THE_CORES.values(), *inside)


def test_every_sabotage_is_used() -> None:
    spec = importlib.util.spec_from_file_location("sabotages", FOLDER / "sabotages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = {
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == "sabotages"
    }
    used = {name for core in INSIDE_THE_CORES.values() for name in core}
    assert functions - {"nothing", "twice"} == {*BELOW_THE_CORES, *used}
