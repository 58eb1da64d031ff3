"""The papers behind a result, for whoever publishes it: one table, and which of them a run stood on.

A paper is listed here if a setting decides whether its algorithm runs. The module that implements it names
the same DOI or arXiv number in its docstring; what every run uses besides (metrics, optimisers) is cited
there alone, and all of them in docs/reference/physics.md, "Papers".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ptycho_config.models import ModelConfig, SolverConfig

__all__ = ["PAPERS", "Paper", "Record", "cited", "papers_behind", "together"]

_ARXIV = "10.48550/arXiv."

#: A paper as `run.json` holds it: key, text, doi.
Record = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A publication.

    Attributes:
        venue: journal with its volume, or conference.
        page: first page or article number; empty where there is none.
        doi: without `https://doi.org/`; that of arXiv where the publisher gives none.
    """

    key: str
    authors: str
    title: str
    venue: str
    page: str = ""
    year: int
    doi: str

    @property
    def identifier(self) -> str:
        """The DOI, or `arXiv:` and the number."""
        return f"arXiv:{self.doi.removeprefix(_ARXIV)}" if self.doi.startswith(_ARXIV) else self.doi

    @property
    def text(self) -> str:
        """One line for a list of references."""
        return f"{self.authors}, {self.title}, {self.venue} ({self.year}) {self.page}".rstrip()

    def record(self) -> Record:
        """Return the paper as `run.json` holds it."""
        return {"key": self.key, "text": self.text, "doi": self.doi}


PAPERS: Mapping[str, Paper] = {
    paper.key: paper
    for paper in (
        Paper(
            key="maiden2009",
            authors="A. M. Maiden and J. M. Rodenburg",
            title="An improved ptychographical phase retrieval algorithm for diffractive imaging",
            venue="Ultramicroscopy 109",
            page="1256",
            year=2009,
            doi="10.1016/j.ultramic.2009.05.012",
        ),
        Paper(
            key="thibault2012",
            authors="P. Thibault and M. Guizar-Sicairos",
            title="Maximum-likelihood refinement for coherent diffractive imaging",
            venue="New Journal of Physics 14",
            page="063004",
            year=2012,
            doi="10.1088/1367-2630/14/6/063004",
        ),
        Paper(
            key="maiden2017",
            authors="A. Maiden, D. Johnson and P. Li",
            title="Further improvements to the ptychographical iterative engine",
            venue="Optica 4",
            page="736",
            year=2017,
            doi="10.1364/OPTICA.4.000736",
        ),
        Paper(
            key="odstrcil2018",
            authors="M. Odstrčil, A. Menzel and M. Guizar-Sicairos",
            title="Iterative least-squares solver for generalized maximum-likelihood ptychography",
            venue="Optics Express 26",
            page="3108",
            year=2018,
            doi="10.1364/OE.26.003108",
        ),
        Paper(
            key="thibault2013",
            authors="P. Thibault and A. Menzel",
            title="Reconstructing state mixtures from diffraction measurements",
            venue="Nature 494",
            page="68",
            year=2013,
            doi="10.1038/nature11806",
        ),
        Paper(
            key="odstrcil2016",
            authors=(
                "M. Odstrčil, P. Baksh, S. A. Boden, R. Card, J. E. Chad, J. G. Frey and W. S. Brocklesby"
            ),
            title="Ptychographic coherent diffractive imaging with orthogonal probe relaxation",
            venue="Optics Express 24",
            page="8360",
            year=2016,
            doi="10.1364/OE.24.008360",
        ),
        Paper(
            key="guizar-sicairos2008",
            authors="M. Guizar-Sicairos and J. R. Fienup",
            title="Phase retrieval with transverse translation diversity: a nonlinear optimization approach",
            venue="Optics Express 16",
            page="7264",
            year=2008,
            doi="10.1364/OE.16.007264",
        ),
        Paper(
            key="maiden2012",
            authors="A. M. Maiden, M. J. Humphry, M. C. Sarahan, B. Kraus and J. M. Rodenburg",
            title="An annealing algorithm to correct positioning errors in ptychography",
            venue="Ultramicroscopy 120",
            page="64",
            year=2012,
            doi="10.1016/j.ultramic.2012.06.001",
        ),
        Paper(
            key="rudin1992",
            authors="L. I. Rudin, S. Osher and E. Fatemi",
            title="Nonlinear total variation based noise removal algorithms",
            venue="Physica D 60",
            page="259",
            year=1992,
            doi="10.1016/0167-2789(92)90242-F",
        ),
        Paper(
            key="beck2009",
            authors="A. Beck and M. Teboulle",
            title="A fast iterative shrinkage-thresholding algorithm for linear inverse problems",
            venue="SIAM Journal on Imaging Sciences 2",
            page="183",
            year=2009,
            doi="10.1137/080716542",
        ),
        Paper(
            key="chambolle2011",
            authors="A. Chambolle and T. Pock",
            title="A first-order primal-dual algorithm for convex problems with applications to imaging",
            venue="Journal of Mathematical Imaging and Vision 40",
            page="120",
            year=2011,
            doi="10.1007/s10851-010-0251-1",
        ),
        Paper(
            key="cherukara2020",
            authors=(
                "M. J. Cherukara, T. Zhou, Y. Nashed, P. Enfedaque, A. Hexemer, R. J. Harder and M. V. Holt"
            ),
            title="AI-enabled high-resolution scanning coherent diffraction imaging",
            venue="Applied Physics Letters 117",
            page="044103",
            year=2020,
            doi="10.1063/5.0013065",
        ),
        Paper(
            key="hoidn2023",
            authors="O. Hoidn, A. A. Mishra and A. Mehta",
            title=(
                "Physics constrained unsupervised deep learning for rapid, high resolution scanning coherent "
                "diffraction reconstruction"
            ),
            venue="Scientific Reports 13",
            page="22789",
            year=2023,
            doi="10.1038/s41598-023-48351-7",
        ),
        Paper(
            key="ronneberger2015",
            authors="O. Ronneberger, P. Fischer and T. Brox",
            title="U-Net: convolutional networks for biomedical image segmentation",
            venue="MICCAI, Lecture Notes in Computer Science 9351",
            page="234",
            year=2015,
            doi="10.1007/978-3-319-24574-4_28",
        ),
        Paper(
            key="li2021",
            authors=(
                "Z. Li, N. Kovachki, K. Azizzadenesheli, B. Liu, K. Bhattacharya, A. Stuart and A. Anandkumar"
            ),
            title="Fourier neural operator for parametric partial differential equations",
            venue="ICLR",
            year=2021,
            doi=f"{_ARXIV}2010.08895",
        ),
        Paper(
            key="tran2023",
            authors="A. Tran, A. Mathews, L. Xie and C. S. Ong",
            title="Factorized Fourier neural operators",
            venue="ICLR",
            year=2023,
            doi=f"{_ARXIV}2111.13802",
        ),
        Paper(
            key="rahman2023",
            authors="M. A. Rahman, Z. E. Ross and K. Azizzadenesheli",
            title="U-NO: U-shaped neural operators",
            venue="Transactions on Machine Learning Research",
            year=2023,
            doi=f"{_ARXIV}2204.11127",
        ),
    )
}
"""All papers by their keys, in the order in which they are listed."""

