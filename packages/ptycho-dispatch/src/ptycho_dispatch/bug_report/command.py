"""`ptycho bug-report RUN`: one file to attach to an issue."""

from __future__ import annotations

import argparse
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ptycho_config.errors import ConfigError, DataError, OutputError
from ptycho_config.regular import open_regular
from ptycho_dispatch.bug_report.contents import Gathered, as_bytes, gather, listed
from ptycho_dispatch.log import file_in_run
from ptycho_dispatch.screen import say

__all__ = ["EXAMPLES", "REPORT_FILE", "add_arguments", "run"]

EXAMPLES = (
    "ptycho bug-report reconstruction",
    "ptycho bug-report reconstruction --no-thumbnail --output for-the-issue.zip",
    "ptycho bug-report reconstruction --with-data scan.npz",
)
REPORT_FILE = "bug-report.zip"
_NAMES = "Paths, names of files, of the scan, of users and of hosts are replaced in all texts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run, the place of the report, and what else goes into it."""
    parser.add_argument(
        "run_dir", metavar="RUN", help="output directory of a run, of one that failed or was interrupted too"
    )
    parser.add_argument(
        "--output", metavar="FILE", help=f"the file to write; {REPORT_FILE} in the run when not given"
    )
    parser.add_argument(
        "--no-thumbnail", action="store_true", help="leave the small picture of the object out"
    )
    parser.add_argument(
        "--with-data",
        metavar="FILE",
        nargs="+",
        default=[],
        help="also put these files in, as they are; without it nothing of the data goes along",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the report.

    Raises:
        DataError: there is no such run, or a file to put in cannot be read.
        OutputError: the report cannot be written.
    """
    directory = Path(arguments.run_dir).expanduser()
    path = file_in_run(directory, REPORT_FILE, arguments.output)
    data = _data_files(arguments.with_data, path)
    gathered = gather(directory, thumbnail=not arguments.no_thumbnail)
    _write(path, gathered, data)
    say(f"bug report: {path} ({path.stat().st_size / 1e3:.0f} kB): {', '.join([*gathered.files, *data])}")
    for reason in gathered.absent:
        say(f"not in it: {reason}")
    if data:
        say("The files under data/ are as they were: names and paths in them are not replaced.")
    say(f"{_NAMES}. Look into it before you send it.")
    return 0


def _data_files(given: Sequence[str], output: Path) -> dict[str, Path]:
    """Name each file in the report.

    Raises:
        DataError: one cannot be read.
        ConfigError: two have the same name, or one is the report.
    """
    named: dict[str, Path] = {}
    for text in given:
        path = Path(text).expanduser()
        try:
            open_regular(path).close()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise DataError(
                f"{path}: cannot be read ({reason}). Name files after `--with-data`, each by its path."
            ) from error
        name = f"data/{as_bytes(path.name).decode()}"
        if name in named:
            raise ConfigError(
                f"{path} and {named[name]} have the same name. Put one of them in, or rename it."
            )
        if path.resolve() == output.resolve():
            raise ConfigError(f"{path} is the report itself. Choose another file with `--output`.")
        named[name] = path
    return named


def _write(path: Path, gathered: Gathered, data: dict[str, Path]) -> None:
    from ptycho_core.files import atomic_path
    from ptycho_core.io import make_directory

    try:
        make_directory(path.parent)
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, content in {"README.txt": as_bytes(_about(gathered, data)), **gathered.files}.items():
                # No date: it would be that of the writer's clock.
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
            for name, file in data.items():
                entry = zipfile.ZipInfo(name)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.file_size = file.stat().st_size
                with open_regular(file) as source, archive.open(entry, "w", force_zip64=True) as member:
                    shutil.copyfileobj(source, member, 1 << 20)
    except OutputError as error:
        cause = error.__cause__
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)
        raise OutputError(
            f"{path}: the bug report cannot be written ({reason}). Choose another place with `--output FILE`."
        ) from error


def _about(gathered: Gathered, data: dict[str, Path]) -> str:
    holds = [*gathered.files, *data]
    text = f"A bug report of ptycho, made by `ptycho bug-report`. It holds\n\n{listed(holds)}\n"
    if gathered.absent:
        text += f"and does not hold\n\n{listed(gathered.absent)}\n"
    text += f"{_NAMES}: {gathered.n_paths} paths. Lists of more than 256 values are left out of run.json.\n"
    if data:
        return text + "What lies under data/ was named by the sender and is as it was.\n"
    return text + "Nothing of the measured data is in it.\n"
