"""Importing the configuration layer is cheap: no array library, no framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ptycho_config

HEAVY = ("numpy", "scipy", "torch", "lightning", "tensorflow", "keras", "pydantic_settings")


@pytest.mark.parametrize(
    "statement",
    [
        "import ptycho_config",
        "from ptycho_config import *",
        "from ptycho_config import legacy, sources, flags, commandline, guards, execution, findings",
        "from ptycho_config import PyTorchExecutionConfig; PyTorchExecutionConfig(accelerator='cpu')",
        "from ptycho_config import hardware; hardware.nvidia_driver_present()",
    ],
)
def test_importing_loads_neither_arrays_nor_frameworks(statement: str) -> None:
    program = f"{statement}\nimport sys\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_bare_package_loads_not_even_pydantic() -> None:
    program = "import ptycho_config, sys; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_public_name_is_there_and_an_unknown_one_is_not() -> None:
    for name in ptycho_config.__all__:
        assert getattr(ptycho_config, name) is not None
    assert set(ptycho_config.__all__) <= set(dir(ptycho_config))
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        ptycho_config.Nonsense  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
