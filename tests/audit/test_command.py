"""`ptycho audit` on this installation: formats, outcomes of tests, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ptycho_config.findings import finding_ids, read_finding
from ptycho_dispatch.cli import main

TWO = ("--only", "FORMAT-001", "--only", "OVERSAMPLING-001")
SECTIONS = (
    "## Overview",
    "## Code references",
    "## Test evidence",
    "## Policy compliance",
    "## Integration points",
    "## Known limitations",
)


def outcomes_file(folder: Path, *, failing: str = "", leave_out: str = "") -> Path:
    """Write the JUnit file of a run in which the tests of every page passed, but for one finding."""
    suite = ElementTree.Element("testsuite")
    for identifier in finding_ids():
        for test in read_finding(identifier).verified_by if identifier != leave_out else ():
            file, _, function = test.partition("::")
            name = file.removesuffix(".py").replace("/", ".")
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=f"{function}[a-1]")
            if identifier == failing:
                ElementTree.SubElement(case, "failure", message="no")
    path = folder / "outcomes.xml"
    ElementTree.ElementTree(suite).write(path)
    return path


@pytest.mark.usefixtures("checked_once")
def test_this_installation_keeps_every_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "deeper" / "inventory.md"
    tests = outcomes_file(tmp_path)
    code = main(["audit", "--tests", str(tests), "--format", "md", "--output", str(report)])
    said = capsys.readouterr()
    assert code == 0, said.err
    for identifier in finding_ids():
        assert identifier in said.out
    text = report.read_text(encoding="utf-8")
    places = [text.index(f"\n{section}\n") for section in SECTIONS]
    assert places == sorted(places)
    assert "VIOLATED" not in text
    assert list(report.parent.iterdir()) == [report]
    _the_flow_is_that_of_the_dispatcher(text)


def _the_flow_is_that_of_the_dispatcher(text: str) -> None:
    """The registry comes before the resolution, the resolution before the backend, under either answer."""
    _, with_cuda, without = text.partition("## Known limitations")[0].rsplit("### On a host", 2)
    for flow, accelerator in ((with_cuda, "cuda"), (without, "cpu")):
        steps = [
            flow.index(step)
            for step in (
                "`ptycho_dispatch:dispatcher.run_cdi_example_with_backend`",
                "`ptycho_config:legacy.update_legacy_dict`",
                "`ptycho_config:execution.PyTorchExecutionConfig`",
                "`ptycho_config:hardware.resolve_accelerator`",
                f"auto-instantiated PyTorchExecutionConfig with accelerator='{accelerator}'",
                f"the runner of `pytorch`, with accelerator='{accelerator}'",
            )
        ]
        assert steps == sorted(steps)
        assert flow.count("warning: POLICY-001: No CUDA device detected") == (accelerator == "cpu")


@pytest.mark.usefixtures("checked_once")
def test_the_outcome_of_tests_reaches_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", *TWO, "--format", "json", "--tests"]
    assert main([*words, str(outcomes_file(tmp_path))]) == 0
    capsys.readouterr()
    assert main([*words, str(outcomes_file(tmp_path, failing="FORMAT-001"))]) == 5
    said = capsys.readouterr()
    assert json.loads(said.out)["failed"] == ["FORMAT-001"]
    assert "FORMAT-001: the test tests/core/io/" in said.err
    assert main([*words, str(outcomes_file(tmp_path, leave_out="OVERSAMPLING-001"))]) == 5
    assert json.loads(capsys.readouterr().out)["failed"] == ["OVERSAMPLING-001"]


@pytest.mark.usefixtures("checked_once")
def test_json_and_junit_hold_the_same_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", *TWO, "--format", "json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [(one["id"], one["status"], one["outcome"]) for one in findings] == [
        ("FORMAT-001", "active", "passed"),
        ("OVERSAMPLING-001", "active", "passed"),
    ]
    checks = findings[0]["evidence"]["probes"]
    assert [check["cuda"] for check in checks] == [True, False]
    assert all(check["evidence"]["fits neither way"] == "refused" for check in checks)
    assert main(["audit", *TWO, "--format", "junit"]) == 0
    suite = ElementTree.fromstring(capsys.readouterr().out).find("testsuite")
    assert suite is not None
    assert [case.get("classname") for case in suite] == ["FORMAT-001", "OVERSAMPLING-001"]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "0")


def test_settings_of_the_shell_do_not_reach_the_checks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PTYCHO_NEPOCHS", "garbage")
    monkeypatch.setenv("PTYCHO_ACCELERATOR", "cuda")
    assert main(["audit", "--only", "CONFIG-001"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--only", "FORMAT-01"], 2, "did you mean `--only FORMAT-001`?"),
        (["--tests", "nothing.xml"], 2, "cannot be read"),
        (["--tests", "damaged.xml"], 2, "cannot be read"),
        (["--tests", "empty.xml"], 2, "holds no test"),
        (["--format", "pdf"], 2, "pdf"),
        (["somewhere", "--tests", "empty.xml"], 2, "belongs to an audit of the installation"),
        (["somewhere"], 3, "there is no run.json"),
    ],
)
def test_a_wrong_command_is_one_line(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.xml").write_text("<testsuite", encoding="utf-8")
    (tmp_path / "empty.xml").write_text("<testsuite/>", encoding="utf-8")
    assert main(["audit", *words]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_report_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["audit", *TWO, "--output", str(tmp_path / "file" / "report.txt")]) == 1
    assert "cannot be written" in capsys.readouterr().err
