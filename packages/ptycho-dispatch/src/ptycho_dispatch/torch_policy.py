"""What `train` and `infer` decide and say about the execution before they begin (POLICY-001)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ptycho_config.execution import PyTorchExecutionConfig
from ptycho_config.sources import Loaded

__all__ = ["announce_execution", "runs_by_default"]

logger = logging.getLogger("ptycho")


def runs_by_default(execution: Loaded[PyTorchExecutionConfig]) -> bool:
    """Tell whether nobody chose how to run: no `--torch-*` flag, and no accelerator by any other way."""
    return execution.source_of("accelerator") == "default" and not any(
        setting.source == "flag" and setting.origin.startswith("`--torch-")
        for setting in execution.settings.values()
    )


def announce_execution(execution: Loaded[PyTorchExecutionConfig], warned: Sequence[str]) -> None:
    """Log the warnings that came with the configuration, and that the defaults hold where they do."""
    for text in warned:
        logger.warning("%s", text)
    if runs_by_default(execution):
        logger.info(
            "POLICY-001: No --torch-* execution flags provided. Backend will use GPU-first defaults "
            "(auto-detects CUDA if available, else CPU). CPU-only users should pass --torch-accelerator cpu."
        )
