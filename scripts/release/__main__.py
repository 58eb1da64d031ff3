"""Try a release as its users will meet it: from the files in `dist/` alone, in empty environments, offline.

`python scripts/release DIST WORK` needs twine in its environment; `nox -s release` makes one, and the files.
What others publish is fetched into WORK/wheelhouse beforehand, and the demo's scan into the cache; all other
commands have no network, where this host can take it away. `--light` leaves out what needs PyTorch or
TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from files import Release, release_of
from surroundings import call, without_network
from version import faults_of

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
    if faults := faults_of(release.version):
        raise SystemExit("\n".join(faults))
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    mend = "mend what twine names in pyproject.toml or README.md of a package and run `nox -s release` again"
    call(sys.executable, "-m", "twine", "check", "--strict", *map(str, release.files), otherwise=mend)
    names = [name for name in ENVIRONMENTS if not (given.light and name in HEAVY)]
    house = wheelhouse(release, names, work / "wheelhouse")
    cut = bool(without_network())
    if not cut:
        print("`unshare --net` does not work here: commands keep the network, and pip is told to use none")
    for name in names:
        settings = f"packages/{name}/pyproject.toml"
        python = installed(release, name, house, work / "environment")
        for module in ENVIRONMENTS[name]:
            lacks = f"where a module is missing add its package to the dependencies in {settings}"
            call(str(python), "-P", "-c", f"import {module}", cwd=work, otherwise=lacks)
        call(str(python), "-m", "pip", "check", otherwise=f"make the versions in {settings} agree")
        if name == "ptycho-dispatch":
            demo(release, python, given.scan, work / "demo")
    for path in release.files:
        print(f"{path.stat().st_size / 1000:7.0f} kB  {path.name}")
    how = "without a network" if cut else "with no index"
    print(f"release {release.version}: {len(release.files)} files, {len(names)} packages installed {how}")
    return 0


def wheelhouse(release: Release, names: list[str], house: Path) -> Path:
    """Download what others publish and our packages need; what is ours is taken from the release alone."""
    house.mkdir(exist_ok=True)
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:")
    places = ("--find-links", str(release.folder), "-c", str(ROOT / "constraints.txt"), "--dest", str(house))
    lacks = (
        "what our packages need was not fetched: is there a network, and a wheel of each for this Python? "
        "`-- --light` leaves PyTorch and TensorFlow out"
    )
    wheels = [str(release.wheel(name)) for name in names]
    call(*pip, *places, *wheels, network=True, otherwise=lacks)
    for path in house.iterdir():
        if path.name in {file.name for file in release.files}:
            path.unlink()
    return house


def installed(release: Release, name: str, house: Path, home: Path) -> Path:
    """Make an empty environment, install one package there from the files alone, and return its Python."""
    shutil.rmtree(home, ignore_errors=True)
    venv = "a Python with venv and pip is needed: Debian's is python3-venv"
    call(sys.executable, "-m", "venv", str(home), otherwise=venv)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    places = ("--find-links", str(release.folder), "--find-links", str(house))
    pip = (str(python), "-m", "pip", "install", "--quiet", "--no-index", *places)
    lacks = (
        f"what {name} needs is neither in {release.folder} nor in {house}: compare the dependencies in "
        f"packages/{name}/pyproject.toml"
    )
    call(*pip, f"{name}=={release.version}", otherwise=lacks)
    return python


def demo(release: Release, python: Path, scan: str, folder: Path) -> None:
    """Reconstruct the scan of the demo, as its first users will.

    Raises:
        SystemExit: the result is not of this release, or has no picture.
    """
    shutil.rmtree(folder, ignore_errors=True)
    ptycho = python.with_name("ptycho.exe" if os.name == "nt" else "ptycho")
    kernel = () if release.wheel("ptycho-core").name.endswith("-any.whl") else ("--kernel", "wheel")
    if Path(scan).exists():
        scan = str(Path(scan).resolve())
    else:
        beforehand = "give a file, `-- --scan FILE`, or name the folder with the data sets in PTYCHO_DATA_DIR"
        call(str(ptycho), "data", "fetch", scan, network=True, otherwise=beforehand)
    words = (str(ptycho), "reconstruct", scan, *kernel, "--output-dir", str(folder))
    call(*words, cwd=folder.parent, otherwise=f"its own words stand above; {python.parent} is kept")
    record = json.loads((folder / "run.json").read_text("utf-8"))
    if record["versions"]["ptycho-core"] != release.version or not (folder / "overview.png").is_file():
        raise SystemExit(f"{folder}: the demo was not made by release {release.version}, or has no picture")
    print(f"demo: R = {record['data_residual']:.4f} in {record['timings_s']['total']:.1f} s")


if __name__ == "__main__":
    raise SystemExit(main())
