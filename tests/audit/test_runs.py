"""`ptycho audit RUN_DIR`: a real run passes; the same run, spoiled in one place, fails under that finding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptycho_dispatch.cli import main

Record = dict[str, Any]


def audit(directory: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str], str]:
    code = main(["audit", str(directory), "--format", "json"])
    said = capsys.readouterr()
    findings = json.loads(said.out)["findings"]
    return code, {finding["id"]: finding["outcome"] for finding in findings}, said.err


def failing(outcomes: dict[str, str]) -> list[str]:
    return [finding for finding, outcome in outcomes.items() if outcome == "failed"]


def change(directory: Path, spoil: Callable[[Record], object]) -> None:
    file = directory / "run.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    spoil(record)
    file.write_text(json.dumps(record), encoding="utf-8")


def setting(section: str, field: str, value: object, source: str = "default") -> Callable[[Record], object]:
    return lambda record: record["settings"][section].update({field: {"value": value, "source": source}})


def supervised(record: Record) -> None:
    setting("training", "model.model_type", "supervised", "flag")(record)
    record["input"]["ground_truth"] = False


def accumulated(record: Record) -> None:
    setting("execution", "accum_steps", 2, "flag")(record)
    del record["batches_per_epoch"]


def oversampled(record: Record) -> None:
    setting("training", "model.gridsize", 2, "flag")(record)
    setting("training", "n_groups", 999, "flag")(record)


def test_a_training_passes(training_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, outcomes, said = audit(training_run, capsys)
    assert code == 0, said
    passed = {finding for finding, outcome in outcomes.items() if outcome == "passed"}
    assert passed == {
        "BUNDLE-001",
        "CONFIG-002",
        "CONFIG-LOGGER-001",
        "DATA-001",
        "EXEC-ACCUM-001",
        "EXEC-ACCUM-002",
        "POLICY-001",
    }
    assert set(outcomes.values()) == {"passed", "not judged"}


def test_a_reconstruction_passes(solver_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, outcomes, said = audit(solver_run, capsys)
    assert code == 0, said
    assert outcomes["POLICY-001"] == "passed"
    assert outcomes["BUNDLE-001"] == "not judged"


@pytest.mark.parametrize(
    ("finding", "spoil"),
    [
        ("POLICY-001", lambda record: record["execution"].update(requested="cuda", resolved="cpu")),
        ("POLICY-001", lambda record: record["execution"].update(resolved="tpu")),
        ("POLICY-001", lambda record: record.update(policy_events=[])),
        ("POLICY-001", lambda record: record.update(policy_events=2 * record["policy_events"])),
        ("POLICY-001", setting("execution", "accelerator", "cuda", "flag")),
        ("CONFIG-002", setting("training", "num_workers", 2)),
        ("CONFIG-002", setting("execution", "nepochs", 2)),
        ("CONFIG-LOGGER-001", setting("execution", "logger_backend", None)),
        ("EXEC-ACCUM-002", setting("execution", "accum_steps", 99, "flag")),
        ("EXEC-ACCUM-002", accumulated),
        ("BUNDLE-001", lambda record: record.update(bundle_sha256="0" * 64)),
        ("DATA-001", lambda record: record["input"].update(measurement="intensity")),
        ("DATA-001", lambda record: record["input"].update(sha256=None)),
        ("DATA-001", lambda record: record.pop("input")),
        ("DATA-SUP-001", supervised),
        ("OVERSAMPLING-001", oversampled),
    ],
)
def test_a_training_that_broke_a_rule_is_named(
    finding: str,
    spoil: Callable[[Record], object],
    training_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(training_run, lambda record: record["execution"].update(_FELL_BACK))
    change(training_run, lambda record: record.update(policy_events=[_EVENT]))
    change(training_run, setting("execution", "accelerator", "cpu"))
    assert failing(audit(training_run, capsys)[1]) == []
    change(training_run, spoil)
    code, outcomes, said = audit(training_run, capsys)
    assert failing(outcomes) == [finding]
    assert code == 5
    assert f"\n{finding}: " in f"\n{said}"


#: What a host without a GPU records, so that the test says the same on every host.
_FELL_BACK = {"requested": "auto", "resolved": "cpu", "reason": "No CUDA device detected"}
_EVENT = {"finding": "POLICY-001", "message": "POLICY-001: No CUDA device detected; running on the CPU."}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda directory: (directory / "wts.h5.zip").unlink(),
        lambda directory: (directory / "wts.h5.zip").write_bytes(b"PK" + bytes(100)),
        lambda directory: _flip(directory / "wts.h5.zip"),
    ],
    ids=["removed", "replaced", "damaged"],
)
def test_a_bundle_that_is_not_the_one_written_is_named(
    spoil: Callable[[Path], object], training_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(training_run)
    code, outcomes, _ = audit(training_run, capsys)
    assert (code, failing(outcomes)) == (5, ["BUNDLE-001"])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_metrics_that_are_gone_are_named(training_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(training_run / "lightning_logs")
    assert failing(audit(training_run, capsys)[1]) == ["CONFIG-LOGGER-001"]


@pytest.mark.parametrize(
    ("finding", "spoil"),
    [
        ("POLICY-001", lambda record: record["execution"]["resolved"].update(device="cuda")),
        ("POLICY-001", lambda record: record["execution"]["requested"].update(arrays="torch")),
        ("POLICY-001", setting("execution", "accelerator", "cuda", "flag")),
        ("POLICY-001", lambda record: record.update(execution={"resolved": "cpu"})),
        ("CONFIG-002", lambda record: record["configuration"]["solver"].update(threads=2)),
        ("CONFIG-002", setting("solver", "accelerator", "cpu")),
    ],
)
def test_a_reconstruction_that_broke_a_rule_is_named(
    finding: str,
    spoil: Callable[[Record], object],
    solver_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(solver_run, spoil)
    code, outcomes, _ = audit(solver_run, capsys)
    assert (code, failing(outcomes)) == (5, [finding])


def test_a_network_trained_on_the_way_is_judged_too(
    solver_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = {"execution": _FELL_BACK, "policy_events": [_EVENT], "configuration": {"training": {}}}
    change(solver_run, lambda record: record.update(network=network))
    assert failing(audit(solver_run, capsys)[1]) == []
    change(solver_run, lambda record: record["network"].update(policy_events=[]))
    assert failing(audit(solver_run, capsys)[1]) == ["POLICY-001"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no run.json"),
        ("{", "damaged"),
        ("[]", "Expected an object"),
        ("{}", "`settings` is missing"),
        ('{"settings": {}}', "one of training, inference, solver"),
        ('{"settings": {"solver": {}}}', "`execution` is missing"),
        ('{"settings": {"solver": {"seed": 0}}}', "settings.solver.seed"),
        ('{"settings": {"solver": {}}, "execution": {}, "policy_events": 3}', "policy_events"),
        ("\ud800", "damaged"),
        ('{"settings": 1e999}', "damaged"),
        ('{"settings": ' + "[" * 60 + "]" * 60 + "}", "damaged"),
    ],
)
def test_a_record_that_is_absent_or_damaged_is_one_line_and_code_3(
    content: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert main(["audit", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_judgement_has_the_formats_of_the_audit(
    solver_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "compliance.md"
    assert main(["audit", str(solver_run), "--format", "md", "--output", str(file)]) == 0
    assert "POLICY-001" in capsys.readouterr().out
    assert "| POLICY-001 | passed | the solver was asked for 'cpu'" in file.read_text(encoding="utf-8")
    assert main(["audit", str(solver_run), "--only", "POLICY-001", "--format", "junit"]) == 0
    assert 'classname="POLICY-001"' in capsys.readouterr().out
