"""The judgement of a result: is it an image of the sample, and up to which detail?

`judge` decides; `halves` reconstructs two halves of the frames and compares them. What is measured on the
result alone lies in `ptycho_core.result.measures`.
"""

from ptycho_core.verdict.judge import judged

__all__ = ["judged"]
