"""The benchmarks: one frame for all, nothing read beside the repository, and records that compare."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"
#: Programs that a benchmark starts elsewhere, or by a launcher: the frame's arguments mean nothing there.
CHILDREN = {"peer.py", "ranks_run.py", "star_run.py"}
SOURCES = sorted(FOLDER.glob("*.py"))
BENCHMARKS = [path for path in SOURCES if "__main__" in path.read_text("utf-8") and path.name not in CHILDREN]

_spec = importlib.util.spec_from_file_location("frame", FOLDER / "frame.py")
assert _spec is not None
assert _spec.loader is not None
frame: Any = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = frame
_spec.loader.exec_module(frame)


def of_name(path: Path) -> str:
    return path.stem


# One frame


@pytest.mark.parametrize("path", BENCHMARKS, ids=of_name)
def test_every_benchmark_takes_its_arguments_and_processes_from_the_frame(path: Path) -> None:
    calls = [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
    ]
    assert "frame.parser" in calls
    assert "frame.finish" in calls or "frame.keep" in calls
    assert "argparse.ArgumentParser" not in calls
    assert path.stem == "mutants" or "subprocess.run" not in calls  # mutmut shows its own progress


def test_every_benchmark_of_the_session_is_one_and_the_other_way_round() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    (listed,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "BENCHMARKS"
    )
    assert {path.stem for path in BENCHMARKS} - {"mutants"} == set(listed)


def test_the_frame_needs_nothing_beyond_the_standard_library() -> None:
    code = f"import runpy; runpy.run_path({str(FOLDER / 'frame.py')!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


# Nothing beside the repository


def reads_beside(source: str) -> list[str]:
    """Find what names a place outside the checkout: above it, the home directory, a folder `shared`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
            if {"..", "shared", "~"} & set(re.split(r"[/\\\s]", node.value)):
                found.append(node.value)
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(".parents"):
            if ast.unparse(node.slice) not in ("0", "1"):  # of a file in benchmarks/, 1 is the checkout
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name.endswith((".home", ".expanduser", ".pardir", ".parent.parent.parent")):
                found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=of_name)
def test_no_benchmark_reads_beside_the_repository(path: Path) -> None:
    assert reads_beside(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "Path(__file__).parents[2] / 'data'",
        "Path(__file__).parent.parent.parent",
        "open('../data')",
        "ROOT / 'shared' / 'prototypes'",
        "Path.home()",
        "Path('~/data').expanduser()",
    ],
)
def test_what_reads_beside_the_repository_is_found(line: str) -> None:
    assert reads_beside(line)


@pytest.mark.parametrize("name", ["star", "network"])
def test_a_prototype_that_is_not_there_is_refused_before_anything_runs(name: str, tmp_path: Path) -> None:
    options = ["--prototype", str(tmp_path)]
    program = [sys.executable, str(FOLDER / f"{name}.py"), *options]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "give the prototype's folder, or leave it out" in done.stderr


# Turns and children


def test_methods_take_turns() -> None:
    called: list[str] = []
    methods = {name: (lambda name=name: called.append(name) or len(called)) for name in "abc"}
    assert frame.take_turns(2, methods) == {"a": [1, 4], "b": [2, 5], "c": [3, 6]}
    called.clear()
    assert frame.take_turns(3, methods, back_and_forth=True) == {
        "a": [1, 6, 7],
        "b": [2, 5, 8],
        "c": [3, 4, 9],
    }
    assert "".join(called) == "abccbaabc"


def test_a_child_that_fails_says_why() -> None:
    program = [sys.executable, "-c", "import sys; sys.exit('out of paper')"]
    with pytest.raises(RuntimeError, match=r"the printer failed:\nout of paper"):
        frame.run_child(program, "the printer")


