"""The legacy import paths of this version, and that they load no framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("ptycho", reason="the distribution ptychopinn is not installed")


def test_importing_the_facade_loads_no_framework() -> None:
    code = (
        "import sys, ptycho, ptycho.params, ptycho.config.config, ptycho_torch; "
        "print(sorted({'torch', 'lightning', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_typed_config_reaches_the_legacy_registry() -> None:
    import ptycho.params
    from ptycho.config.config import ModelConfig, TrainingConfig, update_legacy_dict

    before = dict(ptycho.params.cfg)
    try:
        update_legacy_dict(ptycho.params.cfg, TrainingConfig(model=ModelConfig(N=128, gridsize=2)))
        assert ptycho.params.get("N") == 128
        assert ptycho.params.get("gridsize") == 2
    finally:
        ptycho.params.cfg.clear()
        ptycho.params.cfg.update(before)
