"""The page itself: one file with its style, its script and its pictures inside.

Every text is escaped. The page's own policy (Content-Security-Policy) names its one script by its hash and
allows nothing from outside, so that even a text that slipped through could neither run nor call home.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

from ptycho_dispatch.report.contents import Contents

__all__ = ["page_html"]


def page_html(contents: Contents) -> str:
    """Lay out what a report shows as one HTML document.

    Returns:
        The text of the file, UTF-8; it asks for nothing but itself.
    """
    script = _own("page.js")
    # Style and script are ours and must not be escaped; nothing from a file enters them.
    return _template().render(run=contents, style=_own("page.css"), script=script, script_hash=_hash(script))


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["data_uri"] = _data_uri
    return environment.from_string(_own("page.html"))


@cache
def _own(name: str) -> str:
    return files("ptycho_dispatch.report").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
