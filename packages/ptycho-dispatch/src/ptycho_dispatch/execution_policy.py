"""What `train` and `infer` decide and say about the execution before they begin (POLICY-001)."""

from __future__ import annotations

import logging
from typing import Any

from ptycho_config.sources import Loaded
from ptycho_dispatch.execution_parts import ForBackend

__all__ = ["announce_execution", "runs_by_default"]

logger = logging.getLogger("ptycho")


def runs_by_default(execution: Loaded[Any]) -> bool:
    """Tell whether nobody chose how to run: no `--torch-*` flag, and no accelerator by any other way."""
    return execution.source_of("accelerator") == "default" and not any(
        setting.source == "flag" and setting.origin.startswith("`--torch-")
        for setting in execution.settings.values()
    )


def announce_execution(told: ForBackend) -> None:
    """Log the warnings that came with the configuration, and that the defaults hold where they do."""
    for text in told.warned:
        logger.warning("%s", text)
    if told.foreign:
        logger.warning(
            "Without effect with the backend `%s`: %s.", told.backend, ", ".join(sorted(told.foreign))
        )
    if told.backend == "pytorch" and runs_by_default(told.execution):
        logger.info(
            "POLICY-001: No --torch-* execution flags provided. Backend will use GPU-first defaults "
            "(auto-detects CUDA if available, else CPU). CPU-only users should pass --torch-accelerator cpu."
        )
