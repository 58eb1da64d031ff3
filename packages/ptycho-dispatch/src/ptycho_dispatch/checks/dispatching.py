"""What the dispatcher does before it calls a backend, with a runner that only writes down what it gets."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ptycho_config import hardware
from ptycho_config.checks.evidence import Evidence, demand, observe, refused
from ptycho_config.errors import BackendUnavailableError, CheckError, PolicyError
from ptycho_config.execution import (
    SHARED_WITH_TRAINING,
    PyTorchExecutionConfig,
    SolverExecutionConfig,
    TensorFlowExecutionConfig,
)
from ptycho_config.legacy import legacy_dict
from ptycho_dispatch.checks.recording import Recorder, a_config, registry_kept
from ptycho_dispatch.dispatcher import run_cdi_example_with_backend

__all__ = [
    "execution_enters_nothing",
    "metrics_go_to_csv",
    "the_dispatcher_is_gpu_first",
    "the_registry_is_written_first",
]

_CPU = {"accelerator": "cpu"}


def the_registry_is_written_first() -> Evidence:
    """Dispatch to both backends and look at the registry when the runner is called.

    Raises:
        CheckError: CONFIG-001 does not hold.
    """
    finding, cpu = "CONFIG-001", PyTorchExecutionConfig.model_validate(_CPU)
    for backend in ("pytorch", "tensorflow"):
        config = a_config().model_copy(update={"backend": backend})
        recorder = Recorder()
        with registry_kept():
            recorder.dispatch(config, cpu)
        found = recorder.registry or {}
        wrong = sorted(key for key, value in legacy_dict(config).items() if found.get(key) != value)
        what = f"when the runner of {backend} was called, the registry disagreed about {', '.join(wrong)}"
        demand(not wrong, finding, what, "every value of the config")
    recorder = Recorder()
    with suppress(CheckError):
        recorder.dispatch(a_config(), cpu, update_registry=_fails)
    demand(recorder.registry is None, finding, "a backend ran although the update failed", "no dispatch")
    return {
        "registry when a runner is called": "holds every value of the config",
        "keys": len(legacy_dict(a_config())),
        "the update fails": "no backend is called",
    }


def _fails(registry: Any, config: Any) -> None:
    raise CheckError("on purpose", finding="CONFIG-001")


def execution_enters_nothing() -> Evidence:
    """Dispatch with an execution config full of chosen values; look for them where they must not be.

    Raises:
        CheckError: CONFIG-002 does not hold.
    """
    finding, config, recorder = "CONFIG-002", a_config(), Recorder()
    before = config.model_dump()
    execution = PyTorchExecutionConfig(
        accelerator="cpu", num_workers=3, accum_steps=5, learning_rate=0.123, gradient_clip_val=9.0
    )
    with registry_kept():
        recorder.dispatch(config, execution)
    registry = recorder.registry or {}
    kinds = (PyTorchExecutionConfig, TensorFlowExecutionConfig, SolverExecutionConfig)
    names = {name for kind in kinds for name in kind.model_fields} - set(SHARED_WITH_TRAINING)
    strays = sorted(names & registry.keys())
    demand(not strays, finding, f"the registry holds {', '.join(strays)}", "no execution field")
    clip = registry.get("gradient_clip_val")
    demand(clip != 9.0, finding, "the registry holds the execution's `gradient_clip_val`", "the config's")
    demand(config.model_dump() == before, finding, "dispatching changed the config", "an untouched config")
    demand(recorder.execution is execution, finding, "the runner got another execution", "the one given")
    return {"execution fields looked for in the registry": len(names), "found": 0, "config": "unchanged"}


def metrics_go_to_csv() -> Evidence:
    """Dispatch without an execution and look at the logger of the one that is made.

    Raises:
        CheckError: CONFIG-LOGGER-001 does not hold.
    """
    finding, recorder = "CONFIG-LOGGER-001", Recorder()
    with registry_kept():
        observe(lambda: recorder.dispatch(a_config()))
    logger = recorder.execution.logger_backend
    demand(logger == "csv", finding, f"the execution made by the dispatcher logs to {logger!r}", "'csv'")
    return {"an execution made by the dispatcher": "logs to csv"}


def the_dispatcher_is_gpu_first() -> Evidence:
    """Dispatch without an execution, with an explicit one, and with a GPU that is absent.

    Raises:
        CheckError: POLICY-001 does not hold.
    """
    finding, has_cuda = "POLICY-001", hardware.cuda_available()
    expected = "cuda" if has_cuda else "cpu"
    recorder = Recorder()
    with registry_kept():
        observed = observe(lambda: recorder.dispatch(a_config()))
    found, warned = recorder.execution.accelerator, observed.warnings_of(finding)
    demand(found == expected, finding, f"without an execution the runner got {found!r}", f"{expected!r}")
    count = 0 if has_cuda else 1
    demand(len(warned) == count, finding, f"the dispatcher warned {len(warned)} times", f"{count}")
    demand(all(hardware.NO_CUDA in text for text in warned), finding, f"it said {warned}", hardware.NO_CUDA)
    line = (
        f"Backend dispatcher: auto-instantiated PyTorchExecutionConfig with accelerator='{expected}' "
        "(POLICY-001 GPU-first defaults)"
    )
    said = observed.logged.count(line)
    demand(said == 1, finding, f"the line about the auto-instantiated config came {said} times", "once")
    _explicit_executions_pass_untouched(finding)
    return {
        "without an execution": f"accelerator {expected!r}, {count} warnings",
        "log line": line,
        "explicit executions": "passed on untouched, nothing said, the hardware not asked",
        "an explicit GPU that is absent": "nothing to refuse"
        if has_cuda
        else _absent_gpus_are_refused(finding),
    }


def _explicit_executions_pass_untouched(finding: str) -> None:
    for name in ("cpu", "mps"):
        execution, recorder = PyTorchExecutionConfig.model_validate({"accelerator": name}), Recorder()
        with registry_kept():
            observed = observe(
                lambda execution=execution, recorder=recorder: recorder.dispatch(a_config(), execution)
            )
        kept = recorder.execution is execution and execution.accelerator == name
        demand(kept, finding, f"an explicit {name!r} reached the runner as another", "the very same")
        quiet = not observed.warned and not any("auto-instantiated" in line for line in observed.logged)
        demand(quiet, finding, f"an explicit {name!r} was commented on", "silence")


def _absent_gpus_are_refused(finding: str) -> str:
    """Dispatch to the real runner a scan that does not exist: a refusal of the GPU must come before it."""
    for name in ("cuda", "gpu"):
        execution = PyTorchExecutionConfig.model_validate({"accelerator": name})
        try:
            with registry_kept():
                refused(
                    finding,
                    PolicyError,
                    f"dispatching with an explicit {name!r} that is absent",
                    lambda execution=execution: run_cdi_example_with_backend(
                        "there-is-no-such-scan.npz", None, a_config(), torch_execution_config=execution
                    ),
                )
        except BackendUnavailableError as error:
            return f"not tried: {error}"
    return "refused before the scan is opened"
