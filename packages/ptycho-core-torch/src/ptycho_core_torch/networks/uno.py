"""The U-shaped neural operator of the `neuraloperator` package, an optional extra.

The weights keep the package's own names, under `operator`; no other core reads them.

Source: M. A. Rahman, Z. E. Ross and K. Azizzadenesheli, TMLR (2023), arXiv:2204.11127.
"""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from typing import Any

from jaxtyping import Complex64, Float32

import torch
from ptycho_config.errors import BackendUnavailableError, ConfigError
from ptycho_config.models import ModelConfig
from torch import Tensor, nn

__all__ = ["Uno"]

_FRAME_PX = 128
_OUT_CHANNELS = (32, 64, 64, 32)
_SCALINGS = (1.0, 0.5, 1.0, 2.0)
_MODES = 12


class Uno(nn.Module):
    """Maps unit amplitude (B, 1, 128, 128), DC in the centre, to complex object patches of the same size.

    Raises:
        ConfigError: `N` is not 128, `gridsize` not 1, or `generator_output_mode` not `real_imag`.
        BackendUnavailableError: the package is not installed.
    """

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        _check(model)
        operator = _operator_class()
        # The constructor of neuraloperator 2.0.0 prints its arguments; goes when that version is gone.
        with redirect_stdout(io.StringIO()):
            self.operator = operator(
                in_channels=1,
                out_channels=2,
                hidden_channels=32,
                lifting_channels=128,
                projection_channels=128,
                positional_embedding="grid",
                n_layers=len(_OUT_CHANNELS),
                uno_out_channels=list(_OUT_CHANNELS),
                uno_n_modes=[[_MODES, _MODES] for _ in _OUT_CHANNELS],
                uno_scalings=[[scaling, scaling] for scaling in _SCALINGS],
                fno_skip="linear",
                horizontal_skip="linear",
                channel_mlp_skip="linear",
            )

    def forward(
        self, amplitude_unit: Float32[Tensor, "group 1 128 128"]
    ) -> Complex64[Tensor, "group 1 128 128"]:
        """Return the object patches of frames."""
        real, imaginary = self.operator(amplitude_unit).float().chunk(2, dim=1)
        return torch.complex(real, imaginary)


def _check(model: ModelConfig) -> None:
    wanted = {"N": _FRAME_PX, "gridsize": 1, "generator_output_mode": "real_imag"}
    wrong = [f"`{name}` is {getattr(model, name)}" for name in wanted if getattr(model, name) != wanted[name]]
    if wrong:
        raise ConfigError(
            f"`architecture` is `neuralop_uno`, and {', '.join(wrong)}. It needs N 128, gridsize 1 and "
            "generator_output_mode real_imag; `fno` takes any of them."
        )


def _operator_class() -> Any:  # a class of an untyped package
    try:
        with warnings.catch_warnings():
            # Importing the package changes the process's warning filters and warns itself.
            warnings.simplefilter("ignore")
            from neuralop.models import UNO  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise BackendUnavailableError(
            f"`architecture` is `neuralop_uno`, whose package `neuraloperator` cannot be imported ({error}). "
            "Install it with `pip install 'ptycho-core-torch[uno]'`, or choose `fno`."
        ) from error
    return UNO
