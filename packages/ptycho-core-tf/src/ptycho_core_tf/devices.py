"""Where a training or an imaging runs: the device, several of them, precision, and determinism."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from ptycho_config import hardware
from ptycho_config.errors import ConfigError
from ptycho_config.execution import TensorFlowExecutionConfig
from ptycho_config.hardware import Resolution
from ptycho_core_tf.framework import quietly, tf

__all__ = ["FLAG", "Placement", "compute_dtype", "device_in_use", "gpu_available", "jit_compile", "place_run"]

FLAG = "--tensorflow-accelerator"
_HALF = {"32-true": "float32", "16-mixed": "float16", "bf16-mixed": "bfloat16"}


class Placement(NamedTuple):
    """What an execution came to on this host.

    Attributes:
        strategy: in whose scope variables are made and steps are taken.
        device: of a single-device run and of imaging, such as `/CPU:0`.
    """

    strategy: tf.distribute.Strategy
    device: str
    resolution: Resolution

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` says of it: what became of `auto`, and the warning where there was one."""
        fell_back = self.resolution.fell_back
        warned = [str(hardware.fallback_warning(self.resolution, FLAG))] if fell_back else []
        return {"execution": self.resolution._asdict(), "policy_warnings": warned}

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes."""
        return "CPU" not in self.device

    @property
    def n_devices(self) -> int:
        """Number of devices that train together."""
        return int(self.strategy.num_replicas_in_sync)


def gpu_available() -> bool:
    """Ask TensorFlow for a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def place_run(execution: TensorFlowExecutionConfig, *, stacklevel: int = 2) -> Placement:
    """Resolve the accelerator (POLICY-001), choose the devices, and switch determinism on where asked to.

    Determinism is a switch of the whole process that TensorFlow does not let go back.

    Raises:
        ConfigError: a device that TensorFlow does not have, or more devices than there are.
        PolicyError: POLICY-001, a GPU was asked for and there is none.
    """
    if execution.accelerator == "mps":
        raise ConfigError(
            "`accelerator` is 'mps', which the TensorFlow core does not have; the PyTorch core has it: use "
            "`--backend pytorch`."
        )
    available = gpu_available()
    resolution = hardware.resolve_accelerator(
        execution.accelerator, cuda_available=available, why_not="" if available else "TensorFlow sees none"
    )
    hardware.announce(resolution, stacklevel=stacklevel + 1, flag=FLAG)
    hardware.require_accelerator(resolution.resolved, cuda_available=available, flag=FLAG)
    kind = "CPU" if resolution.resolved == "cpu" else "GPU"
    names = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices(kind)]
    wanted = len(names) if execution.devices == "auto" else execution.devices
    if wanted > len(names):
        raise ConfigError(
            f"`--tensorflow-devices {wanted}` and TensorFlow sees {len(names)} of the kind {kind}. "
            f"Use `--tensorflow-devices {len(names)}`."
        )
    if execution.deterministic:
        tf.config.experimental.enable_op_determinism()
    devices = [f"/{name}" for name in names[:wanted]]
    if wanted == 1 and execution.strategy == "auto":
        strategy: tf.distribute.Strategy = tf.distribute.OneDeviceStrategy(devices[0])
    else:
        with quietly():
            strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=_sums_over(kind))
    return Placement(strategy, devices[0], resolution)


def _sums_over(kind: str) -> tf.distribute.CrossDeviceOps:
    """Choose how devices add up their gradients.

    Not the collective operations, which are TensorFlow's own choice: a process that trains a second network
    of other sizes would find the numbers of the first one's still taken.
    """
    return tf.distribute.NcclAllReduce() if kind == "GPU" else tf.distribute.ReductionToOneDevice()


def compute_dtype(execution: TensorFlowExecutionConfig) -> str:
    """Return the number type in which the layers of a network compute."""
    return _HALF[execution.precision]


def jit_compile(execution: TensorFlowExecutionConfig, placement: Placement) -> bool | Literal["auto"]:
    """Say whether XLA compiles the layers of a network: `auto` is yes on a GPU, and on a CPU left to them."""
    return True if execution.jit_compile == "auto" and placement.on_gpu else execution.jit_compile


def device_in_use(placement: Placement) -> str:
    """Say whether there is a GPU, whether this run uses it, and which it is."""
    available, used = gpu_available(), placement.resolution.resolved != "cpu"
    name = ""
    if used:
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        name = f", device {details.get('device_name', placement.device)}"
    return f"GPU available: {available}{' (cuda)' if available else ''}, used: {used}{name}"
