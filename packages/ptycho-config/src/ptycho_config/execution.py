"""Where and how fast to run: one model per core, and one for the solver.

Nothing here says what is computed, and nothing here enters the legacy registry or a canonical config
(CONFIG-002). `gradient_clip_val`, `gradient_clip_algorithm` and `scheduler` also stand in TrainingConfig;
the value here wins where it was chosen.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ptycho_config import hardware
from ptycho_config.hardware import Accelerator, Resolution
from ptycho_config.models.base import Config
from ptycho_config.values import (
    SWITCH,
    WHOLE,
    Indices,
    NonNegativeInteger,
    NonNegativeNumber,
    PositiveInteger,
    PositiveNumber,
    Scheduler,
)

__all__ = [
    "EXECUTION",
    "SHARED_WITH_TRAINING",
    "ExecutionConfig",
    "InferenceExecution",
    "NetworkExecution",
    "PyTorchExecutionConfig",
    "RuntimeExecutionConfig",
    "SolverExecutionConfig",
    "TensorFlowExecutionConfig",
    "UnresolvedPyTorchExecution",
]

SHARED_WITH_TRAINING = ("gradient_clip_val", "gradient_clip_algorithm", "scheduler")
"""The only names that an execution config and TrainingConfig have in common."""


def _none(value: object) -> object:
    return None if value == "none" else value


Devices = PositiveInteger | Literal["auto"]
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
Logger = Annotated[Literal["csv", "tensorboard", "mlflow"] | None, BeforeValidator(_none)]


class ExecutionConfig(Config):
    """Settings that say where and how fast to run; what to compute is not among them (CONFIG-002)."""


class UnresolvedPyTorchExecution(ExecutionConfig):
    """How the PyTorch core shall run, as it was asked for: `auto` stays `auto`.

    Commands read this first, since another core may be the one that runs: looking for a GPU costs the import
    of PyTorch, and a warning where there is none. `PyTorchExecutionConfig.of` resolves it.
    """

    accelerator: Accelerator = Field(
        default="auto", description="processor; auto takes CUDA where it is available, else the CPU"
    )
    devices: Devices = Field(default=1, description="number of devices, or auto for all")
    num_nodes: PositiveInteger = Field(default=1, description="number of machines")
    strategy: str = Field(default="auto", description="how work is shared, by Lightning's names")
    deterministic: bool | Literal["warn"] = Field(
        default=True, description="same seed, same result: true, false, or warn where it cannot be kept"
    )
    precision: Precision = Field(default="32-true", description="floating-point format")
    gradient_clip_val: NonNegativeNumber | None = Field(
        default=None, description="gradients are clipped at this value; never when not given"
    )
    gradient_clip_algorithm: Literal["norm", "value", "agc"] = Field(
        default="norm", description="what is clipped"
    )
    accum_steps: PositiveInteger = Field(default=1, description="batches added up before each step")
    num_workers: NonNegativeInteger = Field(default=0, description="processes that load data")
    pin_memory: bool = Field(default=False, description="page-lock the batches on their way to the GPU")
    persistent_workers: bool = Field(
        default=False, description="keep the loading processes between epochs (needs num_workers > 0)"
    )
    prefetch_factor: PositiveInteger | None = Field(
        default=None, description="batches each process loads ahead"
    )
    learning_rate: PositiveNumber = Field(default=1e-3, description="first learning rate")
    scheduler: Scheduler = Field(default="Default", description="course of the learning rate")
    enable_progress_bar: bool = Field(
        default=False, description="draw a progress bar; a terminal turns it on by itself"
    )
    enable_checkpointing: bool = Field(default=True, description="keep checkpoints")
    checkpoint_save_top_k: Annotated[int, Field(ge=-1), WHOLE] = Field(
        default=1, description="best checkpoints kept, -1 = all"
    )
    checkpoint_monitor_metric: str = Field(default="val_loss", description="metric that ranks checkpoints")
    checkpoint_mode: Literal["min", "max"] = Field(default="min", description="which end of it is better")
    recon_log_every_n_epochs: PositiveInteger | None = Field(
        default=None, description="epochs between logged pictures; never when not given"
    )
    recon_log_num_patches: PositiveInteger = Field(default=4, description="patches in each picture")
    recon_log_fixed_indices: Indices | None = Field(
        default=None, description="frames shown, such as 0,5,9; spread over the scan when not given"
    )
    recon_log_stitch: bool = Field(default=False, description="log the joined object as well")
    recon_log_max_stitch_samples: PositiveInteger | None = Field(
        default=None, description="frames joined for it; all when not given"
    )
    early_stop_patience: PositiveInteger = Field(
        default=100, description="epochs without gain before training stops"
    )
    logger_backend: Logger = Field(
        default="csv", description="where metrics go: csv, tensorboard, mlflow or none (CONFIG-LOGGER-001)"
    )
    inference_batch_size: PositiveInteger | None = Field(
        default=None, description="frames per inference step; the training's batch size when not given"
    )
    middle_trim: NonNegativeInteger = Field(
        default=0, description="side in px of the middle part of a patch that is joined, 0 = all"
    )
    pad_eval: bool = Field(default=False, description="pad the last batch of an inference")

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.persistent_workers and self.num_workers == 0:
            raise ValueError("`persistent_workers` needs `num_workers` > 0, found 0")
        return self


class PyTorchExecutionConfig(UnresolvedPyTorchExecution):
    """How the PyTorch core runs.

    Construction turns `accelerator="auto"` into `cuda` or `cpu` (with one POLICY-001 warning) and records
    `resolution`. A copy, a pickle or a JSON round trip of the result asks and warns no more.

    Example:
        >>> PyTorchExecutionConfig(accelerator="cpu").resolution.reason
        'chosen explicitly'
    """

    derived_fields = frozenset({"resolution"})

    resolution: Resolution | None = Field(
        default=None, description="what `accelerator` was, what it became, and why", repr=False
    )

    @classmethod
    def of(cls, asked: UnresolvedPyTorchExecution) -> Self:
        """Resolve what was asked for; what was not chosen stays not chosen."""
        return cls.model_validate({name: getattr(asked, name) for name in asked.model_fields_set})

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a checked value; a newly chosen accelerator forgets how the former one came about."""
        former = self.resolution
        if name == "accelerator":
            self._set_unchecked("resolution", None)
        try:
            super().__setattr__(name, value)
        except Exception:
            self._set_unchecked("resolution", former)
            raise

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        """Ask the hardware about `auto`; a resolution that comes along with its accelerator is kept."""
        known = self.resolution
        if known is not None and self.accelerator in (known.requested, known.resolved):
            self._set_unchecked("accelerator", known.resolved)
            return self
        available = self.accelerator == "auto" and hardware.cuda_available()
        why_not = "" if hardware.torch_installed() else "torch is not installed"
        resolution = hardware.resolve_accelerator(self.accelerator, cuda_available=available, why_not=why_not)
        self._set_unchecked("accelerator", resolution.resolved)
        self._set_unchecked("resolution", resolution)
        hardware.announce(resolution, stacklevel=3)
        return self

    @model_serializer(mode="wrap")
    def _keep_resolution(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        """Write the resolution even where unset fields are left out: reading must not resolve again."""
        written: dict[str, Any] = handler(self)
        if (info.exclude_unset or info.exclude_defaults) and self.resolution is not None:
            written["resolution"] = list(self.resolution)
        return written


class TensorFlowExecutionConfig(ExecutionConfig):
    """How the TensorFlow core runs; it resolves `auto` itself, at its start."""

    accelerator: Accelerator = Field(
        default="auto", description="processor; auto takes CUDA where it is available, else the CPU"
    )
    devices: Devices = Field(default=1, description="number of devices, or auto for all")
    strategy: Literal["auto", "mirrored"] = Field(default="auto", description="how work is shared")
    deterministic: bool = Field(default=True, description="same seed, same result")
    precision: Precision = Field(default="32-true", description="floating-point format")
    jit_compile: bool | Literal["auto"] = Field(
        default="auto", description="compile with XLA: true, false, or auto where it helps"
    )
    learning_rate: PositiveNumber = Field(default=1e-3, description="first learning rate")
    logger_backend: Logger = Field(
        default="csv", description="where metrics go: csv, tensorboard, mlflow or none (CONFIG-LOGGER-001)"
    )
    enable_checkpointing: bool = Field(default=True, description="keep checkpoints")
    checkpoint_save_top_k: Annotated[int, Field(ge=-1), WHOLE] = Field(
        default=1, description="best checkpoints kept, -1 = all"
    )
    checkpoint_monitor_metric: str = Field(default="val_loss", description="metric that ranks checkpoints")
    checkpoint_mode: Literal["min", "max"] = Field(default="min", description="which end of it is better")
    early_stop_patience: PositiveInteger = Field(
        default=100, description="epochs without gain before training stops"
    )
    inference_batch_size: PositiveInteger | None = Field(
        default=None, description="frames per inference step; the training's batch size when not given"
    )


class SolverExecutionConfig(ExecutionConfig):
    """How the solver runs. On a CPU `arrays="auto"` is NumPy; torch is asked only beside an NVIDIA driver."""

    arrays: Literal["auto", "numpy", "torch"] = Field(
        default="auto", description="array library; auto takes torch where it sees a GPU, else NumPy"
    )
    accelerator: Accelerator = Field(
        default="auto", description="processor; auto takes CUDA where it is available, else the CPU"
    )
    kernel: Literal["auto", "off", "required", "wheel", "compiled"] = Field(
        default="auto",
        description="the solver's step as compiled code on a CPU: auto takes the wheel's, or one compiled "
        "where a C compiler is found; wheel and compiled insist on the one, required on either",
    )
    threads: PositiveInteger | None = Field(
        default=None, description="threads on the CPU; as many as it has cores when not given"
    )
    mpi: Annotated[Literal["auto", "frames", "scans", "off"], SWITCH] = Field(
        default="auto",
        description="what the tasks of srun or mpiexec share: the frames of a scan, or whole scans; auto "
        "takes scans where several are given; off works in one task",
    )


class RuntimeExecutionConfig(ExecutionConfig):
    """How a runtime runs a network that was exported; always on the CPU."""

    threads: PositiveInteger | None = Field(
        default=None, description="threads; as many as there are cores when not given"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="floating-point format; bfloat16 with OpenVINO, on processors that compute in it",
    )
    inference_batch_size: PositiveInteger | None = Field(
        default=None, description="frames per step; 32 when not given"
    )


NetworkExecution = PyTorchExecutionConfig | TensorFlowExecutionConfig
"""How a core that trains networks runs."""

InferenceExecution = NetworkExecution | RuntimeExecutionConfig
"""How a trained network runs: in a core, or in a runtime."""

EXECUTION: tuple[type[ExecutionConfig], ...] = (
    SolverExecutionConfig,
    PyTorchExecutionConfig,
    TensorFlowExecutionConfig,
    RuntimeExecutionConfig,
)
"""Where and how fast to run; none of their fields is a canonical one but `SHARED_WITH_TRAINING`."""
