"""Turns what pydantic found wrong into one clear line: the field, its value, what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ptycho_config.errors import ConfigError
from ptycho_config.naming import nearest

__all__ = ["config_error"]

Location = tuple[int | str, ...]
Detail = Mapping[str, Any]
"""One entry of what pydantic reports: `type`, `loc`, `msg`, `input` and perhaps `ctx`."""

_EXPECTED: dict[str, str] = {
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "path_type": "a path",
    "string_type": "text",
    "too_short": "at least {min_length}",
    "tuple_type": "a list such as 0,5,9",
    "model_type": "a mapping of settings",
}


def config_error(
    error: ValidationError,
    *,
    model_class: type[BaseModel] | None = None,
    origin: Callable[[Location], str | None] | None = None,
) -> ConfigError:
    """Say in one line what is wrong with a configuration.

    Args:
        error: what pydantic raised.
        model_class: the model that was built; its fields are proposed for unknown names.
        origin: gives the place a value came from, such as "`--batch-size`"; None when unknown.

    Returns:
        The error to raise: one sentence for each wrong field.

    Example:
        >>> from ptycho_config import SolverConfig
        >>> try:
        ...     SolverConfig(probe_modes=0)
        ... except ValidationError as error:
        ...     print(config_error(error))
        `probe_modes` is 0; expected 1 or more.
    """
    by_field: dict[str, list[Detail]] = {}
    fields = () if model_class is None else tuple(model_class.model_fields)
    for detail in error.errors(include_url=False):
        by_field.setdefault(_field_name(detail["loc"]), []).append(detail)
    return ConfigError(
        " ".join(_sentence(name, details, fields, origin) for name, details in by_field.items())
    )


def _field_name(loc: Location) -> str:
    """Name the field; pydantic appends the member of a union and the index in a list to its place."""
    if len(loc) > 1 and loc[0] == "model":
        return f"model.{loc[1]}"
    return str(loc[0]) if loc else ""


def _sentence(
    name: str,
    details: Sequence[Detail],
    fields: tuple[str, ...],
    origin: Callable[[Location], str | None] | None,
) -> str:
    first = details[0]
    source = origin(first["loc"]) if origin else None
    if first["type"] == "missing":
        return f"`{name}` is required" + (f"; give it with {source}." if source else ".")
    if first["type"] == "extra_forbidden":
        guess = nearest(str(first["loc"][-1]), fields)
        return f"`{name}` is not a setting" + (f"; did you mean `{guess}`?" if guess else ".")
    expectations = list(dict.fromkeys(_expectation(detail) for detail in details))
    text = "; ".join(text.rstrip(".") for text in expectations)
    if not name:
        return f"{text}."  # a rule that joins several fields names them itself
    if all(text.startswith("expected ") for text in expectations):
        text = f"expected {' or '.join(text.removeprefix('expected ') for text in expectations)}"
    value: Any = first["input"]
    found = f"`{name}` is {_short(value)}" + (f" (from {source})" if source else "")
    guess = nearest(value, _choices(text)) if isinstance(value, str) else None
    return f"{found}; {text}." + (f" Did you mean {guess!r}?" if guess else "")


def _expectation(detail: Detail) -> str:
    context: dict[str, Any] = detail.get("ctx") or {}
    if detail["type"] == "value_error":
        return str(context.get("error", detail["msg"]))
    if detail["type"] in _EXPECTED:
        return "expected " + _EXPECTED[detail["type"]].format(**context)
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _choices(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
