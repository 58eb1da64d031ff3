"""What a field accepts, in words: its kind, its range, its choices.

Read from the annotation, so that a message, a help text and the table of the contract cannot disagree with
what the model enforces.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ptycho_config.values import Accepts

__all__ = ["accepted", "field_at", "members"]

_NOUNS: dict[type, str] = {int: "a whole number", float: "a number", str: "text", Path: "a path"}


def accepted(info: FieldInfo) -> str:
    """Say what a field takes: `a whole number from 1 to 8`, `'auto' or 'off'`.

    Example:
        >>> from ptycho_config import SolverConfig
        >>> accepted(SolverConfig.model_fields["probe_modes"])
        'a whole number from 1 to 8'
    """
    found: list[str] = []
    optional = False
    for member, attached in members(info.annotation, info.metadata):
        if member is type(None):
            optional = True
        else:
            found += _words(member, attached)
    return _joined([*dict.fromkeys(found), *(["none"] if optional else [])])


def field_at(model_class: type[BaseModel], path: Iterable[object]) -> FieldInfo | None:
    """Find the field that a path such as `("model", "N", 0)` leads to; None when it leads to none."""
    info: FieldInfo | None = None
    for step in path:
        known = model_class.model_fields.get(str(step))
        if known is None:
            return info
        info = known
        if not _is_model(info.annotation):
            return info
        model_class = info.annotation
    return info


def members(annotation: Any, metadata: Iterable[Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Take unions and annotations apart: each plain type or Literal with what is attached to it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *attached = get_args(annotation)
        yield from members(inner, (*metadata, *_flat(attached)))
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from members(member, metadata)
    else:
        yield annotation, tuple(metadata)


def _flat(attached: Iterable[Any]) -> Iterator[Any]:
    """Give what is attached to a type; `Field(ge=1)` holds its bounds one level deeper."""
    for item in attached:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item


def _words(member: Any, attached: tuple[Any, ...]) -> list[str]:
    """Say what one member of a union takes."""
    said = next((item.text for item in attached if isinstance(item, Accepts)), None)
    if said is not None:
        return [said]
    if get_origin(member) is Literal:
        return [repr(word) for word in get_args(member)]
    if member is bool:
        return ["true", "false"]
    return ["a section of settings"] if _is_model(member) else [_NOUNS[member] + _range(attached)]


def _range(attached: Iterable[Any]) -> str:
    """Say between which bounds, as pydantic keeps them."""
    bounds = {
        name: getattr(item, name)
        for item in attached
        for name in ("ge", "gt", "le", "lt")
        if getattr(item, name, None) is not None
    }
    if not bounds:
        return ""
    texts = {name: _plain(value) for name, value in bounds.items()}
    match texts:
        case {"ge": low, "le": high}:
            return f" from {low} to {high}"
        case {"ge": low, "lt": high}:
            return f" from {low} to below {high}"
        case {"gt": low, "le": high}:
            return f" above {low}, up to {high}"
        case {"ge": low}:
            return f" of {low} or more"
        case _:
            return f" above {texts['gt']}"


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _joined(words: list[str]) -> str:
    """Join alternatives as in a sentence: `a, b or c`; after a phrase: `a number above 0, or none`."""
    if len(words) == 1:
        return words[0]
    comma = "," if any(" " in word for word in words[:-1]) else ""
    return f"{', '.join(words[:-1])}{comma} or {words[-1]}"


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
