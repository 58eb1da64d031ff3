"""Mutation testing of ptycho-config: change one thing at a time, and see whether a test notices.

    nox -s mutants [-- NAME…] [-- --write-docs]

mutmut makes the mutants and runs, for each in a forked process, the tests that reach it. The tests are those of
`tests/config` that start no process of their own. A NAME such as `ptycho_config.guards.*` tests just those, and
judges nothing. The page `docs/reference/mutants.md` lists every survivor under the reason why it is harmless; one
that is not listed fails the session, and so does a share of killed mutants below the one below.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import frame

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "mutants.md"
LEAST_KILLED = 0.95
UNEXPLAINED = "## Not explained yet"
WORK = frame.RESULTS.resolve() / "mutants"
#: Tests that start processes, which would not see the mutant; and those that count the frames of a call, to which
#: mutmut adds its own.
LEFT_OUT = (
    "--ignore=tests/config/test_import.py",
    "--ignore=tests/config/test_profiles.py",
    "--ignore=tests/config/test_warning_places.py",
    "--deselect=tests/config/test_findings.py::test_the_sdist_and_the_wheel_built_from_it_carry_the_pages",
    # Between the caller and a mutant stands the trampoline of mutmut, which a warning then names.
    "--deselect=tests/config/test_moved.py::test_the_warning_names_the_line_that_imports",
    "--deselect=tests/config/test_moved.py::test_the_warning_of_a_moved_name_names_the_line_that_asks",
)
SETTINGS = f"""
[tool.mutmut]
source_paths = ["src"]
do_not_mutate = [{{not_mutated}}]
also_copy = ["findings"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-x", {", ".join(f'"{option}"' for option in LEFT_OUT)}]
pytest_add_cli_args_test_selection = ["tests/config"]

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib", "--strict-markers"]
filterwarnings = ["error"]
markers = ["gpu: -", "slow: -", "finding(id): -"]
"""
#: Names that load on first use, and the checks of the audit: tests themselves, and tested by sabotage.
NOT_MUTATED = ("*/ptycho_config/__init__.py", "*/ptycho_config/checks/*")


def prepare(work: Path) -> None:
    """Lay out what mutmut expects: `src`, `tests` and its settings."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    package = ROOT / "packages" / "ptycho-config" / "src" / "ptycho_config"
    shutil.copytree(package, work / "src" / "ptycho_config", ignore=ignore)
    shutil.copytree(ROOT / "tests" / "config", work / "tests" / "config", ignore=ignore)
    shutil.copy(ROOT / "tests" / "conftest.py", work / "tests")
    shutil.copytree(ROOT / "findings", work / "findings")
    not_mutated = ", ".join(f'"{pattern}"' for pattern in NOT_MUTATED)
    (work / "pyproject.toml").write_text(SETTINGS.format(not_mutated=not_mutated), encoding="utf-8")


def mutmut(*words: str, show: bool = False) -> str:
    """Run mutmut in the working folder; return what it prints."""
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutants", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mutmut")), *words],
        cwd=WORK,
        env=environment,
        stdout=None if show else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"mutmut {' '.join(words)} failed:\n{(done.stdout or '')[-3000:]}")
    return done.stdout or ""


def survivors() -> list[str]:
    """Describe each mutant that no test noticed: function, line before, line after."""
    names = re.findall(r"^\s+(\S+): (?:survived|no tests|suspicious)$", mutmut("results"), re.MULTILINE)
    return sorted(describe(name, mutmut("show", name)) for name in names)


def describe(name: str, diff: str) -> str:
    """Write a mutant as a line of the page, which stays the same when other lines of the file change."""
    module, _, function = name.removeprefix("ptycho_config.").rpartition(".")
    function = function.partition("__mutmut_")[0]
    function = (
        function.removeprefix("x_") if function.startswith("x_") else function.strip("xǁ").replace("ǁ", ".")
    )
    lines = diff.splitlines()
    before, after = (
        " ".join(
            " ".join(line[1:].split()) for line in lines if line.startswith(sign) and line[:3] != sign * 3
        )
        for sign in "-+"
    )
    return f"- `{module}.{function}`: `` {before} `` → `` {after} ``"


def write_page(page: str, found: list[str], figures: str) -> str:
    """Renew the figures of the page; drop what is killed by now, append what nobody has explained."""
    page = re.sub(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", figures, page, flags=re.DOTALL)
    lines = [line for line in page.splitlines() if not line.startswith("- `") or line in found]
    new = [line for line in found if line not in lines]
    if new:
        lines += [] if UNEXPLAINED in lines else ["", UNEXPLAINED, ""]
        lines += new
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    began = time.perf_counter()
    prepare(WORK)
    cores = len(os.sched_getaffinity(0))
    mutmut("run", "--max-children", str(cores), *arguments.names, show=sys.stdout.isatty())
    if arguments.names:
        print("\n".join(line for line in survivors() if line))
        return
    mutmut("export-cicd-stats")
    counts = json.loads((WORK / "mutants" / "mutmut-cicd-stats.json").read_text())
    minutes = (time.perf_counter() - began) / 60
    killed, total = counts["killed"] + counts["timeout"], counts["total"]
    found = survivors()
    figures = (
        f"`nox -s mutants` on {frame.host()}: {total} mutants, {killed} killed ({100 * killed / total:.1f} %; "
        f"{counts['timeout']} of them ran out of time), {total - killed} survived; {minutes:.0f} minutes.\n"
    )
    print(figures)
    frame.keep(frame.Record.of_this_run("mutants", {"killed, %": 100 * killed / total, "minutes": minutes}))
    page = PAGE.read_text(encoding="utf-8")
    if arguments.write_docs:
        PAGE.write_text(write_page(page, found, figures), encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
    listed = set(page.partition(UNEXPLAINED)[0].splitlines())
    unlisted = [line for line in found if line not in listed]
    print("\n".join(unlisted))
    if killed < LEAST_KILLED * total:
        sys.exit(
            f"{100 * killed / total:.1f} % of the mutants were killed; at least {100 * LEAST_KILLED:.0f} % must be"
        )
    if unlisted:
        sys.exit(
            f"{len(unlisted)} survivors (above) are not explained in {PAGE.relative_to(ROOT)}: kill them, or "
            "`nox -s mutants -- --write-docs` and say there why each is harmless"
        )


if __name__ == "__main__":
    main()
