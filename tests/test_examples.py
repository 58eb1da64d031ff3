"""Run every example of the README and the documentation, page by page, as a reader would.

Python blocks of a page share one process and one folder; console blocks run the `ptycho` commands in the same
folder, in the order in which they stand on the page. Blocks without a language are not run.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(block: str) -> list[list[str]]:
    lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line) for line in lines]


#: Pages whose examples need a framework, and what they import.
NEEDS = {
    "docs/how-to/networks.md": ("ptycho_core_torch", "torch", "lightning"),
    "docs/reference/legacy.md": ("ptycho",),
}


@pytest.mark.parametrize("page", [p for p in PAGES if BLOCK.search(p.read_text("utf-8"))], ids=name)
def test_the_examples_of_the_page_run(page: Path, tmp_path: Path) -> None:
    for module in NEEDS.get(name(page), ()):
        pytest.importorskip(module, reason=f"{module} is not installed")
    for language, block in BLOCK.findall(page.read_text("utf-8")):
        if language == "python":
            runs = [[sys.executable, "-c", block]]
        else:
            runs = [[sys.executable, "-m", "ptycho_dispatch", *command[1:]] for command in commands(block)]
            assert all(command[0] == "ptycho" for command in commands(block))
        for run in runs:
            done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, f"{run}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name)
def test_the_links_of_the_page_lead_somewhere(page: Path) -> None:
    missing = [
        link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link.strip()).exists()
    ]
    assert not missing
