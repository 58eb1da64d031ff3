"""Judges a finished run by its `run.json` and its files, finding by finding."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptycho_config.findings import finding_ids, read_finding
from ptycho_dispatch.audit import run_rules
from ptycho_dispatch.audit.formats import junit_text
from ptycho_dispatch.audit.run_record import RunRecord, read_run
from ptycho_dispatch.audit.run_rules import Found

__all__ = ["COLUMNS", "Judgement", "as_text", "judge_run", "rows", "summary"]

COLUMNS = ("finding", "outcome", "evidence")
RULES: dict[str, Callable[[RunRecord], Found]] = {
    "BUNDLE-001": run_rules.bundle,
    "CONFIG-002": run_rules.separation,
    "CONFIG-LOGGER-001": run_rules.logger,
    "DATA-001": run_rules.data,
    "DATA-SUP-001": run_rules.labels,
    "EXEC-ACCUM-001": run_rules.manual_accumulation,
    "EXEC-ACCUM-002": run_rules.accumulation,
    "OVERSAMPLING-001": run_rules.oversampling,
    "POLICY-001": run_rules.accelerator,
}
_UNSEEN = Found(True, "a run leaves no trace of it", judged=False)


@dataclass(frozen=True)
class Judgement:
    """What each finding says to a run; in the order of their identifiers."""

    directory: Path
    kind: str
    found: tuple[tuple[str, Found], ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Identifiers of the rules that the run broke."""
        return tuple(identifier for identifier, found in self.found if found.outcome == "failed")


def judge_run(directory: Path, only: Sequence[str] = ()) -> Judgement:
    """Judge a run.

    Raises:
        DataError: its `run.json` is absent or damaged.
    """
    record = read_run(directory)
    wanted = [one for one in finding_ids() if not only or one in only]
    active = [one for one in wanted if read_finding(one).status == "active"]
    found = tuple((one, RULES[one](record) if one in RULES else _UNSEEN) for one in active)
    return Judgement(record.directory, record.kind, found)


def rows(judgement: Judgement) -> list[tuple[str, ...]]:
    """Give one row a finding, in the order of `COLUMNS`."""
    return [(identifier, found.outcome, found.evidence) for identifier, found in judgement.found]


def summary(judgement: Judgement) -> list[str]:
    """Give one line for each rule that was broken."""
    return [f"{one}: {found.evidence}" for one, found in judgement.found if found.outcome == "failed"]


def as_text(judgement: Judgement, kind: str) -> str:
    """Write a judgement as `md`, `json` or `junit`."""
    if kind == "json":
        findings = [
            {"id": one, "status": "active", "outcome": found.outcome, "evidence": found.evidence}
            for one, found in judgement.found
        ]
        record = {"run": judgement.directory.name, "kind": judgement.kind, "findings": findings}
        return json.dumps({**record, "failed": list(judgement.failed)}, indent=2, ensure_ascii=False) + "\n"
    if kind == "junit":
        return junit_text(
            f"ptycho audit {judgement.directory.name}",
            [
                (one, read_finding(one).title, found.outcome, (found.evidence,))
                for one, found in judgement.found
            ],
        )
    lines = [f"| {one} | {found.outcome} | {found.evidence} |" for one, found in judgement.found]
    title = f"# Policy compliance of the run `{judgement.directory.name}`"
    return "\n".join([title, "", "| finding | outcome | evidence |", "|---|---|---|", *lines]) + "\n"
