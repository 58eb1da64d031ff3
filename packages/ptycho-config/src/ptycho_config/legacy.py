"""The registry of parameters that older programs read, and the only code that writes it (CONFIG-001).

Configuration flows one way, from a typed config into the registry. No package decides anything by reading it
back. Execution configs never enter it (CONFIG-002).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from ptycho_config.errors import ConfigError, PolicyError
from ptycho_config.execution import ExecutionConfig
from ptycho_config.models import CanonicalConfig, ModelConfig
from ptycho_config.validation import config_error

__all__ = [
    "DATA_SOURCES",
    "DEFAULTS",
    "KEY_MAPPINGS",
    "LegacyParams",
    "legacy_dict",
    "legacy_params",
    "params",
    "update_legacy_dict",
]

_log = logging.getLogger(__name__)

KEY_MAPPINGS: Final = MappingProxyType(
    {
        "object_big": "object.big",
        "probe_big": "probe.big",
        "probe_mask": "probe.mask",
        "probe_trainable": "probe.trainable",
        "intensity_scale_trainable": "intensity_scale.trainable",
        "positions_provided": "positions.provided",
        "output_dir": "output_prefix",
        "train_data_file": "train_data_file_path",
        "test_data_file": "test_data_file_path",
    }
)
"""Name of a config field -> key of the registry; every other field keeps its name."""

DEFAULTS: Final = MappingProxyType(
    {
        "N": 128,
        "offset": 4,
        "gridsize": 2,
        "outer_offset_train": None,
        "outer_offset_test": None,
        "batch_size": 16,
        "nepochs": 60,
        "n_filters_scale": 2,
        "output_prefix": "outputs",
        "big_gridsize": 10,
        "max_position_jitter": 10,
        "sim_jitter_scale": 0.0,
        "default_probe_scale": 0.7,
        "mae_weight": 0.0,
        "nll_weight": 1.0,
        "tv_weight": 0.0,
        "realspace_mae_weight": 0.0,
        "realspace_weight": 0.0,
        "nphotons": 1e9,
        "nimgs_train": 9,
        "nimgs_test": 3,
        "data_source": "generic",
        "probe.trainable": False,
        "intensity_scale.trainable": False,
        "positions.provided": False,
        "object.big": True,
        "probe.big": False,
        "probe_scale": 10.0,
        "set_phi": False,
        "probe.mask": True,
        "pad_object": True,
        "model_type": "pinn",
        "label": "",
        "size": 392,
        "amp_activation": "sigmoid",
        "h5_path": "wts.h5",
        "npseed": 42,
        "debug": True,
        "gaussian_smoothing_sigma": 0.0,
        "use_xla_translate": True,
    }
)
"""What the registry holds before anybody writes to it."""

DATA_SOURCES: Final = (
    "lines",
    "grf",
    "experimental",
    "points",
    "testimg",
    "diagonals",
    "xpp",
    "V",
    "generic",
)

_WRITABLE_WHEN_SEALED = frozenset({"intensity_scale", "probe", "timestamp"})
_MISSING: Final = object()


class LegacyParams:
    """A registry with the old semantics: `cfg` is the dict itself, `get` without a default may raise.

    Example:
        >>> LegacyParams().params()["bigN"]
        132
    """

    def __init__(self) -> None:
        self.cfg: dict[str, Any] = dict(DEFAULTS)
        self._sealed = False

    def get(self, key: str, default: Any = _MISSING) -> Any:
        """Look a parameter up; `bigN` is derived.

        Raises:
            KeyError: the parameter is unknown and no default is given.
        """
        if key == "bigN":
            return self.get_bigN()
        if default is _MISSING:
            return self.cfg[key]
        return self.cfg.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Write a parameter; after `seal` most writes are reported as a warning in the log."""
        if self._sealed and key not in _WRITABLE_WHEN_SEALED:
            _log.warning("legacy parameter %r was changed after the registry had been sealed", key)
        self.cfg[key] = value

    def params(self) -> dict[str, Any]:
        """Copy all parameters, with the derived `bigN`."""
        return {**self.cfg, "bigN": self.get_bigN()}

    def get_bigN(self) -> int:
        """Compute the side in px that a group of frames covers: N + (gridsize - 1) offset."""
        return self.cfg["N"] + (self.cfg["gridsize"] - 1) * self.cfg["offset"]

    def get_padding_size(self) -> int:
        """Compute the padding in px: (gridsize - 1) offset + max_position_jitter."""
        return (self.cfg["gridsize"] - 1) * self.cfg["offset"] + self.cfg["max_position_jitter"]

    def get_padded_size(self) -> int:
        """Compute bigN + max_position_jitter, in px."""
        return self.get_bigN() + self.cfg["max_position_jitter"]

    def print_params(self) -> None:
        """Print every parameter, derived ones included, sorted by name."""
        for key, value in sorted(self.params().items()):
            shape = getattr(value, "shape", None)
            text = value if shape is None else f"array of shape {tuple(shape)}"
            print(f"{key}: {text}")  # noqa: T201 - printing is what it is for

    def validate(self) -> bool:
        """Check the data source and the sizes.

        Raises:
            ConfigError: a value that older programs could not use either; names it.
        """
        source = self.cfg["data_source"]
        if source not in DATA_SOURCES:
            raise ConfigError(f"`data_source` is {source!r}; expected one of {', '.join(DATA_SOURCES)}.")
        for key in ("N", "gridsize", "offset"):
            if not isinstance(self.cfg[key], int) or self.cfg[key] < 1:
                raise ConfigError(f"`{key}` is {self.cfg[key]!r}; expected a whole number of 1 or more.")
        return True

    def seal(self) -> None:
        """Report later writes."""
        self._sealed = True

    def unseal(self) -> None:
        """Report writes no more."""
        self._sealed = False

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __contains__(self, key: object) -> bool:
        return key in self.cfg

    def __iter__(self) -> Iterator[str]:
        return iter(self.cfg)

    def __len__(self) -> int:
        return len(self.cfg)


