"""Puts the pages of the findings into the sdist and the wheel.

They live at the top of the repository, where people read them. A wheel built from the sdist has no
repository around it and takes the copies that the sdist carries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FindingsHook(BuildHookInterface):
    """Adds `findings/*.md` to what is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the pages and their place in the archive; an editable install reads the repository's own."""
        if version == "editable":
            return
        root = Path(self.root)
        pages = sorted((root / "findings").glob("*.md")) or sorted(
            (root.parents[1] / "findings").glob("*.md")
        )
        if not pages:
            raise FileNotFoundError(
                f"no findings/*.md in {root} or in the repository around it; "
                "build ptycho-config from a checkout or from its sdist"
            )
        target = "findings" if self.target_name == "sdist" else "ptycho_config/findings"
        for page in pages:
            build_data["force_include"][str(page)] = f"{target}/{page.name}"
