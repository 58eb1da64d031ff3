"""Run every example of the README and the documentation, page by page, as a reader would.

Pages whose examples take long are among the slow tests; `nox -s docs` runs them all.

A page has a process and a folder. Its Python blocks, each by itself, and the `ptycho` commands of its console
blocks run in the order in which they stand on the page. Blocks without a language are not run.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from itertools import groupby
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
    "docs/how-to/deploy.md": ("ptycho_core_torch", "torch", "lightning", "onnx", "onnxscript", "onnxruntime"),
    "docs/how-to/networks.md": ("ptycho_core_torch", "torch", "lightning"),
    "docs/reference/legacy.md": ("ptycho",),
}


#: Pages that reconstruct or train for longer than a few seconds.
SLOW = {
    "docs/explanation/verdict.md",
    "docs/how-to/cpu-only.md",
    "docs/how-to/deploy.md",
    "docs/how-to/formats.md",
    "docs/how-to/networks.md",
    "docs/how-to/positions.md",
    "docs/how-to/your-own-data.md",
    "docs/tutorials/first-light.md",
}


#: A reader's process, which loads each library once: blocks and commands one after the other, up to the first
#: that fails.
READER = """
import json, sys
from ptycho_dispatch.cli import main
for number, step in enumerate(json.load(sys.stdin)):
    print(f"--- step {number}: {step}", file=sys.stderr, flush=True)
    if isinstance(step, str):
        exec(compile(step, f"<block {number}>", "exec"), {"__name__": "__main__"})
    elif main(step) != 0:
        sys.exit(f"ptycho {' '.join(step)} failed")
"""


def steps(page: Path) -> list[str | list[str]]:
    """What a page runs, in its order: Python blocks as text, commands as the words behind `ptycho`."""
    found: list[str | list[str]] = []
    for language, block in BLOCK.findall(page.read_text("utf-8")):
        if language == "python":
            found.append(block)
        else:
            assert all(command[0] == "ptycho" for command in commands(block))
            found += [command[1:] for command in commands(block)]
    return found


def read(some: list[str | list[str]], folder: Path) -> None:
    """Run steps of a page in a process of their own."""
    program = [sys.executable, "-c", READER]
    done = subprocess.run(
        program, input=json.dumps(some), cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=pytest.mark.slow if name(page) in SLOW else [])
        for page in PAGES
        if BLOCK.search(page.read_text("utf-8"))
    ],
)
def test_the_examples_of_the_page_run(
    page: Path, tmp_path: Path, example, shared_examples, checked_once: None
) -> None:
    for module in NEEDS.get(name(page), ()):
        pytest.importorskip(module, reason=f"{module} is not installed")

    def shared(step: str | list[str]) -> bool:
        return step[0] == "audit" or tuple(step) in shared_examples

    # Audits ask their probes once in this run, and some commands stand elsewhere too: called from here.
    for from_here, some in groupby(steps(page), key=shared):
        if from_here:
            for words in some:
                done = example(*words)
                assert done.code == 0, f"{words}\n{done.out}\n{done.err}"
        else:
            read([*some], tmp_path)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("import nowhere", "No module named 'nowhere'"),
        ("print(left_over)", "name 'left_over' is not defined"),
        (["inspect", "nothing.npz"], "ptycho inspect nothing.npz failed"),
    ],
)
def test_an_example_that_fails_is_found(step: str | list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=said):
        read(["left_over = 1", step, "open('after', 'w')"], tmp_path)
    assert not (tmp_path / "after").exists()


def test_the_links_of_all_pages_lead_somewhere() -> None:
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    missing = [
        f"{name(page)}: {link}"
        for page in pages
        for link in LINK.findall(page.read_text("utf-8"))
        if not (page.parent / link.strip()).exists()
    ]
    assert missing == []
