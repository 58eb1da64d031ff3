"""Runs probes in processes of their own, one for each answer that the hardware may give."""

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
from ptycho_dispatch.audit.installed import locate, package_of

__all__ = ["ANSWERS", "ProbeResult", "Probing", "probes_of", "run_probes"]

ANSWERS = (True, False)
"""What the hardware answers when it is asked for CUDA: the probes run once under each."""
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class ProbeResult:
    """What one probe found under one answer of the hardware.

    Attributes:
        outcome: `passed`, `failed` or `not installed`.
        evidence: what a probe that passed returned.
        message: why it failed, or what is missing.
    """

    finding: str
    probe: str
    cuda: bool
    outcome: str
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    message: str = ""


@dataclass(frozen=True)
class Probing:
    """The results of all probes, and the way through the dispatcher under each answer."""

    results: tuple[ProbeResult, ...] = ()
    flow: Mapping[bool, tuple[str, ...]] = field(default_factory=dict[bool, tuple[str, ...]])


def probes_of(finding: Finding, packages: Collection[str]) -> list[str]:
    """List the probes of a finding: the one of its page, then what every installed package adds."""
    probes = [] if finding.probe is None else [finding.probe]
    for package in packages:
        if locate(f"{package}.checks.PROBES") is not None:
            probes += import_module(f"{package}.checks").PROBES.get(finding.id, ())
    return list(dict.fromkeys(probes))


def run_probes(
    probes: Mapping[str, Sequence[str]], *, packages: Collection[str], symbols: Collection[str]
) -> Probing:
    """Run the probes of each finding, in one process for each answer; both at the same time.

    Args:
        probes: finding -> import paths.
        packages: those that are installed; a probe of another one is not installed, which fails nothing.
        symbols: import paths that the way through the dispatcher names when they are called.
    """
    absent = [
        ProbeResult(finding, path, cuda, "not installed", message=f"{package_of(path)} is not installed")
        for finding, paths in probes.items()
        for path in paths
        for cuda in ANSWERS
        if package_of(path) not in packages
    ]
    wanted = [
        [finding, path] for finding in probes for path in probes[finding] if package_of(path) in packages
    ]
    order = json.dumps({"probes": wanted, "symbols": sorted(symbols)})
    processes = {cuda: _started(cuda, order) for cuda in ANSWERS}
    results, flow = list(absent), {}
    for cuda, process in processes.items():
        found, steps = _collected(process, cuda, wanted)
        results += found
        if steps:
            flow[cuda] = steps
    return Probing(tuple(results), flow)


def _started(cuda: bool, order: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ptycho_dispatch.audit.probe_process", "yes" if cuda else "no"]
    pipe = subprocess.PIPE
    # Both processes work at the same time on tiny arrays; more threads would only wait for each other.
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
    process: subprocess.Popen[str], cuda: bool, wanted: Sequence[Sequence[str]]
) -> tuple[list[ProbeResult], tuple[str, ...]]:
    """Read what a process found; a probe that it never answered for has failed."""
    try:
        output, errors = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        errors += f"\nnot done after {_TIMEOUT_S:.0f} s"
    results: dict[tuple[str, str], ProbeResult] = {}
    flow: tuple[str, ...] = ()
    for line in output.splitlines():
        record = json.loads(line)
        if "flow" in record:
            flow = tuple(record["flow"])
            continue
        result = ProbeResult(cuda=cuda, **record)
        results[result.finding, result.probe] = result
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), "no message")
    for finding, path in wanted:
        if (finding, path) not in results:
            message = f"the process of the probes ended before it (code {process.returncode}): {last.strip()}"
            results[finding, path] = ProbeResult(finding, path, cuda, "failed", message=message)
    return list(results.values()), flow
