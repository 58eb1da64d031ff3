"""What `train` and `infer` say about the execution before they begin (POLICY-001)."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from ptycho_config.flags import given_flags
from ptycho_config.naming import Part, places

__all__ = ["announce_execution"]

logger = logging.getLogger("ptycho")


def announce_execution(arguments: argparse.Namespace, execution: Part[Any], warned: Sequence[str]) -> None:
    """Log the warnings that came with the configuration, and that no execution flag was given if none was."""
    for text in warned:
        logger.warning("%s", text)
    given = given_flags(arguments)
    if not any(place.name in given for place in places(execution)):
        logger.info(
            "POLICY-001: No --torch-* execution flags provided. Backend will use GPU-first defaults "
            "(auto-detects CUDA if available, else CPU). CPU-only users should pass --torch-accelerator cpu."
        )
