"""Networks that were exported, run on the CPU by ONNX Runtime or OpenVINO, without PyTorch and TensorFlow.

`load_exported` opens what `ptycho export` wrote; what it gives images scans as the network of a core does.
The runtimes are the extras `onnx` and `openvino`, and are imported when one is used.
"""

from ptycho_core.runtimes.exported import ExportedNetwork, find_exported, load_exported
from ptycho_core.runtimes.sessions import RUNTIMES, Session, open_session, require_runtime

__all__ = [
    "RUNTIMES",
    "ExportedNetwork",
    "Session",
    "find_exported",
    "load_exported",
    "open_session",
    "require_runtime",
]
