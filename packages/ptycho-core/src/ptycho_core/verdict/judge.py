"""The verdict with two halves of the frames."""

from __future__ import annotations

from dataclasses import replace

from ptycho_config.execution import SolverExecutionConfig
from ptycho_core.ranks import ALONE, Ranks
from ptycho_core.result.judgement import AGREE, decide
from ptycho_core.result.reconstruction import Reconstruction
from ptycho_core.scan import Scan
from ptycho_core.solver.team import most_ranks
from ptycho_core.verdict.halves import (
    HALVES_PIXELS,
    Agreement,
    agreement_of_halves,
    halves_are_sparse,
    halves_worth_it,
    used_part,
)

__all__ = ["judged"]


def judged(
    scan: Scan,
    result: Reconstruction,
    *,
    halves: bool | None = None,
    execution: SolverExecutionConfig | None = None,
    ranks: Ranks = ALONE,
) -> Reconstruction:
    """Return the result with a verdict that has seen two halves of its frames agree, or not.

    They are made with little effort. Where their frames hardly overlap and they disagree, they are made once
    more with a prior, if the result has one.

    Args:
        scan: whose frames it explains. result: with the verdict that every result is made with.
        halves: make them; by default where frames x pixels are at most `HALVES_PIXELS`.
        ranks: that made the result; all of them call this.
    """
    before = result.verdict
    small = scan.n_frames * scan.frame_px**2 <= HALVES_PIXELS
    if before is None or not result.dose_carries_image or not (small if halves is None else halves):
        return result
    part = used_part(scan, result)
    why_not = halves_worth_it(part)
    if not why_not and ranks.count > most_ranks(part.n_frames // 2):
        why_not = f"a half has too few frames for {ranks.count} ranks"
    agreement = None if why_not else agreement_of_halves(scan, result, execution, ranks=ranks)
    measures = dict(before.measures) | ({} if agreement is None else _measures_of(agreement))
    took_a_prior = any(event.kind == "prior" and event.data.get("taken", True) for event in result.events)
    if measures.get("halves_agree", 1.0) < AGREE and took_a_prior and halves_are_sparse(part):
        agreement = agreement_of_halves(scan, result, execution, with_prior=True, ranks=ranks)
        measures |= {} if agreement is None else _measures_of(agreement)
    verdict = decide(
        measures, n_frames=part.n_frames, why_no_halves=why_not, pixel_size_m=result.pixel_size_m
    )
    if agreement is not None:
        names = ("correlation", "half_bit", "one_bit")
        verdict = replace(verdict, curves={name: tuple(getattr(agreement, name).tolist()) for name in names})
    return replace(result, verdict=verdict, image_reliable=verdict.grade == "good")


def _measures_of(agreement: Agreement) -> dict[str, float]:
    rings = len(agreement.correlation)
    quarter, eighth = (agreement.correlation[1 : max(2, rings // part)] for part in (4, 8))
    return {
        "halves_agree": float(quarter.mean()),
        "halves_agree_coarsely": float(eighth.mean()),
        "resolution_px": agreement.resolution_px,
        "curve_side_px": float(agreement.side_px),
    }
