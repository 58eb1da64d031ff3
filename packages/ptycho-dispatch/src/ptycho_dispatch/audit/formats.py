"""An audit as a table, as JSON and as JUnit XML; the Markdown inventory has its own module."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from ptycho_dispatch.audit.verdicts import Audit, Verdict

__all__ = ["COLUMNS", "as_json", "as_junit", "junit_text", "rows", "summary"]

#: Public, as the keys of the JSON are: checks were once called probes, and keep that name in both.
COLUMNS = ("finding", "outcome", "code", "tests", "probes", "title")
#: What XML cannot hold.
_CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


def rows(audit: Audit) -> list[tuple[str, ...]]:
    """Give one row a finding, in the order of `COLUMNS`."""
    found = [
        (
            one.finding.id,
            one.outcome,
            _counted([link.state for link in one.code]),
            _counted([test.outcome for test in one.tests]),
            _counted([check.outcome for check in one.checks]),
            one.finding.title,
        )
        for one in audit.verdicts
    ]
    strays = [
        (stray, "failed", "", "", "", f"no page; {places[0]}") for stray, places in audit.strays.items()
    ]
    return [*found, *strays]


def summary(audit: Audit) -> list[str]:
    """Give one line for each problem, led by the finding it concerns."""
    lines = [f"{one.finding.id}: {problem}" for one in audit.verdicts for problem in one.problems]
    lines += [
        f"{stray}: has no page in findings/; {place}."
        for stray, places in audit.strays.items()
        for place in places
    ]
    return lines


def _counted(states: Sequence[str]) -> str:
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none"


def as_json(audit: Audit) -> str:
    """Write the audit as JSON: a list of findings, then what it was looked at with."""
    findings = [_record(one) for one in audit.verdicts] + [
        {"id": stray, "status": "unknown", "outcome": "failed", "evidence": {"problems": list(places)}}
        for stray, places in audit.strays.items()
    ]
    record = {
        "findings": findings,
        "failed": list(audit.failed),
        "packages": list(audit.packages),
        "flow": {"with CUDA" if cuda else "without CUDA": list(steps) for cuda, steps in audit.flow.items()},
    }
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _record(verdict: Verdict) -> dict[str, Any]:
    finding = verdict.finding
    evidence: Mapping[str, Any] = {
        "problems": list(verdict.problems),
        "code": [{"path": link.path, "state": link.state} for link in verdict.code],
        "tests": [{"id": test.id, "outcome": test.outcome, "cases": test.cases} for test in verdict.tests],
        "probes": [
            {
                "probe": result.check,
                "cuda": result.cuda,
                "outcome": result.outcome,
                "evidence": dict(result.evidence),
                "message": result.message,
            }
            for result in verdict.checks
        ],
    }
    return {
        "id": finding.id,
        "status": finding.status,
        "outcome": verdict.outcome,
        "title": finding.title,
        "evidence": evidence,
    }


def as_junit(audit: Audit) -> str:
    """Write the audit as JUnit XML: a test case for each finding."""
    cases = [(one.finding.id, one.finding.title, one.outcome, one.problems) for one in audit.verdicts]
    cases += [(stray, "no page", "failed", places) for stray, places in audit.strays.items()]
    return junit_text("ptycho audit", cases)


def junit_text(name: str, cases: Sequence[tuple[str, str, str, Sequence[str]]]) -> str:
    """Write JUnit XML.

    Args:
        name: of the suite.
        cases: identifier, title, outcome and problems of each; what neither passed nor failed is skipped.
    """
    suite = ElementTree.Element("testsuite", name=_clean(name))
    for identifier, title, outcome, problems in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=identifier, name=_clean(title))
        if outcome == "failed":
            failure = ElementTree.SubElement(case, "failure", message=_clean(problems[0]))
            failure.text = _clean("\n".join(problems))
        elif outcome != "passed":
            ElementTree.SubElement(case, "skipped", message=outcome)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return f"{ElementTree.tostring(root, encoding='unicode', xml_declaration=True)}\n"


def _clean(text: str) -> str:
    return _CONTROL.sub("?", text)
