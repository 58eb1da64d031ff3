"""When levels and prior follow each other once more: where frames overlap little, or time does not matter.

Where frames share little light the phase between them moves slowly, and one way through levels and prior does
not come to rest (docs/decisions/0031-levels-and-prior-in-rounds.md).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex

from ptycho_config.models import SolverConfig
from ptycho_core.result.history import RunEvent
from ptycho_core.scan import Scan
from ptycho_core.scan.overlap import overlap_fraction

__all__ = ["MOST_ROUNDS", "another_round", "goes_on", "rounds_expected"]

#: So often at most.
MOST_ROUNDS = 3
#: Below this overlap they follow as long as the prior moves the object by more than such a part of its
#: contrast.
_LITTLE_OVERLAP, _AT_REST = 0.55, 0.03
#: So far the overlap by the start probe may be from that by the probe that is found.
_START_PROBE_IS_OFF = 0.1
#: Where time does not matter, at any overlap, as long as it moves the object by less than the round before.
_THOROUGHLY_AT_REST, _LESS = 0.01, 0.95


def goes_on(
    moved: float,
    *,
    before: float,
    probe: Complex[np.ndarray, "mode n n"],
    scan: Scan,
    config: SolverConfig,
) -> bool:
    """Return whether levels and prior are to follow once more.

    Args:
        moved: by which part of its contrast the prior moved the object in the end.
        before: the same of the round before; infinite in the first.
        probe: as it was found.
    """
    if not _may_follow(config):
        return False
    if moved > _AT_REST and overlap_fraction(scan.positions_px, probe) < _LITTLE_OVERLAP:
        return True
    return config.effort == "thorough" and _THOROUGHLY_AT_REST < moved < _LESS * before


def another_round(number: int, moved: float) -> RunEvent:
    """Say why levels and prior follow once more, for the `number`-th time, counted from 1."""
    text = (
        f"The prior moved the object by {moved:.0%} of its contrast: levels and prior follow once more "
        f"({number} of at most {MOST_ROUNDS} times)."
    )
    return RunEvent("round", text, {"round": number, "moved": moved})


def rounds_expected(scan: Scan, config: SolverConfig) -> tuple[int, int]:
    """Return how many rounds follow the first way, as far as the start probe tells, and how many may.

    What decides is the overlap of the probe that is found, and the start probe is seldom of its size.
    """
    if not (config.uses_prior and _may_follow(config)):
        return 0, 0
    overlap = overlap_fraction(scan.positions_px, scan.probe)
    if overlap < _LITTLE_OVERLAP - _START_PROBE_IS_OFF:
        return MOST_ROUNDS, MOST_ROUNDS
    surely = 1 if config.effort == "thorough" else 0
    return surely, MOST_ROUNDS if overlap < _LITTLE_OVERLAP + _START_PROBE_IS_OFF else surely


def _may_follow(config: SolverConfig) -> bool:
    """As many epochs as were asked for are enough, and positions have had theirs."""
    return config.epochs is None and not config.refine_positions
