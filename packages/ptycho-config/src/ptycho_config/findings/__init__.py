"""The rules of the house, read from the pages that say why each exists.

In a wheel the pages lie beside this module; in a checkout they lie in `findings/` at the top.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from ptycho_config.errors import ConfigError

__all__ = ["FRONT_MATTER", "Finding", "finding_ids", "findings_directory", "read_finding"]


@dataclass(frozen=True)
class Finding:
    """A rule learned once and kept for ever.

    Attributes:
        id: identifier, which is also the prefix of the error or warning that enforces the rule.
        title: a few words.
        status: `active`, or `retired` for a rule that no longer holds.
        rule: what must hold.
        since: version that first enforced it.
        enforced_by: import paths of the code that enforces it.
        verified_by: test ids, `file::function`.
        probe: import path of the check that exercises the rule; None where there is none yet. The key
            is public, and older than the word.
        story: why the rule exists, as Markdown.
    """

    id: str
    title: str
    status: Literal["active", "retired"]
    rule: str
    since: str
    enforced_by: tuple[str, ...]
    verified_by: tuple[str, ...]
    probe: str | None
    story: str


FRONT_MATTER = tuple(field.name for field in fields(Finding) if field.name != "story")
"""Keys of a page's front matter, in their order."""


def findings_directory() -> Path:
    """Find the pages: beside this module when installed, at the top of the checkout otherwise.

    Raises:
        ConfigError: neither place has them.
    """
    here = Path(__file__).resolve().parent
    for place in (here, *(parent / "findings" for parent in here.parents)):
        if next(place.glob("*-[0-9][0-9][0-9].md"), None) is not None:
            return place
    raise ConfigError(
        "the pages of the findings are missing from this installation. "
        "Install ptycho-config again: `pip install --force-reinstall --no-deps ptycho-config`."
    )


def finding_ids() -> tuple[str, ...]:
    """List the identifiers of all findings, sorted."""
    return tuple(sorted(page.stem for page in findings_directory().glob("*-[0-9][0-9][0-9].md")))


def read_finding(identifier: str) -> Finding:
    """Read one finding.

    Raises:
        ConfigError: there is no such finding, or its front matter lacks a key or has one too many.
    """
    page = findings_directory() / f"{identifier}.md"
    if identifier not in finding_ids():
        raise ConfigError(f"no finding {identifier!r}; expected one of {', '.join(finding_ids())}.")
    opening, _, rest = page.read_text(encoding="utf-8").partition("---\n")
    matter, closing, story = rest.partition("\n---\n")
    data: Any = yaml.safe_load(matter) if not opening and closing else None
    if not isinstance(data, dict) or tuple(cast("dict[str, Any]", data)) != FRONT_MATTER:
        raise ConfigError(f"{page.name}: expected front matter with the keys {', '.join(FRONT_MATTER)}.")
    values = cast("dict[str, Any]", data)
    for links in ("enforced_by", "verified_by"):
        values[links] = tuple(values[links])
    return Finding(**values, story=story.strip())
