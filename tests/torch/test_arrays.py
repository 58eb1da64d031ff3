"""What torch arrays promise beyond the laws that every library of arrays keeps (tests/core/solver)."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("ptycho_core_torch", reason="ptycho-core-torch is not installed")

from ptycho_config.execution import SolverExecutionConfig  # noqa: E402
from ptycho_core import Scan, solve  # noqa: E402
from ptycho_core.arrays import load_arrays  # noqa: E402


def test_a_run_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    with load_arrays("torch", threads=2).limits():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_no_gradient_is_recorded() -> None:
    arrays = load_arrays("torch", threads=2)
    weights = torch.ones(4, requires_grad=True)
    with arrays.limits():
        results = arrays.map_chunks(lambda chunk: weights[chunk] * 2, 4, 1 << 20)
    assert not any(result.requires_grad for result in results)


@pytest.mark.gpu
def test_the_real_scan_is_solved_on_the_gpu(siemens_star: Scan) -> None:
    result = solve(siemens_star, execution=SolverExecutionConfig(accelerator="cuda"))
    assert result.data_residual <= 0.146
    assert result.provenance["execution"]["resolved"]["device"] == "cuda"
