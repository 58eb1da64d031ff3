"""Turns what pydantic found wrong into one clear line: field, value, what was expected, source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ptycho_config.accepted import accepted, field_at
from ptycho_config.errors import ConfigError
from ptycho_config.naming import nearest, shortened, shown

__all__ = ["Location", "config_error"]

Location = tuple[int | str, ...]
Detail = Mapping[str, Any]
"""One entry of what pydantic reports: `type`, `loc`, `msg`, `input` and perhaps `ctx`."""
Places = Callable[[Location], str | None]
"""Gives the place of a field, such as "`--batch-size`"; None when there is none."""


def config_error(
    error: ValidationError,
    *,
    model_class: type[BaseModel],
    origin: Places | None = None,
    advice: Places | None = None,
) -> ConfigError:
    """Say in one line what is wrong with a configuration.

    Args:
        error: what pydantic raised.
        model_class: the model that was built; its fields say what they accept, and are proposed for unknown
            names.
        origin: gives the place that a value came from.
        advice: gives the flag with which a missing value can be given.

    Returns:
        The error to raise: one sentence for each wrong field.

    Example:
        >>> from ptycho_config import SolverConfig
        >>> try:
        ...     SolverConfig(probe_modes=0)
        ... except ValidationError as error:
        ...     print(config_error(error, model_class=SolverConfig))
        `probe_modes` is 0; expected a whole number from 1 to 8.
    """
    by_field: dict[str, list[Detail]] = {}
    for detail in error.errors(include_url=False):
        by_field.setdefault(_field_name(detail["loc"]), []).append(detail)
    return ConfigError(
        " ".join(
            _sentence(name, details, model_class, origin or _nowhere, advice or _nowhere)
            for name, details in by_field.items()
        )
    )


def _nowhere(place: Location) -> str | None:
    """Know no place: the values were given in Python."""


def _field_name(loc: Location) -> str:
    """Name the field; pydantic appends the member of a union and the index in a list to its place."""
    if len(loc) > 1 and loc[0] == "model":
        return f"model.{loc[1]}"
    return str(loc[0]) if loc else ""


def _sentence(
    name: str, details: Sequence[Detail], model_class: type[BaseModel], origin: Places, advice: Places
) -> str:
    first = details[0]
    loc: Location = first["loc"]
    if not name:
        return _rule(first, origin)
    if first["type"] == "missing":
        flag = advice(loc)
        return f"`{name}` is required" + (f"; give it with {flag}." if flag else ".")
    if first["type"] == "extra_forbidden":
        section = field_at(model_class, loc[:-1])
        owner: Any = model_class if section is None else section.annotation
        guess = nearest(str(loc[-1]), owner.model_fields)
        return f"`{shortened(name)}` is not a setting" + (f"; did you mean `{guess}`?" if guess else ".")
    value: Any = first["input"]
    source = origin(loc)
    expected = _expected(details, model_class)
    guess = nearest(value, re.findall(r"'([^']*)'", expected)) if isinstance(value, str) else None
    return (
        f"`{name}` is {shown(value)}"
        + (f" (from {source})" if source else "")
        + f"; {expected}."
        + (f" Did you mean {guess!r}?" if guess else "")
    )


def _expected(details: Sequence[Detail], model_class: type[BaseModel]) -> str:
    """Say what the field accepts; or, where a check of its own says more than the type, what that said."""
    # pydantic names fields of the model only.
    info = cast(FieldInfo, field_at(model_class, details[0]["loc"]))
    expected = f"expected {accepted(info)}"
    if any(detail["type"] == "finite_number" for detail in details):
        return f"{expected}, and finite"
    said = [str(detail["ctx"]["error"]) for detail in details if detail["type"] == "value_error"]
    return next((text for text in said if not expected.startswith(text)), expected)


def _rule(detail: Detail, origin: Places) -> str:
    """Give the words of a rule that joins several fields, and where the values of these came from."""
    context: dict[str, Any] = detail.get("ctx") or {}
    text = str(context.get("error", detail["msg"])).rstrip(".")
    places = [place for name in re.findall(r"`(\w+)`", text) if (place := origin((name,)))]
    return f"{text} (from {', '.join(places)})." if places else f"{text}."
