"""Notebooks of the documentation as pages of the site: prose, code, and what the code showed.

A notebook in `docs/notebooks` keeps its outputs, so that it can be read as a file too. Pictures stay in the
page. What a picture shows is said by its cell, under `alt` in the metadata. Nothing here needs Jupyter.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["SUFFIX", "joined", "page_of", "pictures_without_text"]

SUFFIX = ".ipynb"
_PICTURES = ("image/png", "image/jpeg")


def page_of(path: Path) -> str:
    """Write a notebook as Markdown, with a link to the notebook itself below its title.

    Raises:
        ValueError: it does not begin with prose that has a title.
    """
    first, *others = json.loads(path.read_text("utf-8"))["cells"]
    title, _, prose = joined(first["source"]).partition("\n")
    if first["cell_type"] != "markdown" or not title.startswith("# "):
        raise ValueError(f"{path.name} begins with no title, such as `# {path.stem}`.")
    itself = f'<p><a href="{path.name}" download>Download this page as a notebook</a></p>'
    return "\n\n".join([title, itself, prose.strip(), *map(_cell, others)]) + "\n"


def joined(text: str | list[str]) -> str:
    """Join what a notebook keeps line by line."""
    return text if isinstance(text, str) else "".join(text)


def pictures_without_text(path: Path) -> list[str]:
    """List the cells that show a picture and do not say what is on it."""
    return [
        cell["id"]
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        if any(kind in output.get("data", ()) for output in cell.get("outputs", ()) for kind in _PICTURES)
        and not cell["metadata"].get("alt", "").strip()
    ]


def _cell(cell: dict[str, Any]) -> str:
    if cell["cell_type"] == "markdown":
        return joined(cell["source"]).strip()
    shown = [_shown(output, cell["metadata"].get("alt", "")) for output in cell["outputs"]]
    return "\n\n".join([_fenced(joined(cell["source"]), "python"), *filter(None, shown)])


def _shown(output: dict[str, Any], alt: str) -> str:
    """Write one output in the richest form that it has."""
    if output["output_type"] == "stream":
        return _fenced(joined(output["text"]), "text")
    if output["output_type"] == "error":
        return _fenced(f"{output['ename']}: {output['evalue']}", "text")
    data = output["data"]
    if "text/html" in data:
        return joined(data["text/html"]).strip()
    for kind in _PICTURES:
        if kind in data:
            content = "".join(joined(data[kind]).split())
            width = output["metadata"].get(kind, {}).get("width")
            wide = "" if width is None else f' width="{int(width)}"'
            return f'<p><img alt="{escape(alt)}"{wide} src="data:{kind};base64,{content}"></p>'
    return _fenced(joined(data["text/plain"]), "text")


def _fenced(text: str, language: str) -> str:
    """Put a text between marks that it does not hold."""
    mark = "```"
    while mark in text:
        mark += "`"
    return f"{mark}{language}\n{text.strip(chr(10))}\n{mark}"
