"""Links between pages, code, tests and outcomes resolve in both directions, or the audit says which fail."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ptycho_config.findings import Finding, read_finding
from ptycho_dispatch.audit.installed import Raised, covers, locate, raised_findings
from ptycho_dispatch.audit.probing import ProbeResult, Probing
from ptycho_dispatch.audit.testfiles import TestFiles, find_tests
from ptycho_dispatch.audit.verdicts import Audit, judge

TEST = "tests/config/test_guards.py::test_only_manual_modules_may_not_accumulate"
TESTS = TestFiles(Path(), frozenset({TEST}), {TEST: frozenset({"EXEC-ACCUM-001"})})
PACKAGES = ("ptycho_config", "ptycho_core", "ptycho_dispatch")
PROBE = "ptycho_config.checks.training.manual_optimisation_does_not_accumulate"
PROBED = Probing(tuple(ProbeResult("EXEC-ACCUM-001", PROBE, cuda, "passed") for cuda in (True, False)))


def a_finding(**changes: object) -> Finding:
    page = read_finding("EXEC-ACCUM-001")
    return replace(
        page, enforced_by=("ptycho_config.guards.check_accumulation",), verified_by=(TEST,), **changes
    )


def judged(
    finding: Finding,
    *,
    raised: Sequence[Raised] = (),
    tests: TestFiles | None = TESTS,
    outcomes: dict[str, Counter[str]] | None = None,
    probing: Probing = PROBED,
) -> Audit:
    return judge(
        [finding],
        packages=PACKAGES,
        raised=raised,
        tests=tests,
        outcomes=outcomes,
        probing=probing,
        known=["EXEC-ACCUM-001"],
    )


def problems(audit: Audit) -> str:
    return " ".join(audit.verdicts[0].problems)


def test_a_finding_whose_links_all_resolve_passes() -> None:
    audit = judged(a_finding())
    assert (audit.verdicts[0].outcome, audit.failed) == ("passed", ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"enforced_by": ()}, "no code that enforces it"),
        ({"enforced_by": ("ptycho_config.guards.nobody",)}, "does not exist"),
        ({"enforced_by": ("ptycho_config.nowhere.nobody",)}, "does not exist"),
        ({"verified_by": ()}, "no test that verifies it"),
        ({"verified_by": ("tests/config/test_guards.py::test_gone",)}, "there is no test"),
        ({"probe": None}, "no probe"),
    ],
)
def test_a_broken_link_fails(changes: dict[str, object], said: str) -> None:
    audit = judged(replace(a_finding(), **changes))
    assert audit.failed == ("EXEC-ACCUM-001",)
    assert said in problems(audit)


def test_a_test_without_the_marker_fails() -> None:
    audit = judged(a_finding(), tests=replace(TESTS, marked={}))
    assert "carries no `@pytest.mark.finding" in problems(audit)


def test_code_that_raises_where_the_page_names_nothing_fails() -> None:
    inside, outside = (
        Raised("EXEC-ACCUM-001", "ptycho_config.guards", 1),
        Raised("EXEC-ACCUM-001", "ptycho_core.scan", 1),
    )
    assert judged(a_finding(), raised=[inside]).failed == ()
    audit = judged(a_finding(), raised=[inside, outside])
    assert "`ptycho_core.scan` raises under it" in problems(audit)


def test_what_has_no_page_fails_under_its_own_name() -> None:
    marked = replace(TESTS, marked={**TESTS.marked, "tests/x.py::test_x": frozenset({"DATA-998"})})
    raised = [
        Raised("DATA-999", "ptycho_core.io.checked_scan", 7),
        Raised(None, "ptycho_core.io.checked_scan", 9),
    ]
    audit = judged(a_finding(), raised=raised, tests=marked)
    assert audit.failed == ("(no finding)", "DATA-998", "DATA-999")
    assert audit.strays["DATA-999"] == ("ptycho_core.io.checked_scan, line 7",)


def test_links_into_what_is_not_installed_fail_nothing() -> None:
    absent = replace(a_finding(), enforced_by=("ptycho_core_absent.guard",), probe="ptycho_core_absent.probe")
    nothing = ProbeResult("EXEC-ACCUM-001", "ptycho_core_absent.probe", True, "not installed")
    audit = judged(absent, tests=None, probing=Probing((nothing,)))
    assert audit.verdicts[0].outcome == "not installed"
    assert [link.state for link in audit.verdicts[0].code] == ["not installed"]
    assert [test.outcome for test in audit.verdicts[0].tests] == ["not installed"]
    assert audit.failed == ()
    partly = replace(absent, enforced_by=("ptycho_core_absent.guard", "ptycho_config.guards"))
    assert judged(partly, tests=None).verdicts[0].outcome == "passed"


def test_a_retired_finding_is_not_judged() -> None:
    retired = replace(a_finding(), status="retired", enforced_by=("ptycho_config.guards.gone",), probe=None)
    assert judged(retired).verdicts[0].outcome == "retired"


@pytest.mark.parametrize(
    ("ended", "fails"),
    [
        ({"passed": 3}, False),
        ({"passed": 3, "skipped": 1}, False),
        ({"passed": 3, "failed": 1}, True),
        ({"error": 1}, True),
        ({"skipped": 3}, True),
        ({}, True),
    ],
)
def test_outcomes_of_tests_count(ended: dict[str, int], fails: bool) -> None:
    name = TEST.replace("/", ".").replace(".py::", ".")
    assert bool(judged(a_finding(), outcomes={name: Counter(ended)}).failed) == fails


@pytest.mark.parametrize("outcome", ["failed", "passed", "not installed"])
def test_a_probe_that_fails_fails_its_finding(outcome: str) -> None:
    result = ProbeResult("EXEC-ACCUM-001", PROBE, False, outcome, message="EXEC-ACCUM-001: it was accepted")
    audit = judged(a_finding(), probing=Probing((PROBED.results[0], result)))
    assert bool(audit.failed) == (outcome == "failed")
    if audit.failed:
        assert problems(audit) == f"it was accepted [{PROBE} (without CUDA)]"


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("ptycho_config.guards.check_accumulation", "ptycho_config.guards"),
        ("ptycho_config.PyTorchExecutionConfig", "ptycho_config.execution"),
        ("ptycho_core.bundle.read_bundle", "ptycho_core.bundle.read"),
        ("ptycho_core.io", "ptycho_core.io"),
        ("ptycho_core.scan.Scan.select", "ptycho_core.scan.scan"),
        ("ptycho_core.scan.Scan.nothing", None),
        ("ptycho_config.guards.nothing", None),
        ("no_such_package.anything", None),
    ],
)
def test_symbols_are_found_where_they_are_defined(path: str, module: str | None) -> None:
    assert locate(path) == module


def test_a_page_covers_the_room_of_what_it_names_and_no_other() -> None:
    assert covers(["ptycho_core.io.open_scan"], "ptycho_core.io.frame_values")
    assert not covers(["ptycho_core.scan.Scan"], "ptycho_core.physics.residual")
    assert not covers(["ptycho_config.guards.check_collapse"], "ptycho_config.legacy")


def test_what_is_raised_is_found_in_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_core"
    (package / "checks").mkdir(parents=True)
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "door.py").write_text(
        'FINDING = "DATA-777"\n'
        "raise DataError('x', finding=FINDING)\n"
        "raise PolicyError('x')\n"
        "raise DataError('x', finding='DATA-778')\n"
        "raise DataError('x', finding=found.finding)\n",
        encoding="utf-8",
    )
    (package / "checks" / "__init__.py").write_text("raise PolicyError('x')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {(one.finding, one.module, one.line) for one in raised_findings(["some_core"])}
    assert found == {
        ("DATA-777", "some_core.door", 2),
        (None, "some_core.door", 3),
        ("DATA-778", "some_core.door", 4),
    }


def test_looking_at_the_code_imports_none_of_it() -> None:
    program = (
        "import sys\n"
        "from ptycho_config.findings import finding_ids, read_finding\n"
        "from ptycho_dispatch.audit.installed import covers, family, raised_findings\n"
        "findings = [read_finding(one) for one in finding_ids()]\n"
        "assert raised_findings(family(findings))\n"
        "assert not any(covers(one.enforced_by, 'nowhere') for one in findings)\n"
        "print(sorted({'numpy', 'torch', 'lightning', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_markers_are_read_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tests" / "config"
    folder.mkdir(parents=True)
    (folder / "test_guards.py").write_text(
        "import pytest\n"
        'ALIAS = pytest.mark.finding("A-001")\n'
        "@ALIAS\n"
        "def test_by_alias(): ...\n"
        '@pytest.mark.finding("B-001")\n'
        '@pytest.mark.finding("C-001")\n'
        "def test_by_two(): ...\n"
        "def test_by_none(): ...\n"
        '@pytest.mark.finding("D-001")\n'
        "class TestMany:\n"
        "    def test_inside(self): ...\n"
        "def helper(): ...\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    tests = find_tests([a_finding()])
    assert tests is not None
    file = "tests/config/test_guards.py"
    assert tests.marked == {
        f"{file}::test_by_alias": {"A-001"},
        f"{file}::test_by_two": {"B-001", "C-001"},
        f"{file}::TestMany::test_inside": {"D-001"},
    }
    assert f"{file}::test_by_none" in tests.functions
    assert f"{file}::helper" not in tests.functions
