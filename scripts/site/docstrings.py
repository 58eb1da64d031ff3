"""Brings the docstrings of the packages to what the parser of the site expects.

Four habits of theirs are none of its: an example is an `Example`, a section may follow another without an
empty line, arguments that are described together share a line (`pixel_size_m, energy_ev: override what the
file says`), and what is raised may be told in a sentence (`See solve.`).
"""

from __future__ import annotations

import re

__all__ = ["in_parser_style"]

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Example|Examples):$")
_RAISES_WHAT = re.compile(r"^Raises:\n((?: +(?![\w., ]+: ).*\n?)+)", re.MULTILINE)
_TOGETHER = re.compile(r"^(\s+)([\w*]+(?:, [\w*]+)+)(: .*)$")


def in_parser_style(text: str) -> str:
    """Put an empty line before each section, and give each argument a description of its own.

    Example:
        >>> print(in_parser_style("Add.\\nArgs:\\n    a, b: numbers.\\nReturns:\\n    Their sum."))
        Add.
        <BLANKLINE>
        Args:
            a: numbers.
            b: numbers.
        <BLANKLINE>
        Returns:
            Their sum.
    """
    lines: list[str] = []
    section = ""
    together: list[str] = []
    rest: list[str] = []
    indent = ""

    def close() -> None:
        for name in together:
            lines.append(f"{indent}{name}{rest[0]}")
            lines.extend(rest[1:])
        together.clear()
        rest.clear()

    for line in _RAISES_WHAT.sub(_in_a_sentence, text).splitlines():
        heading = _SECTION.match(line)
        if heading or not line.strip() or len(line) - len(line.lstrip()) <= len(indent):
            close()
        if heading:
            section = heading[1]
            line = "Examples:" if section == "Example" else line
            if lines and lines[-1].strip():
                lines.append("")
        shared = _TOGETHER.match(line) if section in ("Args", "Attributes", "Raises") else None
        if shared and not together:
            indent, rest = shared[1], [shared[3]]
            together = shared[2].split(", ")
        elif together:
            rest.append(line)
        else:
            lines.append(line)
    close()
    return "\n".join(lines)


def _in_a_sentence(told: re.Match[str]) -> str:
    return f"\n**Raises:** {' '.join(told[1].split())}\n"
