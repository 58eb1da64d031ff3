"""What the peer is offered, how its runs are named, and under which names they are kept."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture
def fidelity() -> Any:
    import fidelity

    return fidelity


def flags_of_the_program() -> set[str]:
    """The arguments that `peer.py` takes."""
    tree = ast.parse((FOLDER / "peer.py").read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    told = [call.args[0] for call in calls if ast.unparse(call.func).endswith("add_argument")]
    return {ast.literal_eval(name) for name in told} - {"source", "target"}


def test_choices_become_arguments() -> None:
    from peer_calls import flags

    told = flags(
        {"batch_size": 16, "coarse": [8, 6], "momentum": None, "intensity": True, "snapshots": (), "x": False}
    )
    assert told == ["--batch-size", "16", "--coarse", "8,6", "--intensity", "--snapshots", ""]


def test_what_the_peer_was_offered_is_said_in_words() -> None:
    from peer_calls import described

    assert described({"batch_size": 32, "momentum": 0.5, "batching": "compact"}) == (
        "batch 32, momentum 0.5, batches compact"
    )
    assert described({"batch_size": 16, "coarse": [8, 6]}) == "batch 16, epochs at coarser levels 8 and 6"


def test_the_star_offers_what_the_program_takes_once_each_and_the_workflow_among_it() -> None:
    from peer_calls import described, flags
    from star import PEER_OPTIONS

    assert len({described(option) for option in PEER_OPTIONS}) == len(PEER_OPTIONS)
    for option in PEER_OPTIONS:
        assert {word for word in flags(option) if word.startswith("--")} <= flags_of_the_program()
    offered = {
        (option["batch_size"], len(option["coarse"]) + 1) for option in PEER_OPTIONS if "coarse" in option
    }
    assert offered == {(16, 2), (32, 2), (16, 3), (32, 3)}
    # What was explored is kept as JSON and found again by comparison.
    assert json.loads(json.dumps(PEER_OPTIONS)) == list(PEER_OPTIONS)


def test_plain_runs_that_are_kept_stay_valid_and_progressive_ones_lie_beside_them(fidelity: Any) -> None:
    from cases import CASES, case_hash

    plain, progressive = fidelity.stored_at("centre")
    assert plain.name == f"{case_hash(CASES['centre'], 50, (('lsqml', 12), ('rpie', 12)))}.json"
    assert progressive != plain
    others = {place for name in CASES for place in fidelity.stored_at(name)}
    assert len(others) == 2 * len(CASES)
    offered = {(size, len(coarse) + 1) for _, size, coarse in fidelity.PROGRESSIVE_RUNS}
    assert offered == {(16, 2), (32, 2), (16, 3), (32, 3)}
    assert all(sum(coarse) < fidelity.EPOCHS for _, _, coarse in fidelity.PROGRESSIVE_RUNS)


def test_the_best_of_all_kept_runs_is_taken_and_none_where_some_are_missing(
    fidelity: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cases import build_case

    monkeypatch.setattr(fidelity, "CACHE", tmp_path)
    plain, progressive = fidelity.stored_at("frames 60")
    plain.write_text(json.dumps({"error": 0.3, "engine": "rpie 12"}))
    made = build_case("frames 60")
    assert fidelity.peer("frames 60", made, "cached", None, 1) is None
    progressive.write_text(json.dumps({"error": 0.2, "engine": "lsqml 16, 2 levels"}))
    for mode in ("cached", "auto"):
        assert fidelity.peer("frames 60", made, mode, None, 1) == {
            "error": 0.2,
            "engine": "lsqml 16, 2 levels",
        }
    plain.write_text(json.dumps({"error": 0.1, "engine": "rpie 12"}))
    assert fidelity.peer("frames 60", made, "auto", None, 1)["engine"] == "rpie 12"
    assert fidelity.peer("frames 60", made, "skip", None, 1) is None


def test_runs_of_the_peer_have_names(fidelity: Any) -> None:
    names = [fidelity.run_name(*run) for run in (*fidelity.PEER_RUNS, *fidelity.PROGRESSIVE_RUNS)]
    assert names[0] == "lsqml 12"  # as in what is kept
    assert names[-1] == "lsqml 32, 3 levels"
    assert len(set(names)) == len(names)
