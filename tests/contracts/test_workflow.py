"""The workflows of continuous integration and `noxfile.py` name the same sessions."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
SITE = ROOT / ".github" / "workflows" / "site.yml"
NOXFILE = ROOT / "noxfile.py"
CALL = re.compile(r"^nox -s (\S+|\$\{\{ matrix\.session \}\})(?: -- .+)?$")
#: Sessions that continuous integration leaves out, each with the reason.
LEFT_OUT: dict[str, str] = {}


def sessions_of(noxfile: str) -> set[str]:
    """List the functions that are decorated as sessions."""
    return {
        node.name
        for node in ast.parse(noxfile).body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(decorator).startswith("nox.session") for decorator in node.decorator_list)
    }


def calls_of(job: dict[str, Any]) -> list[str]:
    """List the sessions that a job calls, its matrix spelt out."""
    called: list[str] = []
    for step in job["steps"]:
        found = CALL.match(step.get("run", ""))
        if found:
            from_matrix = "matrix" in found[1]
            called += job["strategy"]["matrix"]["session"] if from_matrix else [found[1]]
        else:
            assert not step.get("run", "").startswith("nox"), step
    return called


def jobs(workflow: Path = WORKFLOW) -> dict[str, Any]:
    return yaml.safe_load(workflow.read_text("utf-8"))["jobs"]


def test_every_session_that_the_workflow_calls_exists() -> None:
    called = {session for job in jobs().values() for session in calls_of(job)}
    assert called <= sessions_of(NOXFILE.read_text("utf-8"))


def test_every_session_is_called_by_the_workflow() -> None:
    called = {session for job in jobs().values() for session in calls_of(job)}
    assert sessions_of(NOXFILE.read_text("utf-8")) - LEFT_OUT.keys() <= called


def test_every_job_calls_something_with_a_limit_of_time() -> None:
    for name, job in jobs().items():
        assert calls_of(job), name
        assert job["timeout-minutes"] <= 120, name


def test_the_cpu_sessions_run_on_every_python_that_is_promised() -> None:
    wanted = set()
    for project in (ROOT / "packages").glob("*/pyproject.toml"):
        wanted |= set(re.findall(r"Programming Language :: Python :: (3\.\d+)", project.read_text("utf-8")))
    cpu = jobs()["cpu"]
    assert set(cpu["strategy"]["matrix"]["python"]) >= (wanted | {"3.11", "3.12", "3.13"})
    setup = next(step for step in cpu["steps"] if "setup-python" in step.get("uses", ""))
    assert setup["with"]["python-version"] == "${{ matrix.python }}"


def test_the_gpu_job_runs_on_a_machine_of_ours_and_for_no_stranger() -> None:
    gpu = jobs()["gpu"]
    assert gpu["runs-on"] == ["self-hosted", "gpu"]
    assert "pull_request" in gpu["if"]
    assert set(calls_of(gpu)) == {"tests_gpu", "bench"}
    assert any(step.get("run") == "nox -s bench -- gpu" for step in gpu["steps"])


def test_the_site_is_checked_and_then_published_by_the_one_job_that_may_write() -> None:
    told = yaml.safe_load(SITE.read_text("utf-8"))
    assert told["permissions"] == {"contents": "read"}
    # YAML reads the key `on` as true.
    assert told[True].keys() == {"push", "workflow_dispatch"}
    assert told[True]["push"] == {"branches": ["main"], "tags": ["v*"]}
    assert jobs(SITE).keys() == {"publish"}
    job = jobs(SITE)["publish"]
    assert job["permissions"] == {"contents": "write"}
    assert job["timeout-minutes"] <= 120
    assert calls_of(job) == ["site", "site", "site"]
    runs = [step["run"] for step in job["steps"] if step.get("run", "").startswith("nox")]
    assert runs[0] == "nox -s site"
    assert all("--publish" in run for run in runs[1:])
    # The name of a tag may be anything: it reaches the shell as a variable.
    assert not any("github.ref_name" in run for run in runs)


def test_what_takes_long_runs_on_a_schedule() -> None:
    text = WORKFLOW.read_text("utf-8")
    assert re.search(r"^  schedule:\n    - cron: ", text, re.MULTILINE)
    assert "schedule" in jobs()["weekly"]["if"]
    assert "tests_slow" in calls_of(jobs()["weekly"])


@pytest.mark.parametrize(
    ("noxfile", "names"),
    [
        ("@nox.session\ndef a(session): ...", {"a"}),
        ("@nox.session(python='3.11')\n@nox.parametrize('x', [1])\ndef b(session): ...", {"b"}),
        ("def c(session): ...", set()),
    ],
)
def test_sessions_are_found_by_their_decorator(noxfile: str, names: set[str]) -> None:
    assert sessions_of(noxfile) == names
