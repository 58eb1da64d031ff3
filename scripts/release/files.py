"""The files of a release: of each package one sdist and its wheels, all of one version, and nothing else."""

from __future__ import annotations

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

__all__ = ["Release", "release_of"]


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
            raise SystemExit(f"{self.folder}: no wheel of {package} suits this host")
        return min(fitting)[1]


def release_of(folder: Path, packages: Sequence[str]) -> Release:
    """Read the names of the files in a folder.

    Raises:
        SystemExit: a package has no sdist or no wheel, versions differ, or something else lies there.
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
    return Release(
        folder.resolve(), versions.pop(), {name: tuple(some) for name, some in wheels.items()}, tuple(files)
    )
