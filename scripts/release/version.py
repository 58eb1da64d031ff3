"""What the checkout says of the version to be released: the changelog, and a tag where there is one.

`python scripts/release/version.py` says what is wrong, before time is spent on files that nobody should get.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

__all__ = ["declared", "faults_of"]

ROOT = Path(__file__).resolve().parents[2]


def declared(root: Path = ROOT) -> str:
    """Return the version that the packages declare; a test holds all of them to the same."""
    text = (root / "packages" / "ptycho-config" / "pyproject.toml").read_text("utf-8")
    return tomllib.loads(text)["project"]["version"]


def faults_of(version: str, root: Path = ROOT) -> list[str]:
    """Say what keeps this checkout from being a release of a version, and what to do about it.

    Where no tag `v...` stands at the commit the files are only tried: changes may be uncommitted then, and
    the changelog may go on.
    """
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    found = re.findall(r"^## \[(.+?)\](.*)\n([\s\S]*?)(?=^## |\Z)", changelog, re.MULTILINE)
    sections = {name: (rest, text.strip()) for name, rest, text in found}
    rest, text = sections.get(version, ("", ""))
    faults = []
    if not re.fullmatch(r" - \d{4}-\d\d-\d\d", rest) or not text:
        faults.append(
            f"CHANGELOG.md tells nothing of {version}: write its changes under `## [{version}] - YYYY-MM-DD`"
        )
    tags = [tag for tag in _git(root, "tag", "--points-at", "HEAD") if re.match(r"v\d", tag)]
    for tag in tags:
        if tag != f"v{version}":
            faults.append(
                f"tag {tag} stands here, but the packages are {version}: remove it, `git tag -d {tag}`, and "
                "raise the version first (CONTRIBUTING.md, Release)"
            )
    if tags and sections.get("Unreleased", ("", ""))[1]:
        faults.append(f"CHANGELOG.md has unreleased changes: move them to {version}, commit, and tag again")
    if tags and (changed := _git(root, "status", "--porcelain", "--untracked-files=no")):
        names = ", ".join(line[2:].strip() for line in changed)
        faults.append(f"{names}: not as in {tags[0]}; commit and tag again, or `git stash`")
    return faults


def _git(root: Path, *words: str) -> list[str]:
    """Return the lines of git's answer; none where this is no checkout, or no git is here."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


if __name__ == "__main__":
    found = faults_of(declared())
    if found:
        raise SystemExit("\n".join(found))
    print(f"release {declared()}: changelog and tags agree")
