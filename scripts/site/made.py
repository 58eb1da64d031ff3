"""The pages that nobody writes: names, commands and settings out of the sources, and the list of findings."""

from __future__ import annotations

from interface import SETTINGS_AT, command_pages, settings_page
from reference import reference_pages

from ptycho_config.findings import finding_ids, read_finding

__all__ = ["finding_page", "made_pages"]


def made_pages() -> dict[str, str]:
    """Write the pages that are made of the sources, by their place on the site."""
    return {
        **reference_pages(),
        **command_pages(),
        SETTINGS_AT: settings_page(),
        "findings/README.md": _findings_overview(),
    }


def _findings_overview() -> str:
    """List the rules of the house."""
    lines = [
        "# Findings",
        "",
        "Rules that were learned once and are kept for ever: code enforces each, tests prove it, and",
        "`ptycho audit` asks the installed packages ([how](../how-to/audit.md)).",
        "",
        "| finding | what must hold |",
        "|---|---|",
    ]
    for identifier in finding_ids():
        finding = read_finding(identifier)
        rule = " ".join(finding.rule.split()).replace("|", "\\|")
        lines.append(f"| [{identifier}]({identifier}.md): {finding.title} | {rule} |")
    return "\n".join(lines) + "\n"


def finding_page(identifier: str, text: str) -> str:
    """Put what the front matter says, which a site does not show, into the page.

    Args:
        text: the page, front matter included.
    """
    finding = read_finding(identifier)
    _, _, story = text.removeprefix("---").partition("\n---\n")
    lines = [story.strip(), "", "## The rule", "", finding.rule.strip(), ""]
    lines += [f"{finding.status.capitalize()} since {finding.since}.", ""]
    for title, paths in (("Enforced by", finding.enforced_by), ("Proved by", finding.verified_by)):
        lines += [f"## {title}", "", *(f"- `{path}`" for path in paths), ""]
    return "\n".join(lines)
