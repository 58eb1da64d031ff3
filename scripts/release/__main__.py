"""Try a release as its users will meet it: from the files in `dist/` alone, in empty environments, offline.

`python scripts/release DIST WORK` needs twine in its environment; `nox -s release` makes one, and the files.
What others publish is downloaded into WORK/wheelhouse beforehand. `--light` leaves the packages out that need
PyTorch or TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from files import Release, release_of

ROOT = Path(__file__).resolve().parents[2]
#: What is installed, each into an empty environment -> what it has to import there.
ENVIRONMENTS = {
    "ptycho-config": ("ptycho_config",),
    "ptycho-core": ("ptycho_core", "ptycho_core.solver", "ptycho_core.figures"),
    "ptycho-dispatch": ("ptycho_dispatch.cli",),
    "ptycho-core-torch": ("ptycho_core_torch", "torch"),
    "ptycho-core-tf": ("ptycho_core_tf", "tensorflow"),
    "ptychopinn": ("ptycho", "ptycho_torch"),
}
HEAVY = ("ptycho-core-torch", "ptycho-core-tf")


def main() -> int:
    """Check the files, fetch what they need, cut the network, install each, run the demo."""
    parser = argparse.ArgumentParser(description="Try the files of a release in empty environments, offline.")
    parser.add_argument("dist", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--light", action="store_true", help="without what needs PyTorch or TensorFlow")
    parser.add_argument("--scan", default="siemens-star", help="what the demo reconstructs")
    given = parser.parse_args()
    release = release_of(given.dist, tuple(ENVIRONMENTS))
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    call(sys.executable, "-m", "twine", "check", "--strict", *map(str, release.files))
    names = [name for name in ENVIRONMENTS if not (given.light and name in HEAVY)]
    house = wheelhouse(release, names, work / "wheelhouse")
    for name in names:
        python = installed(release, name, house, work / "environment")
        for module in ENVIRONMENTS[name]:
            call(str(python), "-P", "-c", f"import {module}", cwd=work)
        call(str(python), "-m", "pip", "check")
        if name == "ptycho-dispatch":
            demo(release, python, given.scan, work / "demo")
    print(f"release {release.version}: {len(release.files)} files, {len(names)} packages installed offline")
    return 0


def wheelhouse(release: Release, names: list[str], house: Path) -> Path:
    """Download what others publish and our packages need; what is ours is taken from the release alone."""
    house.mkdir(exist_ok=True)
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:")
    places = ("--find-links", str(release.folder), "-c", str(ROOT / "constraints.txt"), "--dest", str(house))
    call(*pip, *places, *(str(release.wheel(name)) for name in names))
    for path in house.iterdir():
        if path.name in {file.name for file in release.files}:
            path.unlink()
    return house


def installed(release: Release, name: str, house: Path, home: Path) -> Path:
    """Make an empty environment, install one package there without any network, and return its Python."""
    shutil.rmtree(home, ignore_errors=True)
    call(sys.executable, "-m", "venv", str(home))
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    places = ("--find-links", str(release.folder), "--find-links", str(house))
    # Neither an index nor whatever the host's configuration of pip adds.
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    pip = (str(python), "-m", "pip", "install", "--quiet", "--no-index", *places)
    call(*pip, f"{name}=={release.version}", env=offline)
    return python


def demo(release: Release, python: Path, scan: str, folder: Path) -> None:
    """Reconstruct the scan of the demo, as its first users will.

    Raises:
        SystemExit: the result is not of this release, or has no picture.
    """
    shutil.rmtree(folder, ignore_errors=True)
    ptycho = python.with_name("ptycho.exe" if os.name == "nt" else "ptycho")
    kernel = () if release.wheel("ptycho-core").name.endswith("-any.whl") else ("--kernel", "wheel")
    call(str(ptycho), "reconstruct", scan, *kernel, "--output-dir", str(folder), cwd=folder.parent)
    record = json.loads((folder / "run.json").read_text("utf-8"))
    if record["versions"]["ptycho-core"] != release.version or not (folder / "overview.png").is_file():
        raise SystemExit(f"{folder}: the demo was not made by release {release.version}, or has no picture")
    print(f"demo: R = {record['data_residual']:.4f} in {record['timings_s']['total']:.1f} s")


def call(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Run a command that has to succeed, without what this environment tells Python.

    Raises:
        SystemExit: it did not; its own words stand above.
    """
    print("$", *words, flush=True)
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | (env or {})
    code = subprocess.run(words, cwd=cwd, env=surroundings, check=False).returncode
    if code:
        raise SystemExit(f"{words[0]} failed with exit code {code}")


if __name__ == "__main__":
    raise SystemExit(main())
