"""The old name of the number of groups."""

from __future__ import annotations

import warnings
from typing import Protocol

__all__ = ["adopt_n_images"]


class _CountsGroups(Protocol):
    n_groups: int | None
    n_images: int | None

    @property
    def model_fields_set(self) -> set[str]: ...
    def _set_unchecked(self, name: str, value: object) -> None: ...


def adopt_n_images(config: _CountsGroups) -> None:
    """Read `n_images` as `n_groups`, with a DeprecationWarning; a given `n_groups` wins."""
    if config.n_images is None:
        return
    warnings.warn("`n_images` is deprecated; use `n_groups`", DeprecationWarning, stacklevel=4)
    if config.n_groups is None:
        config._set_unchecked("n_groups", config.n_images)  # pyright: ignore[reportPrivateUsage]
        config.model_fields_set.add("n_groups")
    config._set_unchecked("n_images", None)  # pyright: ignore[reportPrivateUsage]
    config.model_fields_set.discard("n_images")
