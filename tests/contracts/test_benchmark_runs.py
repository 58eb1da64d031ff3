"""What the peer is offered and where that is kept; the recipe's faults, and what its tables are made of."""

from __future__ import annotations

import argparse
import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_config.models import SolverConfig
from ptycho_core.simulate import simulate_scan

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture
def fidelity() -> Any:
    import fidelity

    return fidelity


@pytest.fixture
def recipe() -> Any:
    import recipe

    return recipe


@pytest.fixture
def beamtime() -> Any:
    import beamtime

    return beamtime


def flags_of(program: str) -> set[str]:
    """The arguments that a program in benchmarks/ takes."""
    tree = ast.parse((FOLDER / program).read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    told = [call.args[0] for call in calls if ast.unparse(call.func).endswith("add_argument")]
    return {ast.literal_eval(name) for name in told} - {"source", "target"}


# The peer


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
        assert {word for word in flags(option) if word.startswith("--")} <= flags_of("peer.py")
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


@pytest.mark.parametrize(("name", "least"), [("star", 17), ("recipe", 9)])
def test_epochs_that_leave_none_for_the_full_resolution_are_refused(
    name: str, least: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    program = __import__(name)
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--peer-epochs", str(least - 1)])
    with pytest.raises(SystemExit):
        program.main()
    assert f"--peer-epochs: {least} at least" in capsys.readouterr().err


# The simulated faults


def test_the_simulated_scan_has_every_fault_and_keeps_its_truth(beamtime: Any) -> None:
    made = beamtime.faulty_scan(frames=120, frame_px=32)
    counts = made.scan.counts()
    assert made.made.probe.shape == (beamtime.MODES, 32, 32)
    off = made.scan.positions_px - made.true_px
    assert np.sqrt(np.square(off).sum(axis=1).mean()) == pytest.approx(beamtime.JITTER_PX, rel=0.15)
    np.testing.assert_array_equal(made.true_px, made.made.scan.positions_px)
    assert made.intensity.mean() == pytest.approx(1)
    fading = np.polyfit(np.linspace(0, 1, 120), made.intensity, 1)
    assert 1 + fading[0] / fading[1] == pytest.approx(beamtime.FADES_TO, abs=0.1)
    flicker = (made.intensity / np.polyval(fading, np.linspace(0, 1, 120))).std()
    assert flicker == pytest.approx(beamtime.FLICKER, rel=0.25)
    # The beam's part of the counts follows its intensity, and the background is in each frame alike; a tilted
    # probe meets the sample a little differently.
    flat = beamtime.BACKGROUND * beamtime.PHOTONS
    totals = counts.sum(axis=(1, 2)).astype(float)
    dose = made.made.dose * made.intensity
    np.testing.assert_allclose(totals, dose + flat, rtol=0.05)
    assert (totals - dose).mean() == pytest.approx(flat, rel=0.1)
    again = beamtime.faulty_scan(frames=120, frame_px=32)
    np.testing.assert_array_equal(again.scan.counts(), counts)


def test_the_probe_tilts_and_breathes_but_neither_moves_nor_fades(beamtime: Any) -> None:
    probe = simulate_scan(frames=4, frame_px=64, modes=2).probe
    drifting = list(beamtime.drifting_probes(probe, 50, np.random.default_rng(0)))
    power = np.square(np.abs(drifting)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(power, np.square(np.abs(probe)).sum(), rtol=1e-4)

    def middle(fields: np.ndarray) -> np.ndarray:
        light = np.square(np.abs(fields)).sum(axis=0)
        along = np.arange(len(light))
        return np.array([(light.sum(axis=axis) * along).sum() for axis in (1, 0)]) / light.sum()

    assert np.abs([middle(one) - middle(probe) for one in drifting]).max() < 0.3
    spectra = [np.fft.fftshift(np.fft.fft2(one), axes=(-2, -1)) for one in drifting]
    tilts = np.array([middle(spectrum) for spectrum in spectra])
    assert np.ptp(tilts[:, 0]) > 0.8 * beamtime.TILT_PX
    apart = np.square(np.abs(drifting[0] - drifting[-1])).sum() / power[0]
    assert apart > 0.001


def test_position_errors_leave_out_a_shift_and_the_second_a_strain_too(beamtime: Any) -> None:
    random = np.random.default_rng(1)
    true = random.uniform(0, 100, (50, 2))
    assert beamtime.position_errors_px(true + np.array([3, -5]), true) == pytest.approx((0, 0), abs=1e-9)
    strained = true @ np.array([[1.02, 0.01], [0, 0.99]])
    shifted, unstrained = beamtime.position_errors_px(strained + np.array([3, -5]), true)
    assert shifted > 0.3
    assert unstrained == pytest.approx(0, abs=1e-9)
    jittered = true + random.normal(0, 1, true.shape)
    shifted, unstrained = beamtime.position_errors_px(jittered, true)
    assert 1 < unstrained <= shifted < 1.6


def test_the_truth_is_judged_best_and_what_is_not_finite_worst(beamtime: Any) -> None:
    made = beamtime.faulty_scan(frames=20, frame_px=32)
    truth = beamtime.Found(made.made.obj, made.made.probe, made.true_px, made.intensity)
    found = beamtime.judged(truth, made)
    assert found["error"] == pytest.approx(0, abs=1e-5)
    assert found["position_error_px"] == found["unstrained_error_px"] == 0
    assert found["intensity_correlation"] == pytest.approx(1)
    broken = beamtime.Found(made.made.obj * np.nan, made.made.probe, made.true_px, None)
    assert set(beamtime.judged(broken, made).values()) == {float("inf")}


# What is run


def test_every_option_of_the_peer_is_one_of_its_program_and_has_a_name_of_its_own(recipe: Any) -> None:
    from peer_calls import described, flags

    assert len({described(option) for option in recipe.PEER_OPTIONS}) == len(recipe.PEER_OPTIONS)
    same = {name: value for name, value in recipe.SAME.items() if name != "modes"}
    for option in recipe.PEER_OPTIONS:
        assert option["positions"]
        assert {word for word in flags({**same, **option}) if word.startswith("--")} <= flags_of("peer.py")
    assert json.loads(json.dumps(recipe.PEER_OPTIONS)) == list(recipe.PEER_OPTIONS)
    assert {option["batch_size"] for option in recipe.PEER_OPTIONS} == {16, 32, 64}


def test_the_recipe_is_every_freedom_and_the_solver_knows_each(recipe: Any) -> None:
    import star_run

    words = {word for words in recipe.COSTS.values() for word in words if word.startswith("--")}
    assert words <= flags_of("star_run.py")
    asked = argparse.Namespace(
        refine_positions=True,
        frame_intensity=True,
        refine_background=True,
        variations=2,
        prior="none",
        epochs=0,
    )
    config = SolverConfig(**star_run.freedoms(asked))
    assert (config.refine_positions, config.frame_intensity, config.refine_background) == (True, True, True)
    assert (config.probe_variations, config.prior, config.epochs) == (2, "none", None)
    assert {*recipe.FREEDOMS} < {*recipe.COSTS}
    assert set(recipe.EVERYTHING) == {word for words in recipe.FREEDOMS.values() for word in words}


def test_explored_runs_are_used_for_the_very_scan_alone(recipe: Any, beamtime: Any) -> None:
    one = beamtime.faulty_scan(frames=12, frame_px=32)
    moved = replace(one, scan=one.scan.moved_to(one.true_px))
    assert recipe.identity(one) == recipe.identity(beamtime.faulty_scan(frames=12, frame_px=32))
    others = (
        moved,
        beamtime.faulty_scan(frames=13, frame_px=32),
        beamtime.faulty_scan(frames=12, frame_px=32, seed=4),
    )
    assert len({recipe.identity(scan) for scan in (one, *others)}) == 4


def look(epoch: int, seconds: float, residual: float, **more: float) -> dict[str, float]:
    return {"epoch": epoch, "seconds": seconds, "R_object_bilinear": residual, **more}


def test_the_peers_best_is_what_comes_near_the_lowest_soonest(recipe: Any) -> None:
    slow = {"option": {"batch_size": 16}, "looks": [look(4, 10, 0.3), look(8, 20, 0.1001), look(12, 30, 0.1)]}
    quick = {
        "option": {"batch_size": 64},
        "looks": [look(4, 5, 0.3), look(8, 15, 0.1005), look(12, 25, 0.104)],
    }
    assert recipe.best_of([slow, quick]) == ({"batch_size": 64}, 8)
    # Where the truth is known, the object error alone decides.
    slow["looks"][-1]["error"], quick["looks"][1]["error"] = 0.2, 0.5
    assert recipe.best_of(
        [{**slow, "looks": slow["looks"][-1:]}, {**quick, "looks": quick["looks"][1:2]}]
    ) == (
        {"batch_size": 16},
        12,
    )


# What is told


def account(**timings: float) -> dict[str, Any]:
    return {
        "timings": {"level_64": 2.0, "level_128": 3.0, **timings},
        "epochs": {"64": 10, "128": 5},
        "transform_seconds": {"64": 1e-4, "128": 4e-4},
        "frames": 100,
        "modes": 3,
    }


def test_transforms_are_counted_and_search_and_test_are_left_out_of_the_gradient(recipe: Any) -> None:
    from star import Run

    one = np.zeros((1, 1))
    costs = recipe.costs_of(Run(20.0, one, one, one, None, account(search=6.0, held_out=4.0)))
    assert costs["transforms"] == 2 * 300 * 15
    assert costs["transform_seconds"] == pytest.approx(2 * 300 * (10 * 1e-4 + 5 * 4e-4))
    assert (costs["level_seconds"], costs["gradient_seconds"], costs["epochs"]) == (5.0, 10.0, 15)
    assert recipe.costs_of(Run(20.0, one, one, one, None, account()))["gradient_seconds"] == 20.0


def test_ratios_are_medians_of_the_rounds(recipe: Any) -> None:
    runs = {("star", recipe.RECIPE): (4.0, 9.0, 6.0), ("star", recipe.MODES_ALONE): (2.0, 3.0, 3.0)}
    seconds = {**runs, **{("costs", name): (1.0, 2.0, 4.0) for name in recipe.COSTS}}
    found = {
        key: [{"seconds": s, "gradient_seconds": s / 2} for s in times] for key, times in seconds.items()
    }
    ratios = recipe.ratios_of(found)
    assert ratios["recipe / three modes, star"] == 2.0
    assert ratios["positions / plain, no prior"] == 1.0
    assert ratios["positions / plain, no prior, gradient only"] == 0.5
    alone = {key: runs for key, runs in found.items() if key[0] == "star"}
    assert list(recipe.ratios_of(alone)) == ["recipe / three modes, star"]
