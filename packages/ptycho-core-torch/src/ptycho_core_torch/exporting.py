"""From a trained network to an ONNX file that is one graph: normalisation, probe and network.

    counts (B, N, N) float32        photons of each pixel, 0 where it is bad; zero frequency in the centre
    mean_counts (1) float32         sum over the pixels of a frame, mean over the frames of the scan
    -> patch (B, 2, N, N) float32   real and imaginary part of the object in the window of each frame

The back-projection is products with the matrix of the Fourier transform: a few percent of what the network
computes, and every runtime has them, where complex numbers and transforms are known to few. What is written
was compared with the network, computed in float64, on simulated frames.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import torch
from ptycho_config.errors import BackendUnavailableError, BundleError, ConfigError
from ptycho_config.models import ModelConfig
from ptycho_core.bundle import Bundle, encode_onnx
from ptycho_core.files import atomic_path, make_directory
from ptycho_core.physics.normalisation import unit_factor_from_mean_energy
from ptycho_core.runtimes.back_projection import CONSTANTS, probe_constants
from ptycho_core.runtimes.exported import open_file
from ptycho_core.simulate.objects import make_object
from ptycho_core.simulate.scan import expected_intensity
from ptycho_core_torch.network import Batch, PtychoNetwork
from ptycho_core_torch.trained import TrainedNetwork
from torch import Tensor, nn

__all__ = ["LARGEST_DIFFERENCE", "Deployed", "export_network", "require_exportable", "require_exporter"]

LARGEST_DIFFERENCE = 1e-4
"""Between a patch of the network and one of its file; a transparent object is 1."""
#: The first in which GELU is one operation, which is faster than its parts.
_OPSET = 20
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_ARCHITECTURES = ("unet", "cnn")
#: Batches in which the file is tried: it takes any number of frames, or of groups.
_TRIED = (5, 2)


class Deployed(nn.Module):
    """A network with all that lies between counts and patches, in real numbers."""

    def __init__(self, network: PtychoNetwork) -> None:
        super().__init__()
        self.network = network.network
        self.frame_px = network.model.N
        self.members = 1 if network.by_frame else network.model.gridsize**2
        self.sees_probe = network.model.input_channels == "backprojection"
        if self.sees_probe:
            probe = network.probe.detach().cpu().numpy()
            constants = probe_constants(probe, float(network.back_projection_std))
            for name, array in constants.items():
                self.register_buffer(name, torch.from_numpy(array))
            for name, array in _transform(self.frame_px).items():
                self.register_buffer(name, torch.from_numpy(array))

    def forward(self, counts: Tensor, mean_counts: Tensor) -> Tensor:
        """Return real and imaginary part of the patches (B, 2, N, N)."""
        n = self.frame_px
        amplitude = counts.clamp_min(0).sqrt() * ((n / 2) / mean_counts.sqrt())
        if self.sees_probe:
            seen = torch.stack([amplitude, *self._back_projection(amplitude)], 1)
        else:
            seen = amplitude.view(-1, self.members, n, n)
        patches = torch.view_as_real(self.network(seen).reshape(-1, n, n))
        return torch.stack([patches[..., 0], patches[..., 1]], 1)

    def _back_projection(self, amplitude: Tensor) -> tuple[Tensor, Tensor]:
        direction_real, direction_imag, gain_real, gain_imag, offset = (
            getattr(self, name) for name in CONSTANTS
        )
        real, imag = amplitude * direction_real, amplitude * direction_imag
        real, imag = (
            real @ self.right_real - imag @ self.right_imag,
            real @ self.right_imag + imag @ self.right_real,
        )
        real, imag = (
            self.left_real @ real - self.left_imag @ imag,
            self.left_imag @ real + self.left_real @ imag,
        )
        return real * gain_real - imag * gain_imag - offset, real * gain_imag + imag * gain_real


def _transform(n: int) -> dict[str, np.ndarray]:
    """Give the matrices of the inverse Fourier transform of what has its zero frequency in the centre."""
    index = np.arange(n)
    inverse = np.exp(2j * np.pi * np.outer(index, index) / n) / math.sqrt(n)
    left = np.fft.ifftshift(inverse, axes=1)
    parts = {
        "left_real": left.real,
        "left_imag": left.imag,
        "right_real": left.T.real,
        "right_imag": left.T.imag,
    }
    return {name: np.ascontiguousarray(part, np.float32) for name, part in parts.items()}


def require_exporter() -> None:
    """Refuse where a package is missing that writes or tries the file.

    Raises:
        BackendUnavailableError: with the command that installs it.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendUnavailableError(
            f"Exporting needs {' and '.join(missing)}, not installed here. Install it: pip install "
            "'ptycho-dispatch[export]'."
        )