def test_a_child_gets_the_environment_that_it_should(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    show = [sys.executable, "-c", "import os, json; print(json.dumps([dict(os.environ), os.getcwd()]))"]
    environment, place = json.loads(
        frame.run_child(show, quiet=True, without=("OMP_NUM_THREADS",), cwd=tmp_path)
    )
    assert "OMP_NUM_THREADS" not in environment
    assert environment.items() >= frame.QUIET.items()
    assert Path(place) == tmp_path.resolve()
    assert json.loads(frame.run_child(show))[0]["OMP_NUM_THREADS"] == "1"


def test_another_commit_takes_turns_and_the_ratios_are_those_of_the_rounds(
    capsys: pytest.CaptureFixture,
) -> None:
    words = ["--against", "abc1234", "--against-python", sys.executable]
    arguments = frame.parser("", rounds=3, against=True).parse_args(words)
    seconds = iter([1.0, 2.0, 5.0, 1.0, 3.0, 4.0])  # now, then; then, now; now, then
    compared = frame.against(arguments, {"work": lambda python: next(seconds)})
    expected = {"now": 1.0, "then": 4.0, "ratio": 0.5, "least": 0.2, "most": 0.75}
    assert compared["methods"]["work"] == expected
    assert "| work | 1.000 | 4.000 | 0.500 | 0.200 to 0.750 |" in frame.against_table(compared)


def test_another_commit_without_an_interpreter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(frame.AGAINST_PYTHON, raising=False)
    arguments = frame.parser("", rounds=1, against=True).parse_args(["--against", "abc1234"])
    with pytest.raises(SystemExit, match=r"abc1234 is missing: run `nox -s bench"):
        frame.against(arguments, {"work": lambda python: 1.0})


def test_a_benchmark_that_cannot_take_turns_says_so(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        frame.parser("").parse_args(["--against", "abc1234"])
    assert "unrecognized arguments: --against" in capsys.readouterr().err


# Records


@pytest.fixture
def record() -> Any:
    return frame.Record(
        benchmark="star",
        date="2026-11-29T12:03:27",
        commit="6f2fc11",
        dirty=False,
        machine="2 cores of one kind",
        command="nox -s bench -- star",
        figures={"default, s": 0.75, "R": 0.1446},
    )


def test_a_record_comes_back_as_it_was(record: Any, tmp_path: Path) -> None:
    path = record.write(tmp_path)
    assert path == tmp_path / "star" / "2026-11-29T1203-6f2fc11.json"
    assert frame.Record.read(path) == record


def test_no_record_is_written_over_another(record: Any, tmp_path: Path) -> None:
    first, second = record.write(tmp_path), replace(record, figures={}).write(tmp_path)
    assert second.name == "2026-11-29T1203-6f2fc11-2.json"
    assert frame.Record.read(first) == record


def test_a_run_is_compared_with_the_newest_before_it(
    record: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    frame.keep(record, tmp_path)
    assert "No earlier record" in capsys.readouterr().out
    day = replace(record, date="2026-11-30T08:00:00", dirty=True, figures={"default, s": 1.5, "new": 1.0})
    frame.keep(day, tmp_path)
    said = capsys.readouterr().out
    assert "Against 2026-11-29T12:03:27, 6f2fc11:" in said
    assert "| default, s | 1.5 | 0.75 | 2.000 |" in said
    assert "new" not in said
    frame.keep(replace(record, date="2026-12-01T08:00:00"), tmp_path)
    assert "Against 2026-11-30T08:00:00, 6f2fc11 with changes:" in capsys.readouterr().out
    assert frame.newest(replace(record, benchmark="live"), tmp_path) is None


def test_a_record_of_the_same_machine_comes_before_a_newer_one(record: Any, tmp_path: Path) -> None:
    record.write(tmp_path)
    other = replace(record, date="2026-12-01T08:00:00", machine="64 cores of another kind")
    other.write(tmp_path)
    now = replace(record, date="2026-12-02T08:00:00")
    assert frame.newest(now, tmp_path) == record
    assert "machine" not in frame.compare(now, record)
    assert "on another machine (64 cores of another kind)" in frame.compare(now, other)
    assert "by `nox -s bench -- star`" in frame.compare(replace(now, command="else"), record)


def test_a_run_describes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    there = str(ROOT / "prototype")
    monkeypatch.setattr(
        sys, "argv", ["star.py", "--rounds", "3", "--prototype", there, f"--peer-python={there}"]
    )
    found = frame.Record.of_this_run("star", {"s": 1 / 3, "none": None, "never": float("inf")})
    assert found.command == "nox -s bench -- star --rounds 3 --prototype ... ..."
    assert found.figures == {"s": 0.333333}
    assert re.fullmatch(r"[0-9a-f]{7,}|unknown", found.commit)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", found.date)


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = frame.Record.of_this_run("gpu", {}, machine="one GPU")
    assert (found.commit, found.dirty, found.machine) == ("unknown", None, "one GPU")


def test_the_end_of_a_run_writes_page_data_and_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(frame.keep, "__defaults__", (tmp_path / "history",))
    arguments = frame.parser("").parse_args(["--write-docs"])
    page = frame.opening("A page", frame.command("some", arguments, "--frames 3"))
    frame.finish("some", arguments, page, {"rows": [1]}, {"s": 2.0})
    text = Path("docs/benchmarks/some.md").read_text("utf-8")
    assert text.startswith("# A page\n\n`nox -s bench -- some --frames 3 --write-docs`, on ")
    assert text == Path("bench-results/some.md").read_text("utf-8")
    assert json.loads(Path("bench-results/some.json").read_text("utf-8"))["rows"] == [1]
    (kept,) = Path("history/some").iterdir()
    assert frame.Record.read(kept).figures == {"s": 2.0}
    assert text in capsys.readouterr().out


def test_a_page_begins_with_its_command_and_its_host() -> None:
    assert frame.opening("T", "cmd", on="one GPU") == "# T\n\n`cmd`, on one GPU.\n"
    assert frame.opening("T", "cmd", note="5 runs, ") == f"# T\n\n`cmd`, 5 runs, on {frame.host()}.\n"


def test_numbers_of_a_table_get_names() -> None:
    rows = [{"case": "a", "px": 64, "s": 1.0, "R": None}, {"case": "b", "px": 64, "s": 2.0, "R": 0.1}]
    assert frame.figures(rows, ("case", "px"), "s", "R") == {
        "a, 64, s": 1.0,
        "b, 64, s": 2.0,
        "b, 64, R": 0.1,
    }


def test_the_records_in_the_repository_can_be_read() -> None:
    for path in sorted((FOLDER / "history").glob("*/*.json")):
        record = frame.Record.read(path)
        assert record.benchmark == path.parent.name
        assert path.name.startswith(f"{record.date[:16].replace(':', '')}-{record.commit}")
        assert path.stat().st_size < 1 << 16
