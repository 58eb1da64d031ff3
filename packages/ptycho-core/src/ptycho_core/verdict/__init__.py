"""The judgement of a result: is it an image of the sample, and up to which detail?

`judge` decides; `halves` reconstructs two halves of the frames and compares them; `uncertainty` tells from
several such pairs how far each pixel can be believed. `rivals` compares images of one scan by what none of
them has seen. What is measured on the result alone lies in `ptycho_core.result.measures`.
"""

from ptycho_core.verdict.judge import judged
from ptycho_core.verdict.uncertainty import with_uncertainty

__all__ = ["judged", "with_uncertainty"]
