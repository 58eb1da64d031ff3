"""The commands `ptycho_train` and `ptycho_inference`, for `ptycho train` and `ptycho infer`.
These know the older flags.
"""

from __future__ import annotations

from ptycho_dispatch.__main__ import main

__all__ = ["infer", "train"]


def train() -> int:
    """Run `ptycho train` with the words of the command line."""
    return main("train")


def infer() -> int:
    """Run `ptycho infer` with the words of the command line."""
    return main("infer")