_SOLVER = ("maiden2009", "thibault2012", "maiden2017", "odstrcil2018")
_PRIOR = ("rudin1992", "beck2009", "chambolle2011")
_MODES = ("thibault2013",)
_VARIATIONS = ("odstrcil2016",)
_POSITIONS = ("guizar-sicairos2008", "maiden2012")
_TRAINING = {"pinn": ("hoidn2023",), "supervised": ("cherukara2020",)}
_NETWORKS = {
    "unet": ("ronneberger2015",),
    "cnn": ("cherukara2020",),
    "fno": ("li2021",),
    "fno_vanilla": ("li2021",),
    "ffno": ("tran2023",),
    "neuralop_uno": ("rahman2023",),
}


def papers_behind(
    *, solver: SolverConfig | None = None, model: ModelConfig | None = None, probe_modes: int = 1
) -> tuple[Paper, ...]:
    """Give the papers of the algorithms that made a result, in the order of the table.

    Args:
        solver: with what the solver was told, where it took part.
        model: the network and how it learned, where one took part.
        probe_modes: of the probe that a network was used with.

    Example:
        >>> [paper.key for paper in papers_behind(model=ModelConfig(architecture="fno"))]
        ['hoidn2023', 'li2021']
    """
    keys: set[str] = set()
    if solver is not None:
        keys.update(_SOLVER)
        probe_modes = max(probe_modes, solver.probe_modes)
        if solver.uses_prior:
            keys.update(_PRIOR)
        if solver.probe_variations:
            keys.update(_VARIATIONS)
        if solver.refine_positions:
            keys.update(_POSITIONS)
    if model is not None:
        keys.update(_TRAINING[model.model_type], _NETWORKS[model.architecture])
    if keys and probe_modes > 1:
        keys.update(_MODES)
    return tuple(paper for key, paper in PAPERS.items() if key in keys)


def cited(
    *, solver: SolverConfig | None = None, model: ModelConfig | None = None, probe_modes: int = 1
) -> list[Record]:
    """Give what `papers_behind` does as `run.json` holds it."""
    return [paper.record() for paper in papers_behind(solver=solver, model=model, probe_modes=probe_modes)]


def together(*lists: Sequence[Record]) -> list[Record]:
    """Join the papers of several steps of a run, each once, in the order of the table."""
    found = {record["key"]: record for records in lists for record in records}
    return [found[key] for key in PAPERS if key in found]
