"""Damage to a record of names and values, as JSON has them: one value is another, one name is gone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

__all__ = ["any_value", "without_a_key"]

Record = dict[str, Any]  # Any: what JSON holds
DEEPER = 0.65


def any_value(value: object) -> Callable[[Record, random.Random], None]:
    """Put a value in the place of one anywhere in a record."""

    def edit(record: Record, rng: random.Random) -> None:
        where, key = _place(record, rng)
        where[key] = value

    return edit


def without_a_key(record: Record, rng: random.Random) -> None:
    """Take a name away, anywhere in a record."""
    where, key = _place(record, rng)
    del where[key]


def _place(record: Record, rng: random.Random) -> tuple[Record, str]:
    where, key = record, rng.choice(sorted(record))
    while isinstance(where[key], dict) and where[key] and rng.random() < DEEPER:
        where = where[key]
        key = rng.choice(sorted(where))
    return where, key