params = LegacyParams()
"""The one registry of the process."""


def legacy_dict(config: CanonicalConfig) -> dict[str, Any]:
    """Translate a config into the keys and values of the registry, without writing anything.

    The model section is flattened, None is skipped, a Path becomes text.

    Raises:
        PolicyError: CONFIG-002 for an execution config, CONFIG-001 for anything else that is no config.
        ConfigError: `N` is still 0 (not known yet), or values assigned later contradict each other.
    """
    _refuse_what_is_not_canonical(config)
    # Assigning to `config.model.N` does not run the outer model's rules; run them now.
    try:
        type(config).model_validate(config.model_dump())
    except ValidationError as error:
        raise config_error(error, model_class=type(config)) from error
    entries: dict[str, Any] = {}
    for part in (getattr(config, "model", None), config):
        if not isinstance(part, CanonicalConfig):
            continue
        if isinstance(part, ModelConfig) and part.N == 0:
            raise ConfigError(
                "`N` is 0, which means not known yet. Set it to the side of a frame in px, "
                "such as `config.model.N = 128`, before anything is dispatched."
            )
        for name in type(part).model_fields:
            value = getattr(part, name)
            if name != "model" and value is not None:
                entries[KEY_MAPPINGS.get(name, name)] = str(value) if isinstance(value, Path) else value
    return entries


def update_legacy_dict(registry: MutableMapping[str, Any] | LegacyParams, config: CanonicalConfig) -> None:
    """Write a config into the registry: all keys or, when anything fails, none.

    Args:
        registry: `params`, its dict `params.cfg`, or any other mutable mapping; keys that the config does
            not own stay as they are.
        config: what to write, such as a TrainingConfig or an InferenceConfig.

    Raises:
        PolicyError: CONFIG-002 for an execution config, CONFIG-001 for anything else that is no config.
        ConfigError: `N` is still 0 (not known yet).

    Example:
        >>> registry = {}
        >>> update_legacy_dict(registry, ModelConfig(N=128))
        >>> registry["N"], registry["object.big"]
        (128, True)
    """
    target = registry.cfg if isinstance(registry, LegacyParams) else registry
    entries = legacy_dict(config)
    before = dict(target)
    try:
        for key, value in entries.items():
            target[key] = value
    except BaseException:
        _restore(target, before)
        raise


@contextmanager
def legacy_params(
    config: CanonicalConfig, registry: LegacyParams = params
) -> Generator[LegacyParams, None, None]:
    """Hold the registry at this config inside a `with` block; restore it afterwards, exception or not."""
    yield from _held(config, registry)


def _held(config: CanonicalConfig, registry: LegacyParams) -> Generator[LegacyParams, None, None]:
    before = dict(registry.cfg)
    try:
        update_legacy_dict(registry, config)
        yield registry
    finally:
        _restore(registry.cfg, before)


def _refuse_what_is_not_canonical(config: object) -> None:
    kind = type(config).__name__
    if isinstance(config, ExecutionConfig):
        raise PolicyError(
            f"{kind} says where to run and never enters the legacy registry. "
            "Pass it as `torch_execution_config=` and update the registry from the TrainingConfig.",
            finding="CONFIG-002",
        )
    if not isinstance(config, CanonicalConfig):
        raise PolicyError(
            f"the legacy registry is written from a typed config only, found {kind}. "
            "Build a TrainingConfig or an InferenceConfig.",
            finding="CONFIG-001",
        )


def _restore(target: MutableMapping[str, Any], before: dict[str, Any]) -> None:
    """Bring a mapping back to an earlier state without failing where its own writes fail."""
    for key in [key for key in target if key not in before]:
        del target[key]
    for key, value in before.items():
        if key not in target or target[key] is not value:
            target[key] = value
