"""Bundles: a trained network and all that is needed to use it, in one file that cannot run code.

`read_onnx` reads the ONNX file of a network that was exported, under the same rules.
"""

from __future__ import annotations

from ptycho_core.bundle.contents import BUNDLE_FILE, Bundle, ProbeMask, Scaling
from ptycho_core.bundle.onnx_file import ONNX_FILE, OnnxModel, encode_onnx, read_onnx
from ptycho_core.bundle.read import read_bundle, trained_by
from ptycho_core.bundle.write import write_bundle

__all__ = [
    "BUNDLE_FILE",
    "ONNX_FILE",
    "Bundle",
    "OnnxModel",
    "ProbeMask",
    "Scaling",
    "encode_onnx",
    "read_bundle",
    "read_onnx",
    "trained_by",
    "write_bundle",
]
