"""What the reader of docstrings is told before it reads: our style, and where settings are described."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import in_parser_style

__all__ = ["HouseStyle"]


class HouseStyle(griffe.Extension):
    """Rewrites each docstring before it is parsed; a setting is described by what its `Field` says."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one."""
        if obj.docstring is None and isinstance(obj, griffe.Attribute):
            said = _description(obj.value)
            obj.docstring = griffe.Docstring(said, parent=obj) if said else None
        elif obj.docstring is not None:
            obj.docstring.value = in_parser_style(obj.docstring.value)


def _description(value: str | griffe.Expr | None) -> str:
    """Read `description=` of a `Field(...)`."""
    if not isinstance(value, griffe.ExprCall):
        return ""
    said = [
        one.value
        for one in value.arguments
        if isinstance(one, griffe.ExprKeyword) and one.name == "description"
    ]
    return str(ast.literal_eval(str(said[0]))) if said else ""
