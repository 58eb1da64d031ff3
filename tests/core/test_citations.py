"""Which papers a result stands on, and that the code they describe names them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ptycho_config.models import ModelConfig, SolverConfig
from ptycho_core import solve
from ptycho_core.citations import PAPERS, Paper, cited, papers_behind, together
from ptycho_core.simulate import simulate_scan

ROOT = Path(__file__).resolve().parents[2]
LEVELS = ["maiden2009", "thibault2012", "maiden2017", "odstrcil2018"]
PRIOR = ["rudin1992", "beck2009", "chambolle2011"]


@cache
def _docstrings() -> str:
    """All docstrings of the packages, but for those of the table itself."""
    found = []
    for source in sorted((ROOT / "packages").glob("*/src/**/*.py")):
        if source.name == "citations.py":
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found.append(ast.get_docstring(node) or "")
    return "\n".join(found)


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({}, PRIOR),
        ({"effort": "fast"}, []),
        ({"prior": "none"}, []),
        ({"effort": "fast", "prior": "tv"}, PRIOR),
        ({"probe_modes": 2}, ["thibault2013", *PRIOR]),
        ({"probe_variations": 1}, ["odstrcil2016", *PRIOR]),
        ({"refine_positions": True}, ["guizar-sicairos2008", "maiden2012", *PRIOR]),
        ({"frame_intensity": True}, PRIOR),
        ({"probe_modes": 3, "probe_variations": 2}, ["thibault2013", "odstrcil2016", *PRIOR]),
    ],
)
def test_the_solver_stands_on_the_papers_of_what_it_was_told_to_do(
    settings: dict[str, object], more: list[str]
) -> None:
    papers = papers_behind(solver=SolverConfig(**settings))  # pyright: ignore[reportArgumentType]
    assert [paper.key for paper in papers] == LEVELS + more


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (ModelConfig(), ["hoidn2023", "ronneberger2015"]),
        (ModelConfig(architecture="cnn"), ["cherukara2020", "hoidn2023"]),
        (ModelConfig(architecture="fno_vanilla"), ["hoidn2023", "li2021"]),
        (ModelConfig(architecture="ffno"), ["hoidn2023", "tran2023"]),
        (ModelConfig(architecture="neuralop_uno"), ["hoidn2023", "rahman2023"]),
        (ModelConfig(model_type="supervised"), ["cherukara2020", "ronneberger2015"]),
    ],
)
def test_a_network_stands_on_the_papers_of_its_layers_and_of_how_it_learned(
    model: ModelConfig, keys: list[str]
) -> None:
    assert [paper.key for paper in papers_behind(model=model)] == keys
    with_modes = [paper.key for paper in papers_behind(model=model, probe_modes=2)]
    assert sorted(with_modes) == sorted([*keys, "thibault2013"])


def test_both_together_and_one_after_the_other_are_the_same() -> None:
    solver, model = SolverConfig(probe_modes=2), ModelConfig()
    apart = together(cited(model=model), cited(solver=solver), cited(solver=solver))
    assert apart == cited(solver=solver, model=model)
    assert [paper["key"] for paper in apart][:4] == LEVELS


def test_nothing_that_ran_stands_on_nothing() -> None:
    assert papers_behind() == papers_behind(probe_modes=3) == ()


@pytest.mark.parametrize("paper", PAPERS.values(), ids=list(PAPERS))
def test_the_code_that_a_paper_describes_names_it(paper: Paper) -> None:
    assert paper.identifier in _docstrings()
    assert paper.identifier in (ROOT / "docs" / "reference" / "physics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("paper", PAPERS.values(), ids=list(PAPERS))
def test_every_setting_of_some_kind_leads_to_each_paper(paper: Paper) -> None:
    everything = SolverConfig(probe_modes=2, probe_variations=1, refine_positions=True)
    architectures = ("unet", "cnn", "fno", "ffno", "neuralop_uno")
    reached = {
        one.key
        for architecture in architectures
        for one in papers_behind(solver=everything, model=ModelConfig(architecture=architecture))
    }
    assert paper.key in reached


def test_a_paper_reads_as_a_line_of_a_list_of_references() -> None:
    assert PAPERS["odstrcil2016"].record() == {
        "key": "odstrcil2016",
        "text": (
            "M. Odstrčil, P. Baksh, S. A. Boden, R. Card, J. E. Chad, J. G. Frey and W. S. Brocklesby, "
            "Ptychographic coherent diffractive imaging with orthogonal probe relaxation, "
            "Optics Express 24 (2016) 8360"
        ),
        "doi": "10.1364/OE.24.008360",
    }
    assert PAPERS["li2021"].identifier == "arXiv:2010.08895"
    assert PAPERS["li2021"].text.endswith("ICLR (2021)")


def test_run_json_lists_the_papers_of_the_run() -> None:
    scan = simulate_scan(frames=20, frame_px=32, seed=1).scan
    config = SolverConfig(effort="fast", probe_modes=2, refine_positions=True, epochs=3)
    record = solve(scan, config).run_record()
    assert record["papers"] == cited(solver=config)
    assert [paper["key"] for paper in record["papers"]] == [
        *LEVELS,
        "thibault2013",
        "guizar-sicairos2008",
        "maiden2012",
    ]
    assert np.isfinite(record["data_residual"])
