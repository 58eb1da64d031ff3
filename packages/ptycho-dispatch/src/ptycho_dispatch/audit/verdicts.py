"""Joins what the pages say, what the code and the tests are, and what the checks found, into verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ptycho_config.findings import Finding, finding_ids, read_finding
from ptycho_dispatch.audit.checking import Checking, CheckResult, checks_of, run_checks
from ptycho_dispatch.audit.installed import (
    Raised,
    covers,
    family,
    locate,
    package_of,
    raised_findings,
)
from ptycho_dispatch.audit.junit import Outcomes, outcome_of
from ptycho_dispatch.audit.testfiles import TestFiles, find_tests

__all__ = ["Audit", "Code", "Test", "Verdict", "audit_installation", "judge"]

NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Code:
    """A link from a page to the code that enforces it; `state` is `found`, `not installed` or `broken`."""

    path: str
    state: str


@dataclass(frozen=True)
class Test:
    """A test that proves a rule.

    Attributes:
        outcome: of the run that was handed over: `passed`, `failed`, `error`, `skipped` or `not run`;
            otherwise `present`, or `not installed` where there are no test files.
        cases: how many ran, where it has parameters.
    """

    __test__ = False  # for pytest, which would take the name for a test

    id: str
    outcome: str
    cases: int = 0


@dataclass(frozen=True)
class Verdict:
    """What the audit thinks of one finding.

    Attributes:
        outcome: `passed`, `failed`, `not installed` or `retired`.
        problems: one sentence for each reason to fail.
    """

    finding: Finding
    outcome: str
    problems: tuple[str, ...]
    code: tuple[Code, ...]
    tests: tuple[Test, ...]
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True)
class Audit:
    """All verdicts.

    Attributes:
        strays: identifiers without a page, and policies without an identifier, with where they stand.
        packages: installed ones that were looked at.
        flow: the way through the dispatcher, by the hardware's answer.
    """

    verdicts: tuple[Verdict, ...]
    strays: Mapping[str, tuple[str, ...]]
    packages: tuple[str, ...]
    flow: Mapping[bool, tuple[str, ...]]
    tests_present: bool
    tests_run: bool

    @property
    def failed(self) -> tuple[str, ...]:
        """Identifiers of what failed, those without a page included."""
        return (*(one.finding.id for one in self.verdicts if one.outcome == "failed"), *self.strays)


def audit_installation(only: Sequence[str] = (), outcomes: Outcomes | None = None) -> Audit:
    """Audit what is installed here.

    Args:
        only: findings to audit; all when empty. Identifiers without a page are looked for only then.
        outcomes: of a test run, from its JUnit file.
    """
    everything = [read_finding(identifier) for identifier in finding_ids()]
    findings = [finding for finding in everything if not only or finding.id in only]
    packages = family(everything)
    tests = find_tests(everything)
    raised = raised_findings(packages)
    active = [finding for finding in findings if finding.status == "active"]
    checking = run_checks(
        {finding.id: checks_of(finding, packages) for finding in active},
        packages=packages,
        symbols=() if only else {path for finding in everything for path in finding.enforced_by},
    )
    return judge(
        findings,
        packages=packages,
        raised=raised,
        tests=tests,
        outcomes=outcomes,
        checking=checking,
        known=None if only else [finding.id for finding in everything],
    )


def judge(
    findings: Iterable[Finding],
    *,
    packages: Sequence[str],
    raised: Sequence[Raised],
    tests: TestFiles | None,
    outcomes: Outcomes | None,
    checking: Checking,
    known: Sequence[str] | None,
) -> Audit:
    """Judge findings by what was found.

    Args:
        known: identifiers that have a page; None where strays are not looked for.
    """
    verdicts = tuple(_verdict(finding, packages, raised, tests, outcomes, checking) for finding in findings)
    strays = {} if known is None else _strays(known, raised, tests)
    return Audit(verdicts, strays, tuple(packages), checking.flow, tests is not None, outcomes is not None)


def _verdict(
    finding: Finding,
    packages: Sequence[str],
    raised: Sequence[Raised],
    tests: TestFiles | None,
    outcomes: Outcomes | None,
    checking: Checking,
) -> Verdict:
    code = tuple(Code(path, _state(path, packages)) for path in finding.enforced_by)
    proofs = _tests(finding, tests, outcomes)
    checks = tuple(result for result in checking.results if result.finding == finding.id)
    if finding.status == "retired":
        return Verdict(finding, "retired", (), code, proofs, checks)
    problems = [
        *_problems_of_code(finding, code, raised),
        *_problems_of_tests(finding, tests, proofs),
        *_problems_of_checks(finding, checks),
    ]
    absent = all(link.state == NOT_INSTALLED for link in code) and all(
        result.outcome == NOT_INSTALLED for result in checks
    )
    if outcomes is not None and not absent and not any(test.outcome == "passed" for test in proofs):
        problems.append("none of its tests passed in the run that was handed over.")
    outcome = "failed" if problems else NOT_INSTALLED if absent else "passed"
    return Verdict(finding, outcome, tuple(problems), code, proofs, checks)


def _state(path: str, packages: Sequence[str]) -> str:
    if package_of(path) not in packages:
        return NOT_INSTALLED
    return "broken" if locate(path) is None else "found"


def _tests(finding: Finding, tests: TestFiles | None, outcomes: Outcomes | None) -> tuple[Test, ...]:
    """List what the page names and what its marker names beside it, with the outcome of each."""
    marked = [] if tests is None else tests.marked_with(finding.id)
    listed = dict.fromkeys((*finding.verified_by, *marked))
    if outcomes is not None:
        return tuple(Test(one, *outcome_of(one, outcomes)) for one in listed)
    if tests is None:
        return tuple(Test(one, NOT_INSTALLED) for one in listed)
    return tuple(Test(one, "present" if one in tests.functions else "absent") for one in listed)


def _problems_of_code(finding: Finding, code: Sequence[Code], raised: Sequence[Raised]) -> list[str]:
    problems = [
        f"`{link.path}`, which should enforce it, does not exist." for link in code if link.state == "broken"
    ]
    if not code:
        problems.append("its page names no code that enforces it.")
    modules = dict.fromkeys(one.module for one in raised if one.finding == finding.id)
    problems += [
        f"`{module}` raises under it, and the page names nothing there under `enforced_by`."
        for module in modules
        if not covers(finding.enforced_by, module)
    ]
    return problems


def _problems_of_tests(finding: Finding, tests: TestFiles | None, proofs: Sequence[Test]) -> list[str]:
    problems = [f"the test {one.id} {one.outcome}." for one in proofs if one.outcome in ("failed", "error")]
    if not finding.verified_by:
        problems.append("its page names no test that verifies it.")
    if tests is None:
        return problems
    for one in finding.verified_by:
        if one not in tests.functions:
            problems.append(f"there is no test {one}, which the page names.")
        elif finding.id not in tests.marked.get(one, frozenset()):
            problems.append(f'the test {one} carries no `@pytest.mark.finding("{finding.id}")`.')
    return problems


def _problems_of_checks(finding: Finding, checks: Sequence[CheckResult]) -> list[str]:
    problems = [] if finding.probe else ["its page names no check (its key `probe`)."]
    by_message: dict[tuple[str, str], list[bool]] = {}
    for result in checks:
        if result.outcome == "failed":
            message = result.message.removeprefix(f"{finding.id}: ")
            by_message.setdefault((result.check, message), []).append(result.cuda)
    for (check, message), answers in by_message.items():
        under = "" if len(answers) > 1 else f" ({'with' if answers[0] else 'without'} CUDA)"
        problems.append(f"{message} [{check}{under}]")
    return problems


def _strays(
    known: Sequence[str], raised: Sequence[Raised], tests: TestFiles | None
) -> dict[str, tuple[str, ...]]:
    places: dict[str, list[str]] = {}
    for one in raised:
        if one.finding is None:
            places.setdefault("(no finding)", []).append(f"{one.module}, line {one.line}")
        elif one.finding not in known:
            places.setdefault(one.finding, []).append(f"{one.module}, line {one.line}")
    for test, findings in ({} if tests is None else tests.marked).items():
        for identifier in findings - set(known):
            places.setdefault(identifier, []).append(test)
    return {identifier: tuple(found) for identifier, found in sorted(places.items())}
