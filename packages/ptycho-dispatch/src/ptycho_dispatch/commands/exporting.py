"""`ptycho export`: a trained network as one ONNX file, which runs without PyTorch and TensorFlow."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Literal

from pydantic import Field

from ptycho_config.errors import BackendUnavailableError, ConfigError
from ptycho_config.flags import add_flags, given_flags
from ptycho_config.models import Config
from ptycho_config.sources import load
from ptycho_config.values import FilePath
from ptycho_dispatch.table import print_rows

__all__ = ["EXAMPLES", "ExportConfig", "add_arguments", "run"]

EXAMPLES = (
    "ptycho export trained",
    "ptycho export trained/wts.h5.zip --output star.onnx",
)


class ExportConfig(Config):
    """What to write."""

    format: Literal["onnx"] = Field(default="onnx", description="kind of file")
    output: FilePath | None = Field(
        default=None, description="file to write; network.onnx beside the bundle when not given"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the bundle, and the flags of the model."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="trained network: a bundle or the directory of its run"
    )
    add_flags(parser, ExportConfig)


def run(arguments: argparse.Namespace) -> int:
    """Write the file; it has its name only when its patches are those of the core.

    Raises:
        BackendUnavailableError: PyTorch, or what it needs for this, is not installed.
        BundleError: the bundle is refused, or the file gives other patches.
        ConfigError: the network is one that is not exported, or the file's name is none.
        OutputError: the file cannot be written.
    """
    from ptycho_core.backend import Exporter, require_backend
    from ptycho_core.bundle import BUNDLE_FILE, ONNX_FILE, trained_by
    from ptycho_core.files import expanded, sha256_of

    began = time.perf_counter()
    config = load(ExportConfig, flags=given_flags(arguments), env=os.environ).config
    core = require_backend("pytorch")
    bundle = expanded(arguments.bundle)
    trainer = trained_by(bundle)  # refuses what is no bundle
    place = bundle if bundle.is_dir() else bundle.parent
    output = place / ONNX_FILE if config.output is None else expanded(config.output)
    if output.suffix != ".onnx":
        raise ConfigError(f"`--output {output}` does not end in .onnx. Give a file such as {ONNX_FILE}.")
    if not isinstance(core, Exporter):
        raise BackendUnavailableError(
            "The backend `pytorch` that is installed cannot export networks. Type `pip install --upgrade "
            "'ptycho-dispatch[export]'`."
        )
    file = bundle / BUNDLE_FILE if (bundle / BUNDLE_FILE).is_file() else bundle
    difference = core.export(bundle, output, bundle_sha256=sha256_of(file) if file.is_file() else None)
    rows = [
        ("network", f"{bundle}, trained by {trainer}"),
        ("difference", f"{difference:.1e} at most between a patch of the core and one of the file"),
        ("file", f"{output}, {Path(output).stat().st_size / 1e6:.1f} MB"),
        ("time", f"{time.perf_counter() - began:.1f} s"),
        ("next", f"ptycho infer {output} SCAN"),
    ]
    print_rows("", rows)
    return 0
