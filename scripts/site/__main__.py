"""Build the site of the documentation into `site/`, and look at it in a headless browser.

`python scripts/site` needs ptycho-dispatch and what `requirements.txt` beside it names; `nox -s site` brings
both. The notebooks in `docs/notebooks` are run before; the pages show what they showed when
`--write-notebooks` wrote it. `--publish 0.2 latest` puts the site under these names beside what is
published, and pushes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import browser
from notebooks import SUFFIX
from pages import ROOT


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="nox -s site --", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--publish", nargs="+", metavar="NAME", help="version, and other names for it; pushed"
    )
    parser.add_argument("--unseen", action="store_true", help="build only; no browser looks at it")
    parser.add_argument(
        "--write-notebooks",
        nargs="*",
        metavar="NAME",
        help="run the notebooks of these names, or all, and keep what they show; build nothing",
    )
    parser.add_argument("--no-notebooks", action="store_true", help="run no notebook")
    told = parser.parse_args()
    # A page of the theme about a future version of mkdocs is no warning of ours.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    if told.publish:
        _publish(told.publish, environment)
        return
    if told.write_notebooks is not None:
        _run_notebooks(told.write_notebooks, write=True)
        return
    if not told.no_notebooks:
        _run_notebooks([], write=False)
    _run("mkdocs", "build", "--strict", "--clean", environment=environment)
    print(f"Open {(ROOT / 'site' / 'index.html').as_uri()}")
    if not told.unseen:
        _look()


def _run_notebooks(names: list[str], *, write: bool) -> None:
    """Run notebooks, all where none is named; end with 1 where one fails."""
    from execute import run_notebooks

    paths = sorted((ROOT / "docs" / "notebooks").glob(f"*{SUFFIX}"))
    if failed := run_notebooks([path for path in paths if not names or path.stem in names], write=write):
        sys.exit("\n".join(failed))


def _publish(names: list[str], environment: dict[str, str]) -> None:
    """Put this version beside the others; who comes without one is led to the latest release."""
    _run("mike", "deploy", "--push", "--update-aliases", *names, environment=environment)
    listed = _run("mike", "list", environment=environment)
    default = "latest" if "[latest]" in listed or "latest" in names else names[0]
    _run("mike", "set-default", "--push", default, environment=environment)


def _run(*words: str, environment: dict[str, str]) -> str:
    """Run a program of this environment to its end, or end with its code."""
    program = shutil.which(words[0], path=str(Path(sys.executable).parent)) or words[0]
    done = subprocess.run(
        [program, *words[1:]], cwd=ROOT, env=environment, check=False, text=True, stdout=subprocess.PIPE
    )
    print(done.stdout, end="")
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def _look() -> None:
    """Let a browser look at every page."""
    try:
        with browser.opened() as one:
            found = browser.complaints(one, ROOT / "site")
    except RuntimeError as error:
        print(f"Nobody looked at the pages: no browser is at hand ({error}).")
        return
    for complaint in found:
        print(complaint)
    if found:
        sys.exit(f"{len(found)} complaints about the pages of the site")
    print("A browser looked at every page and found nothing wrong.")


if __name__ == "__main__":
    main()
