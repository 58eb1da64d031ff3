"""Runs checks in a process of their own, under each answer that the hardware may give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ptycho_config.findings import Finding
from ptycho_config.moved import moved_name
from ptycho_dispatch.audit.installed import locate, package_of

__all__ = ["ANSWERS", "CheckResult", "Checking", "checks_of", "run_checks"]

ANSWERS = (True, False)
"""What the hardware answers when it is asked for CUDA: the checks run once under each.

A check that never asks would do the same again under the other answer; what it found counts for both.
"""
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class CheckResult:
    """What one check found under one answer of the hardware.

    Attributes:
        outcome: `passed`, `failed` or `not installed`.
        evidence: what a check that passed returned.
        message: why it failed, or what is missing.
    """

    finding: str
    check: str
    cuda: bool
    outcome: str
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    message: str = ""


@dataclass(frozen=True)
class Checking:
    """The results of all checks, and the way through the dispatcher under each answer."""

    results: tuple[CheckResult, ...] = ()
    flow: Mapping[bool, tuple[str, ...]] = field(default_factory=dict[bool, tuple[str, ...]])


def checks_of(finding: Finding, packages: Collection[str]) -> list[str]:
    """List the checks of a finding: the one of its page, then what every installed package adds."""
    checks = [] if finding.probe is None else [finding.probe]
    for package in packages:
        if locate(f"{package}.checks.CHECKS") is not None:
            checks += import_module(f"{package}.checks").CHECKS.get(finding.id, ())
    return list(dict.fromkeys(checks))


def run_checks(
    checks: Mapping[str, Sequence[str]], *, packages: Collection[str], symbols: Collection[str]
) -> Checking:
    """Run the checks of each finding under each answer, in one process that loads the libraries once.

    Args:
        checks: finding -> import paths.
        packages: those that are installed; a check of another one is not installed, which fails nothing.
        symbols: import paths that the way through the dispatcher names when they are called.
    """
    absent = [
        CheckResult(finding, path, cuda, "not installed", message=f"{package_of(path)} is not installed")
        for finding, paths in checks.items()
        for path in paths
        for cuda in ANSWERS
        if package_of(path) not in packages
    ]
    wanted = [
        [finding, path] for finding in checks for path in checks[finding] if package_of(path) in packages
    ]
    order = json.dumps({"checks": wanted, "symbols": sorted(symbols)})
    found, flow = _collected(_started(order), wanted)
    return Checking((*absent, *found), flow)


def _started(order: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ptycho_dispatch.audit.check_process"]
    pipe = subprocess.PIPE
    # It works on tiny arrays; more threads would only wait for each other.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8", env=environment
    )
    if process.stdin is not None:
        process.stdin.write(order)
        process.stdin.close()
        process.stdin = None
    return process


def _collected(
    process: subprocess.Popen[str], wanted: Sequence[Sequence[str]]
) -> tuple[list[CheckResult], dict[bool, tuple[str, ...]]]:
    """Read what the process found; a check that it never answered for has failed."""
    try:
        output, errors = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        errors += f"\nnot done after {_TIMEOUT_S:.0f} s"
    results: dict[tuple[str, str, bool], CheckResult] = {}
    flow: dict[bool, tuple[str, ...]] = {}
    for line in output.splitlines():
        record = json.loads(line)
        if "flow" in record:
            flow[record["cuda"]] = tuple(record["flow"])
            continue
        result = CheckResult(**record)
        results[result.finding, result.check, result.cuda] = result
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), "no message")
    message = f"the process of the checks ended before it (code {process.returncode}): {last.strip()}"
    never = {
        (finding, path, cuda): CheckResult(finding, path, cuda, "failed", message=message)
        for cuda in ANSWERS
        for finding, path in wanted
    }
    return list((never | results).values()), flow


_MOVED = {
    "ProbeResult": f"{__name__}:CheckResult",
    "Probing": f"{__name__}:Checking",
    "probes_of": f"{__name__}:checks_of",
    "run_probes": f"{__name__}:run_checks",
}


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name, _MOVED)
