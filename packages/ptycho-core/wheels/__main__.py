"""Check the wheels that carry the kernel: `python packages/ptycho-core/wheels DIST [PYTHON] [--write-docs]`.

DIST holds them, one for each platform. PYTHON is one where ptycho-core is installed from this host's wheel;
without it they are looked into, and nothing is run. The table of what was found goes beside them, and with
`--write-docs` into docs/reference/wheels.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import emulators
import links
from targets import TARGETS

_ROOT = Path(__file__).resolve().parents[3]
_PAGE = _ROOT / "docs" / "reference" / "wheels.md"
_START, _END = "<!-- measured -->\n", "<!-- end -->"
_LARGEST_ERROR = 1e-5
_LONGEST_S = 600


def _main() -> None:
    parser = argparse.ArgumentParser(description="Check the wheels that carry the compiled kernel.")
    parser.add_argument("dist", type=Path)
    parser.add_argument("python", nargs="?", help="a Python with ptycho-core from this host's wheel")
    parser.add_argument("--write-docs", action="store_true", help="renew docs/reference/wheels.md")
    asked = parser.parse_args()
    wheels, faults = _looked_into(asked.dist)
    if asked.python:
        faults += _run(wheels, asked.dist, asked.python, asked.write_docs)
    if faults:
        sys.exit("\n".join(faults))
    print(f"{asked.dist}: a wheel for each of {', '.join(wheels)}")


def _looked_into(dist: Path) -> tuple[dict[str, Path], list[str]]:
    """Find the wheel of each platform, and say what is wrong with any."""
    found: dict[str, Path] = {}
    faults: list[str] = []
    for tag, target in TARGETS.items():
        wheels = list(dist.glob(f"ptycho_core-*-py3-none-{tag}.whl"))
        if len(wheels) != 1:
            faults.append(f"{len(wheels)} wheels for {tag}, expected one; `nox -s build` makes all anew")
            continue
        found[tag] = wheels[0]
        faults += links.faults_of(wheels[0], tag, target)
    return found, faults


def _run(wheels: dict[str, Path], dist: Path, python: str, write_docs: bool) -> list[str]:
    """Run what can be run here or emulated, write the table, and say what is wrong."""
    faults: list[str] = []
    rows = ["| platform | wheel | levels | what ran, and the largest difference |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as place:
        calls = Path(place, "calls")
        said = _told([python, str(Path(__file__).with_name("recorded.py")), str(calls)])
        print(said)
        for tag, wheel in wheels.items():
            target = TARGETS[tag]
            folder = Path(place, tag)
            folder.mkdir()
            libraries = links.libraries_of(wheel, folder)
            came = [emulators.tried(tag, target, libraries, calls)]
            if tag.startswith("manylinux") and target.is_x86:
                came.append(emulators.tried_levels(target, libraries, calls))
            runs = [run for one in came for run in one.runs]
            faults += [fault for one in came for fault in one.faults]
            size = f"{wheel.stat().st_size / 1024:.0f} KiB"
            rows.append(f"| `{tag}` | {size} | {', '.join(target.levels)} | {'; '.join(runs)} |")
            print(rows[-1])
    checked, wrong = _checked_by_python(python)
    faults += wrong
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    words = f"Built and run on {system}. Against NumPy in float64, from the installed wheel: {checked}.\n"
    text = words + "\n" + "\n".join(rows) + "\n"
    (dist / "wheels.md").write_text(text, encoding="utf-8")
    if write_docs:
        before, _, rest = _PAGE.read_text(encoding="utf-8").partition(_START)
        _PAGE.write_text(before + _START + text + _END + rest.partition(_END)[2], encoding="utf-8")
    print(words.strip())
    return faults


def _checked_by_python(python: str) -> tuple[str, list[str]]:
    """Let the check of the installed package judge each level that this processor has."""
    folder = Path(_told([python, "-c", "from ptycho_core.kernel import load; print(load._folder())"]))
    best = _told([python, "-c", "from ptycho_core.kernel import load_kernel as k; print(k('wheel').message)"])
    done, faults = [], []
    for path in sorted(folder.glob("step-*")):
        level = path.name.removeprefix("step-").rsplit("-", 2)[0]
        error = float(_told([python, "-m", "ptycho_core.kernel.check", str(path)]))
        done.append(f"{level} {error:.0e}")
        if not error < _LARGEST_ERROR:
            faults.append(f"{path.name}: off by {error:.1e} from NumPy")
        if f"{level})" in best:  # the highest that the processor has
            break
    else:
        faults.append(f"the installed wheel is not used: {best}")
    return ", ".join(done), faults


def _told(words: list[str]) -> str:
    """Return what a program says; where it fails, so does the check, in its words."""
    environment = {**os.environ, "PATH": str(Path(words[0]).parent)}  # no compiler
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=_LONGEST_S, check=False, env=environment
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    _main()
