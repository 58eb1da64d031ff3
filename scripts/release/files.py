"""The files of a release: of each package one sdist and its wheels, all of one version, and nothing else.

`python scripts/release/files.py DIST` lists the wheel of each package that suits this host.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.tags import sys_tags
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)

__all__ = ["LARGEST_WHEEL_BYTES", "PACKAGES", "Release", "release_of"]

#: By name, as pip knows them.
PACKAGES = tuple(
    sorted(path.parent.name for path in Path(__file__).resolve().parents[2].glob("packages/*/pyproject.toml"))
)
#: Ours hold code, and some a compiled kernel; a wheel that is larger took something else along.
LARGEST_WHEEL_BYTES = 1_500_000


@dataclass(frozen=True)
class Release:
    """A folder of finished files.

    Attributes:
        version: of all of them.
        wheels: name of a package -> its wheels.
        files: wheels and sdists, by name.
    """

    folder: Path
    version: str
    wheels: dict[str, tuple[Path, ...]]
    files: tuple[Path, ...]

    def wheel(self, package: str) -> Path:
        """Choose the wheel of a package that suits this host best, as pip does.

        Raises:
            SystemExit: none does.
        """
        ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
        fitting = [
            (min(ranks[tag] for tag in tags if tag in ranks), path)
            for path in self.wheels[package]
            if not (tags := parse_wheel_filename(path.name)[3]).isdisjoint(ranks)
        ]
        if not fitting:
            raise SystemExit(
                f"{self.folder}: no wheel of {package} suits this host; run `nox -s release` here, "
                "with a Python that we support"
            )
        return min(fitting)[1]


def release_of(folder: Path, packages: Sequence[str]) -> Release:
    """Read the names of the files in a folder.

    Raises:
        SystemExit: a package has no sdist or no wheel, versions differ, a wheel is too large, or something
            else lies there.
    """
    wheels: dict[str, list[Path]] = {name: [] for name in packages}
    sdists: dict[str, Path] = {}
    versions: set[str] = set()
    files = sorted(folder.resolve().iterdir()) if folder.is_dir() else []
    for path in files:
        try:
            if path.suffix == ".whl":
                name, version, *_ = parse_wheel_filename(path.name)
                wheels[name].append(path)
            else:
                name, version = parse_sdist_filename(path.name)
                if name not in wheels:
                    raise KeyError(name)
                sdists[name] = path
        except (InvalidWheelFilename, InvalidSdistFilename, KeyError):
            raise SystemExit(
                f"{path}: is no file of a release; `nox -s release` makes the folder anew"
            ) from None
        versions.add(str(version))
    lacking = [name for name in packages if name not in sdists or not wheels[name]]
    if lacking:
        raise SystemExit(f"{folder}: sdist or wheel of {', '.join(lacking)} is missing; run `nox -s release`")
    if len(versions) != 1:
        raise SystemExit(
            f"{folder}: holds several versions, {', '.join(sorted(versions))}; run `nox -s release`"
        )
    for path in files:
        n_bytes = path.stat().st_size
        if path.suffix == ".whl" and n_bytes > LARGEST_WHEEL_BYTES:
            raise SystemExit(
                f"{path}: {n_bytes} bytes, more than {LARGEST_WHEEL_BYTES}; `unzip -lv` tells "
                "what is large, [tool.hatch.build.targets.wheel] of the package's pyproject.toml what goes in"
            )
    return Release(
        folder.resolve(), versions.pop(), {name: tuple(some) for name, some in wheels.items()}, tuple(files)
    )


if __name__ == "__main__":
    found = release_of(Path(sys.argv[1]), PACKAGES)
    print(*map(found.wheel, PACKAGES), sep="\n")
