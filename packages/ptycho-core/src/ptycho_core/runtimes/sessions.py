"""The runtimes: each takes the bytes of an ONNX file and gives a function from frames to patches."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from ptycho_config.errors import BackendUnavailableError, ConfigError
from ptycho_config.execution import RuntimeExecutionConfig
from ptycho_core.bundle.refusal import EXPORT_AGAIN, refused
from ptycho_core.cores import usable_cores

__all__ = ["RUNTIMES", "Runtime", "Session", "open_session", "require_runtime"]

Runtime = Literal["onnx", "openvino"]

#: Runtime -> its package, and how people call it.
RUNTIMES: Mapping[str, tuple[str, str]] = {
    "onnx": ("onnxruntime", "ONNX Runtime"),
    "openvino": ("openvino", "OpenVINO"),
}
_OUTPUT = 0
#: OpenVINO works on as many parts of a batch at a time, at most.
_STREAMS = 4
#: ONNX Runtime says what is an error, and no more.
_ERRORS_ONLY = 3


@runtime_checkable
class Session(Protocol):
    """A network that is loaded, and the runtime's version."""

    version: str

    def patches(
        self, counts: Float32[np.ndarray, "frame n n"], mean_counts: float
    ) -> Float32[np.ndarray, "frame 2 n n"]:
        """Give real and imaginary part of the object patches.

        Args:
            counts: of each pixel, 0 where the detector does not work; zero frequency in the centre.
            mean_counts: sum over the pixels of a frame, mean over the frames of the scan.
        """
        ...


def require_runtime(name: str) -> None:
    """Refuse a runtime that is not installed.

    Raises:
        BackendUnavailableError: with the command that installs it.
    """
    package, title = RUNTIMES[name]
    if importlib.util.find_spec(package) is None:
        raise BackendUnavailableError(
            f"`--runtime {name}` needs {title} (the package `{package}`), which is not installed. Install "
            f"it: pip install 'ptycho-dispatch[{name}]'."
        )


def open_session(
    name: str,
    content: bytes,
    execution: RuntimeExecutionConfig,
    *,
    source: str,
    constants: Mapping[str, np.ndarray] | None = None,
) -> Session:
    """Load a network.

    Args:
        name: of the runtime, one of `RUNTIMES`.
        content: an ONNX file.
        source: how messages call it.
        constants: what the graph shall hold in place of its own constants of these names.
    Raises:
        BackendUnavailableError: the runtime is not installed.
        BundleError: the runtime cannot take the file.
        ConfigError: the runtime, or the processor, does not compute in the precision.
    """
    require_runtime(name)
    opened = _OnnxRuntime if name == "onnx" else _OpenVino
    return opened(content, execution, source, constants or {})


class _OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(
        self,
        content: bytes,
        execution: RuntimeExecutionConfig,
        source: str,
        constants: Mapping[str, np.ndarray],
    ) -> None:
        if execution.precision != "float32":
            raise ConfigError(
                f"`--runtime-precision {execution.precision}`: ONNX Runtime computes this network in float32 "
                "on CPUs. Leave it out, or use `--runtime openvino`."
            )
        import onnxruntime  # pyright: ignore[reportMissingImports]

        self.version = str(onnxruntime.__version__)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = execution.threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # The session does not copy them.
        self._constants = {
            key: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            for key, array in constants.items()
        }
        for key, value in self._constants.items():
            options.add_initializer(key, value)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # each of its errors has a class of its own
            raise _not_taken(source, "ONNX Runtime", error) from error

    def patches(
        self, counts: Float32[np.ndarray, "frame n n"], mean_counts: float
    ) -> Float32[np.ndarray, "frame 2 n n"]:
        return self._session.run(None, _inputs(counts, mean_counts))[_OUTPUT]


class _OpenVino:
    """OpenVINO on the CPU."""

    def __init__(
        self,
        content: bytes,
        execution: RuntimeExecutionConfig,
        source: str,
        constants: Mapping[str, np.ndarray],
    ) -> None:
        import openvino  # pyright: ignore[reportMissingImports]

        self.version = str(openvino.__version__).split("-")[0]
        core: Any = openvino.Core()
        half = execution.precision == "bfloat16"
        if half and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ConfigError(
                "`--runtime-precision bfloat16`: this processor does not compute in it. Leave it out."
            )
        threads = execution.threads or usable_cores()
        streams = min(threads, _STREAMS)
        told = {
            "INFERENCE_NUM_THREADS": threads,
            # Streams that never wait for each other are done sooner than threads that share every layer.
            "NUM_STREAMS": streams,
            # Threads that are bound to a core wait for whatever else runs there.
            "ENABLE_CPU_PINNING": False,
            # By itself it takes half precision where the processor has it.
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        }
        try:
            model = core.read_model(io.BytesIO(content))
            _replace_constants(model, constants)
            compiled = core.compile_model(model, "CPU", told)
            self._requests = [compiled.create_infer_request() for _ in range(streams)]
        except Exception as error:  # of its own classes, which differ from release to release
            raise _not_taken(source, "OpenVINO", error) from error

    def patches(
        self, counts: Float32[np.ndarray, "frame n n"], mean_counts: float
    ) -> Float32[np.ndarray, "frame 2 n n"]:
        parts = np.array_split(counts, min(len(self._requests), len(counts)))
        asked = self._requests[: len(parts)]
        for request, part in zip(asked, parts, strict=True):
            request.start_async(_inputs(part, mean_counts))
        for request in asked:
            request.wait()
        # A copy: their own memory holds the next answers.
        return np.concatenate([request.get_output_tensor(_OUTPUT).data for request in asked])


def _inputs(counts: np.ndarray, mean_counts: float) -> dict[str, np.ndarray]:
    """Name what the graph takes."""
    return {"counts": counts, "mean_counts": np.array([mean_counts], np.float32)}


def _replace_constants(model: Any, constants: Mapping[str, np.ndarray]) -> None:
    """Put arrays in the place of a model's constants.

    Raises:
        ValueError: it has none of that name.
    """
    import openvino  # pyright: ignore[reportMissingImports]

    there = {node.get_friendly_name(): node for node in model.get_ops() if node.get_type_name() == "Constant"}
    for key, array in constants.items():
        if key not in there:
            raise ValueError(f"there is no constant `{key}`")
        new = openvino.op.Constant(np.ascontiguousarray(array))
        there[key].output(0).replace(new.output(0))


def _not_taken(source: str, title: str, error: Exception) -> Exception:
    """Make the error for a file that a runtime cannot take; what memory lacks is told as that."""
    if isinstance(error, MemoryError):
        return error
    said = " ".join(str(error).split())
    return refused(source, f"{title} cannot take it ({said})", "a network that it knows", EXPORT_AGAIN)
