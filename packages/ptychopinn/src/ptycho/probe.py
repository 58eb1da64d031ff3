"""`ptycho.probe` under its legacy path: the probe in the legacy gauge, kept in the registry."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

import ptycho.params
from ptycho_config.errors import DataError
from ptycho_core import scan_from_arrays
from ptycho_core.physics.normalisation import LEGACY_PROBE_SCALE, default_probe, scale_probe

__all__ = ["get_default_probe", "get_probe", "set_default_probe", "set_probe", "set_probe_guess"]

_LOG = logging.getLogger("ptychopinn")


def set_probe_guess(X_train: Any = None, probe_guess: Any = None) -> np.ndarray:
    """Scale a probe, keep its first mode in the registry as (N, N, 1), and return it as it was.

    Args:
        X_train: amplitudes (G, N, N, C), from which a probe is estimated where none is given.
        probe_guess: (N, N), (N, N, 1) or (P, N, N).
    Raises:
        DataError: the probe has another shape, is not finite, or is 0.
    """
    if probe_guess is None:
        probe_guess = _estimated(X_train)
    probe = np.asarray(probe_guess)
    set_probe(probe)
    return probe


def set_probe(probe: Any) -> None:
    """Keep a probe in the registry, scaled by the legacy gauge.

    Raises:
        See `set_probe_guess`.
    """
    given = np.asarray(probe)
    modes = given[..., 0] if given.ndim == 3 and given.shape[-1] == 1 else given
    if modes.ndim not in (2, 3) or modes.shape[-1] != modes.shape[-2]:
        raise DataError(f"the probe has shape {given.shape}; expected (N, N), (N, N, 1) or (modes, N, N).")
    if not np.isfinite(modes).all():
        raise DataError("the probe holds values that are not finite; give another start probe.")
    divisor = ptycho.params.get("probe_scale", LEGACY_PROBE_SCALE)
    if not divisor > 0:
        _LOG.info("`probe_scale` is %g; the probe is kept divided by %g.", divisor, LEGACY_PROBE_SCALE)
        divisor = LEGACY_PROBE_SCALE
    scaled = scale_probe(modes.astype(np.complex64), "legacy", probe_scale=divisor)
    first = scaled.reshape(-1, *modes.shape[-2:])[0]
    ptycho.params.set("probe", first.astype(np.complex64)[..., None])


def get_probe() -> np.ndarray:
    """Return the probe of the registry, (N, N, 1).

    Raises:
        KeyError: none was set.
    """
    return ptycho.params.get("probe")


def get_default_probe(N: int, fmt: str = "np") -> np.ndarray:
    """Return the synthetic probe (N, N): a slightly blurred disc; `fmt` is ignored."""
    return default_probe(N, default_probe_scale=ptycho.params.get("default_probe_scale")).astype(np.complex64)


def set_default_probe() -> None:
    """Keep the synthetic probe of the registry's `N` in the registry."""
    set_probe(get_default_probe(ptycho.params.get("N")))


def _estimated(X_train: Any) -> np.ndarray:
    """Estimate a probe from amplitudes as the door does for files without one."""

    if X_train is None:
        raise DataError("there is neither a probe nor frames to estimate one from; give `probe_guess`.")
    frames = np.moveaxis(np.asarray(X_train), -1, 1).reshape(-1, *np.shape(X_train)[1:3])
    # Where the frames were taken is not known here, and hardly matters: the speckle tells the width.
    positions = np.column_stack([np.zeros(len(frames)), np.arange(len(frames), dtype=np.float64)])
    scan = scan_from_arrays(frames, positions, measurement="amplitude", dc="center", bad_frames="off")
    return scan.probe[0]
