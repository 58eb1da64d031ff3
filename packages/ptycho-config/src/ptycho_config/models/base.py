"""What all configuration models have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["CanonicalConfig", "Config"]


class Config(BaseModel):
    """A checked set of settings: unknown names are refused, assignments are checked like construction.

    `model_fields_set` names the fields that were chosen; the others hold defaults.
    """

    model_config = ConfigDict(
        extra="forbid",
        validate_assignment=True,
        allow_inf_nan=False,
        defer_build=True,  # importing the package must stay quick
    )

    derived_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that no source sets: the model fills them, or they are an older name of another field."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a checked value; a refused one leaves the model as it was.

        pydantic runs rules that join several fields after it has written the new value, and leaves it there
        when such a rule refuses it.
        """
        before, chosen = dict(self.__dict__), set(self.__pydantic_fields_set__)
        try:
            super().__setattr__(name, value)
        except Exception:
            self._restore(before, chosen)
            raise

    def _restore(self, values: dict[str, Any], chosen: set[str]) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self.__pydantic_fields_set__.clear()
        self.__pydantic_fields_set__.update(chosen)

    def _set_unchecked(self, name: str, value: object) -> None:
        """Write a value from within a rule that is already checking the model."""
        object.__setattr__(self, name, value)


class CanonicalConfig(Config):
    """Settings that say what to compute; where and how fast to run is not among them (CONFIG-002)."""
