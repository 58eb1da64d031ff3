"""A warning points at the line of the caller, and so is seen where warnings are filtered by file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ptycho_config import ModelConfig, PyTorchExecutionConfig, TrainingConfig, hardware
from ptycho_config.naming import Part
from ptycho_config.sources import load_parts

CAUSES = {
    "fallback": lambda: PyTorchExecutionConfig(),
    "fallback by hand": lambda: hardware.announce(hardware.resolve_accelerator("auto", cuda_available=False)),
    "n_images": lambda: TrainingConfig(n_images=3, model=ModelConfig()),
    "scheduler": lambda: TrainingConfig(scheduler="Adaptive"),
    "flag": lambda: load_parts([Part(TrainingConfig)], flags={"n_images": "3"}),
    "variable": lambda: load_parts([Part(TrainingConfig)], env={"PTYCHO_N_IMAGES": "3"}),
    "file": lambda: load_parts([Part(TrainingConfig)], yaml={"n_images": 3}),
}


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_a_warning_points_at_the_line_of_the_caller(cuda, cause: Callable[[], object]) -> None:
    with pytest.warns((UserWarning, DeprecationWarning)) as caught:
        cause()
    assert [warning.filename for warning in caught] == [__file__]