def require_exportable(model: ModelConfig) -> None:
    """Refuse a network that has no such graph.

    Raises:
        ConfigError: says why.
    """
    if model.architecture not in _ARCHITECTURES:
        raise ConfigError(
            f"A network `{model.architecture}` is not exported: its Fourier layers compute with complex "
            f"numbers, which the runtimes do not. Those that are: {', '.join(_ARCHITECTURES)}."
        )
    if model.unet_passes > 1:
        raise ConfigError(
            f"A network with `unet_passes` {model.unet_passes} is not exported: from the second pass on it "
            "sees the image that all frames agreed on, and a graph has one frame at a time. Train with "
            "`--unet-passes 1`."
        )
    if model.architecture != "unet" and model.gridsize > 1 and not model.object_big:
        raise ConfigError(
            "A network with `object_big` off and groups of several frames is not exported: it gives one "
            "patch for a group. Train with `--object-big true`."
        )


def export_network(trained: TrainedNetwork, path: str | Path, *, bundle_sha256: str | None = None) -> float:
    """Write a network as an ONNX file, after its patches were compared with those of the file.

    Args:
        path: of the file, which appears whole or not at all.
        bundle_sha256: of the bundle that holds the network, by which a runtime tells that both are the same.
    Returns:
        The largest difference of a patch's pixel.
    Raises:
        BackendUnavailableError: a package that is needed is missing.
        BundleError: the file gives other patches than the network.
        ConfigError: the network is one that is not exported.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    require_exporter()
    require_exportable(trained.training.model)
    network = trained.network.to("cpu").eval()
    content = encode_onnx(
        str(path),
        _graph(network),
        _without_weights(trained),
        output_scale=math.exp(network.log_scale.item()),
        back_projection_std=float(network.back_projection_std),
        n_parameters=trained.n_parameters,
        bundle_sha256=bundle_sha256,
    )
    make_directory(path.parent)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        difference = _difference(trained, network, temporary)
        if not difference <= LARGEST_DIFFERENCE:
            raise BundleError(
                f"{path}: the file's patches differ from those of the network by {difference:.2g}, and "
                f"{LARGEST_DIFFERENCE:g} is allowed. Nothing was written. Its weights may be too large; "
                "train again with `ptycho train`."
            )
    return difference


def _without_weights(trained: TrainedNetwork) -> Bundle:
    """Give what a bundle holds besides weights and history."""
    model = trained.training.model
    return Bundle(
        architecture=model.architecture,
        model=model.model_dump(mode="json"),
        training=trained.training.model_dump(mode="json", exclude={"model"}),
        weights={},
        scaling=trained.scaling,
        probe=trained.probe,
        probe_given=trained.probe_given.astype(np.complex64),
        history=(),
        provenance={"backend": "pytorch", **trained.provenance},
    )


def _graph(network: PtychoNetwork) -> bytes:
    """Let PyTorch trace the network and write its graph."""
    import onnx  # pyright: ignore[reportMissingImports]

    deployed = Deployed(network).eval()
    n = network.model.N
    # Not 1, which would be taken for a size that never changes.
    frames = 2 * deployed.members
    groups = torch.export.Dim("groups", min=1)
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            deployed,
            (torch.ones(frames, n, n), torch.ones(1)),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["counts", "mean_counts"],
            output_names=["patch"],
            dynamic_shapes={"counts": {0: deployed.members * groups}, "mean_counts": None},
            verbose=False,
        )
    model = program.model_proto
    _forget_sources(model)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter says of its own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def _forget_sources(model: Any) -> None:
    """Take away what the exporter notes of the program: lines and paths of this host."""
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    model.doc_string = graph.doc_string = ""
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _difference(trained: TrainedNetwork, network: PtychoNetwork, path: Path) -> float:
    """Return the largest difference of a pixel between network and file, in batches of several sizes.

    The network computes in float64: in float32 the rounding of its own back-projection is ten times what the
    file's is, and a file should not be blamed for that.
    """
    exact = copy.deepcopy(network).double()
    session = open_file(path).session
    groups, members = max(_TRIED), trained.group_size
    counts = _simulated_counts(trained, groups * members)
    mean_counts = float(counts.sum(axis=(1, 2)).mean())
    found = []
    for size in _TRIED:
        some = counts[: size * members]
        alpha = unit_factor_from_mean_energy(mean_counts, some.shape[-1])
        unit = torch.from_numpy(np.sqrt(some, dtype=np.float64) * alpha)
        nothing = torch.zeros(len(unit), 2)
        with torch.inference_mode():
            expected = exact.patches(Batch(unit, unit, nothing, nothing)).numpy()
        real_imag = session.patches(some, mean_counts)
        found.append(np.abs(real_imag[:, 0] + 1j * real_imag[:, 1] - expected).max())
    return float(max(found))


def _simulated_counts(trained: TrainedNetwork, frames: int) -> np.ndarray:
    """Simulate frames (B, N, N) of an object through the network's probe, as bright as those it learned."""
    n = trained.training.model.N
    random = np.random.default_rng(0)
    positions = random.uniform(n / 2 + 1, 1.5 * n, (frames, 2))
    obj = make_object("polygons", (2 * n + 4, 2 * n + 4), random)
    expected = expected_intensity(obj, trained.probe, positions)
    expected *= trained.scaling.mean_counts / expected.sum(axis=(1, 2)).mean()
    return random.poisson(expected).astype(np.float32)
