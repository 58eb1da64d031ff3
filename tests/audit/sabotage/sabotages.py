"""One function for each way to disable the enforcement of a finding; no test may call one in its process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


def nothing(*arguments: object, **options: object) -> None:
    """Take the place of a check."""


def twice(function: Callable[..., Any]) -> Callable[..., Any]:
    """Do a thing two times."""

    def both(*arguments: Any, **options: Any) -> Any:
        function(*arguments, **options)
        return function(*arguments, **options)

    return both


# BUNDLE-001


def reader_skips_checksums() -> None:
    from ptycho_core.bundle import read

    read._content = lambda container, manifest, name: container.read(name)


def reader_takes_extra_members() -> None:
    from ptycho_core.bundle import read

    read.check_members = nothing


def reader_takes_newer_versions() -> None:
    from ptycho_core.bundle import manifest

    manifest.check_version = nothing


def reader_takes_any_name() -> None:
    from ptycho_core.bundle import container, read

    container.refuse_dangerous_names = nothing
    read.check_members = nothing


# CONFIG-001


def dispatcher_without_the_registry() -> None:
    from ptycho_dispatch import dispatcher

    dispatcher.run_cdi_example_with_backend.__kwdefaults__["update_registry"] = nothing


def command_without_the_registry() -> None:
    from ptycho_dispatch import dispatcher

    dispatcher.prepare.__kwdefaults__["update_registry"] = nothing


def failing_update_leaves_keys() -> None:
    from ptycho_config import legacy

    legacy._restore = nothing


# CONFIG-002


def execution_copied_into_the_registry() -> None:
    from ptycho_config.legacy import update_legacy_dict
    from ptycho_dispatch import dispatcher

    def with_execution(registry: Any, config: Any) -> None:
        update_legacy_dict(registry, config)
        registry["num_workers"] = 3

    dispatcher.run_cdi_example_with_backend.__kwdefaults__["update_registry"] = with_execution


def registry_takes_anything() -> None:
    from ptycho_config import legacy

    legacy._refuse_what_is_not_canonical = nothing


def training_takes_an_accelerator() -> None:
    from ptycho_config.models import TrainingConfig

    TrainingConfig.model_config["extra"] = "ignore"
    TrainingConfig.model_rebuild(force=True)


# CONFIG-LOGGER-001


def no_logger_by_default() -> None:
    from ptycho_config.execution import PyTorchExecutionConfig

    PyTorchExecutionConfig.model_fields["logger_backend"].default = None
    PyTorchExecutionConfig.model_rebuild(force=True)


def dispatcher_chooses_no_logger() -> None:
    from ptycho_config.execution import PyTorchExecutionConfig
    from ptycho_dispatch import dispatcher

    dispatcher.prepare.__kwdefaults__["defaults"] = lambda: PyTorchExecutionConfig(logger_backend=None)


def core_writes_no_csv() -> None:
    from ptycho_core_torch import trainer

    trainer._logger = lambda execution, directory: False


def tensorflow_core_writes_no_csv() -> None:
    from ptycho_core_tf import training

    training.metric_loggers = lambda execution, directory: []


# DATA-001


def door_takes_metres() -> None:
    from ptycho_core.io import frame_values as values

    values.LARGEST_EXTENT_IN_METRES = 0.0


def corner_taken_for_the_centre() -> None:
    from ptycho_core.io import checked_scan

    checked_scan.find_dc = lambda pattern: ("center", "the sabotage says so")
    checked_scan.probe_likeness = lambda probe, pattern, good: (1.0, 0.0)


def counts_taken_for_amplitude() -> None:
    from ptycho_core import scan

    scan.Scan.amplitude = scan.Scan.counts


# DATA-SUP-001


def labels_are_not_asked_for() -> None:
    from ptycho_core.learning import recipe as labels

    labels.needs_truth = lambda config, scans: False


def cores_ask_for_no_labels() -> None:
    from ptycho_core.learning import prepare as run

    run.needs_truth = lambda config, scans: False


# EXEC-ACCUM-001, EXEC-ACCUM-002, TRAIN-COLLAPSE-001


def manual_guard_always_allows() -> None:
    from ptycho_config import guards

    guards.accumulation_allowed = lambda automatic, accum_steps: True


def epoch_guard_always_allows() -> None:
    from ptycho_config import guards

    guards.accumulation_fits = lambda accum_steps, n_batches: True


def collapse_guard_always_allows() -> None:
    from ptycho_config import guards

    guards.check_collapse = nothing


def core_asks_no_guard() -> None:
    from ptycho_core_torch import training

    training.guards = SimpleNamespace(check_accumulation=nothing, check_accumulation_fits=nothing)


def core_sees_no_collapse() -> None:
    from ptycho_core_torch.lightning_module import PtychoLightning

    PtychoLightning.check_collapse = nothing


def tensorflow_core_sees_no_collapse() -> None:
    from ptycho_core_tf.keras_model import PtychoKeras

    PtychoKeras.check_collapse = nothing


# FORMAT-001


def transposition_is_silent() -> None:
    from ptycho_core.io import checked_scan

    checked_scan.warn_of_the_frame_axis = nothing


def transposition_is_said_twice() -> None:
    from ptycho_core.io import checked_scan

    checked_scan.warn_of_the_frame_axis = twice(checked_scan.warn_of_the_frame_axis)


# NORMALIZATION-001


def squares_wrap() -> None:
    from ptycho_core.physics import normalisation

    normalisation.counts_from_amplitude = lambda amplitude: amplitude**2


def photons_not_rooted() -> None:
    from ptycho_core.physics import normalisation

    normalisation.intensity_scale = lambda nphotons, n: nphotons / (n / 2)


# OVERSAMPLING-001


def groups_without_the_opt_in() -> None:
    from ptycho_core.scan import grouping

    grouping._check_oversampling = nothing


# POLICY-001


def explicit_gpu_becomes_the_cpu() -> None:
    from ptycho_config import hardware

    real = hardware.resolve_accelerator

    def rewriting(requested: str, *, cuda_available: bool, why_not: str = "") -> hardware.Resolution:
        resolution = real(requested, cuda_available=cuda_available, why_not=why_not)
        return resolution if requested != "cuda" or cuda_available else resolution._replace(resolved="cpu")

    hardware.resolve_accelerator = rewriting


def fallback_is_silent() -> None:
    from ptycho_config import hardware

    hardware.announce = nothing


def fallback_is_said_twice() -> None:
    from ptycho_config import hardware

    hardware.announce = twice(hardware.announce)


def auto_is_the_cpu() -> None:
    from ptycho_config import hardware

    real = hardware.resolve_accelerator
    hardware.resolve_accelerator = lambda requested, *, cuda_available, why_not="": real(
        requested, cuda_available=False, why_not=why_not
    )


def absent_gpu_is_ignored() -> None:
    from ptycho_config import hardware

    hardware.require_accelerator = nothing


def core_looks_for_no_gpu() -> None:
    from ptycho_core_torch.backend import PyTorchBackend

    PyTorchBackend._check = nothing


def tensorflow_core_looks_for_the_gpu_later() -> None:
    from ptycho_core_tf.backend import TensorFlowBackend

    TensorFlowBackend._checked = lambda self, execution: execution


def tensorflow_core_falls_back_silently() -> None:
    from ptycho_config import hardware
    from ptycho_core_tf import devices

    devices.hardware = SimpleNamespace(**{**vars(hardware), "announce": nothing})


def dispatcher_is_silent() -> None:
    from ptycho_dispatch import dispatcher

    dispatcher.logger = logging.getLogger("nowhere")


def solver_takes_the_cpu_instead() -> None:
    from ptycho_core.solver import device

    real = device._resolve
    device._resolve = lambda arrays, accelerator: real(
        arrays, "cpu" if accelerator in ("cuda", "gpu") else accelerator
    )
