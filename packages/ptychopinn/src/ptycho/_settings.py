"""From the settings of an older program to those that a core is trained with.

A value that equals the client's own default is one that was not chosen, and ours holds instead; any other is
taken as it is. Settings that would give nonsense are refused here, before any data are read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from ptycho_config.errors import ConfigError
from ptycho_config.models import InferenceConfig, ModelConfig, TrainingConfig
from ptycho_config.values import parse_duration

__all__ = [
    "BACKEND_VARIABLE",
    "DEFAULT_SECONDS",
    "TIME_VARIABLE",
    "backend_of",
    "time_budget",
    "training_settings",
]

BACKEND_VARIABLE: Final = "PTYCHO_BACKEND"
TIME_VARIABLE: Final = "PTYCHO_MAX_TIME"
BACKENDS: Final = ("pytorch", "tensorflow")
DEFAULT_SECONDS: Final = 150.0
"""Where the epochs were not chosen, training ends after this time at the latest."""
DEFAULT_EPOCHS: Final = 50

#: What the client sends unless its user changes it (`docs/reference/legacy.md`).
_MODEL_DEFAULTS: Final = {
    "n_filters_scale": 2,
    "amp_activation": "sigmoid",
    "object_big": True,
    "probe_big": True,
    "probe_mask": False,
    "pad_object": True,
    "probe_scale": 4.0,
    "gaussian_smoothing_sigma": 0.0,
    "model_type": "pinn",
}
_TRAINING_DEFAULTS: Final = {
    "mae_weight": 0.0,
    "nll_weight": 1.0,
    "realspace_mae_weight": 0.0,
    "realspace_weight": 0.0,
    "nphotons": 1e6,
    "positions_provided": True,
    "probe_trainable": False,
    "intensity_scale_trainable": True,
}
#: What is said elsewhere, or not to a core.
_NOT_FOR_A_CORE: Final = frozenset(
    {"model", "backend", "train_data_file", "test_data_file", "output_dir", "n_images"}
)


def training_settings(
    config: TrainingConfig, log: logging.Logger, *, counts: bool, environment: Mapping[str, str] = os.environ
) -> TrainingConfig:
    """Return the settings that a core is trained with.

    Args:
        counts: the frames hold counts, which alone say how many photons there were.
    Raises:
        ConfigError: every term of the loss is switched off, or a value is none that a core can use.
    """
    fields = _chosen(config, _TRAINING_DEFAULTS, _NOT_FOR_A_CORE)
    model = _chosen(config.model, _MODEL_DEFAULTS, frozenset())
    if model.get("probe_scale") == 0:
        del model["probe_scale"]
        log.info("`probe_scale` is 0: the probe is not divided, which is how it is kept anyway.")
    _settle_photons(fields, log, counts=counts)
    _settle_loss(config, fields)
    # Kept although it may be the default: 50 epochs are the end of a run that is quicker than its time.
    fields["nepochs"] = config.nepochs
    if config.max_time is None:
        budget = time_budget(config.nepochs, log, environment)
        fields |= {} if budget is None else {"max_time": budget}
    fields.setdefault("seed", 0)
    fields["model"] = ModelConfig(**model)
    return TrainingConfig(**fields)


def time_budget(
    n_epochs: int, log: logging.Logger, environment: Mapping[str, str] = os.environ
) -> float | None:
    """Return after how many seconds training ends: by the environment, or where the epochs were not chosen.

    Raises:
        ConfigError: the variable holds no duration.
    """
    said = environment.get(TIME_VARIABLE, "").strip()
    if said:
        if said.lower() == "none":
            return None
        try:
            seconds = float(parse_duration(said))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            raise ConfigError(
                f"`{TIME_VARIABLE}` is {said!r}; expected a duration such as 90s or 3m, or none."
            )
        log.info("Training ends after %.0f s at the latest (%s).", seconds, TIME_VARIABLE)
        return seconds
    if n_epochs != DEFAULT_EPOCHS:
        return None
    log.info(
        "Training ends after %d epochs or %.0f s, whichever comes first; another number of epochs is trained "
        "to its end, and %s sets another time.",
        n_epochs,
        DEFAULT_SECONDS,
        TIME_VARIABLE,
    )
    return DEFAULT_SECONDS


def backend_of(
    config: TrainingConfig | InferenceConfig | None,
    log: logging.Logger,
    *,
    default: str = "tensorflow",
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Return the backend: the one chosen in the configuration, that of the environment, or the default.

    Raises:
        ConfigError: the environment names no backend.
    """
    if config is not None and "backend" in config.model_fields_set and config.backend is not None:
        return config.backend
    said = environment.get(BACKEND_VARIABLE, "").strip().lower()
    if not said:
        return default
    if said not in BACKENDS:
        raise ConfigError(f"`{BACKEND_VARIABLE}` is {said!r}; expected one of {', '.join(BACKENDS)}.")
    log.info("Backend `%s`, as %s says.", said, BACKEND_VARIABLE)
    return said


def _chosen(config: Any, defaults: Mapping[str, object], without: frozenset[str]) -> dict[str, Any]:
    """Return the settings that were chosen: given, and other than the client's default."""
    return {
        name: value
        for name in config.model_fields_set - without
        if (value := getattr(config, name)) is not None and (name not in defaults or value != defaults[name])
    }


def _settle_photons(fields: dict[str, Any], log: logging.Logger, *, counts: bool) -> None:
    """Let counts speak for themselves; a number of photons scales amplitudes alone."""
    given = fields.get("nphotons")
    if given is None:
        return
    if counts or given == 0:
        del fields["nphotons"]
        reason = "the frames hold counts, which say it themselves" if counts else "it is measured instead"
        log.info("`nphotons` %g is not used: %s.", given, reason)


def _settle_loss(config: TrainingConfig, fields: dict[str, Any]) -> None:
    """Choose the term on the detector by the weights.

    Raises:
        ConfigError: all terms have weight 0, or a real-space term of the labels has no weight to work by.
    """
    if config.model.model_type == "pinn" and not (config.nll_weight or config.mae_weight):
        raise ConfigError(
            "`nll_weight` and `mae_weight` are both 0, so there is nothing to learn from the diffraction. "
            "Set one of them above 0; the client's default is `nll_weight` 1."
        )
    if config.realspace_mae_weight and not config.realspace_weight:
        raise ConfigError(
            f"`realspace_mae_weight` is {config.realspace_mae_weight:g} and `realspace_weight` 0, which "
            "switches it off. Set `realspace_weight` above 0, or both to 0."
        )
    if "torch_loss_mode" not in config.model_fields_set and config.mae_weight > config.nll_weight:
        fields["torch_loss_mode"] = "mae"
