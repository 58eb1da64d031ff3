"""Which method `auto` means for a scan; the evidence is in docs/benchmarks/curves.md."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from ptycho_config.errors import BackendUnavailableError

if TYPE_CHECKING:
    from ptycho_core import Scan

__all__ = ["choose_method"]

logger = logging.getLogger("ptycho")
#: From this noise floor of R on, a network trained on the scan gave the solver a better start than none.
_DIM_FLOOR = 0.35


def choose_method(scan: Scan, *, backend: str, goes_on: bool) -> Literal["solver", "both"]:
    """Choose the solver, or where photons are few a network before it; says which and why.

    Args:
        backend: core of the network.
        goes_on: there is a result to start from.
    """
    from ptycho_core.backend import require_backend
    from ptycho_core.solver import HOPELESS_NOISE_FLOOR, noise_floor

    if goes_on:
        logger.info("Method: solver (`auto`): it goes on from a result.")
        return "solver"
    floor = noise_floor(scan)
    if floor is None or floor < _DIM_FLOOR:
        logger.info("Method: solver (`auto`): with so many photons it is faster and sharper than a network.")
        return "solver"
    if floor >= HOPELESS_NOISE_FLOOR:
        logger.info("Method: solver (`auto`): from this scan alone, a network sees no more than it.")
        return "solver"
    why = f"the noise floor of R is {floor:.2f}"
    try:
        require_backend(backend)
    except BackendUnavailableError as missing:
        logger.warning(
            "Method: solver (`auto`): %s, where a network before it gives a better image. %s", why, missing
        )
        return "solver"
    logger.info("Method: network, then solver (`auto`): %s, and the solver alone loses its way.", why)
    return "both"
