"""The sound files that cases spoil: a small scan in every format, a result, a bundle, a compiled kernel."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Ground", "Source", "fork_and_wait", "lay_ground"]

ROOT = Path(__file__).resolve().parents[3]
SCAN, RESULT, BUNDLE, TRAINED = "scan.npz", "result", "bundle", "trained"


@dataclass(frozen=True)
class Source:
    """A scan in one format: its folder, the name in it, and the flags with which it is opened."""

    format: str
    folder: Path
    name: str
    flags: tuple[str, ...]

    def put(self, place: Path) -> tuple[str, ...]:
        """Copy it; return the words that name it: the source and its flags."""
        shutil.copytree(self.folder, place, dirs_exist_ok=True)
        return (self.name, *self.flags)


@dataclass(frozen=True)
class Ground:
    """Where the sound files are.

    Attributes:
        sources: format -> a scan in it.
        folder: holds `scan.npz`, the folders `result`, `bundle` and `cache`, and `trained` where there is
            PyTorch.
        modules: what a reconstruction, a report and the others import.
    """

    folder: Path
    sources: dict[str, Source]
    modules: tuple[str, ...]

    @property
    def scan(self) -> Path:
        return self.folder / SCAN

    @property
    def result(self) -> Path:
        return self.folder / RESULT

    def put(
        self, place: Path, words: str, *, scan: str = "scan.npz", results: tuple[str, ...] = ("result",)
    ) -> None:
        """Copy the scan and the result into a folder, where these words name them; without its pictures."""
        if scan in words:
            shutil.copyfile(self.scan, place / scan)
        for name in results:
            if name in words:
                shutil.copytree(self.result, place / name, ignore=shutil.ignore_patterns("*.png", "*.log"))

    @property
    def bundle(self) -> Path:
        return self.folder / BUNDLE / "wts.h5.zip"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def has_trained(self) -> bool:
        return (self.folder / TRAINED / "wts.h5.zip").is_file()


def fork_and_wait(work: Callable[[], Any]) -> int:
    """Run a function in a child and return the child's exit code; what it loads does not stay here."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lay_ground(folder: Path) -> Ground:
    """Make the sound files, in children, so that this process starts no thread and loads no kernel.

    Where they are all there from an earlier run they are taken as they are: cases spoil copies.
    """
    os.environ["PTYCHO_CACHE_DIR"] = str(folder / "cache")
    laid = (folder / "modules.json").is_file()  # which is written last
    folder.mkdir(parents=True, exist_ok=laid)
    for work in () if laid else (_write_formats, _write_bundle, _reconstruct):
        if fork_and_wait(lambda work=work: work(folder)) != 0:
            raise RuntimeError(f"the sound files could not be made ({work.__name__})")
    listed = json.loads((folder / "formats.json").read_text("utf-8"))
    sources = {
        name: Source(name, folder / "formats" / name, source, tuple(flags))
        for name, (source, flags) in listed.items()
    }
    modules = tuple(json.loads((folder / "modules.json").read_text("utf-8")))
    return Ground(folder, sources, modules)


def _write_formats(folder: Path) -> None:
    """Write the small scan in every format, and note the words that open it."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import h5py
    import numpy as np
    import scipy.io
    from format_files import WRITERS, small

    original = small()
    listed: dict[str, tuple[str, list[str]]] = {}
    for name, write in WRITERS.items():
        place = folder / "formats" / name
        place.mkdir(parents=True)
        written = write(place, original)
        flags: list[str] = []
        for key, value in written.options.items():
            text = value.name if isinstance(value, Path) else str(value)
            flags += [f"--{key.replace('_', '-')}", text]
        listed[name] = (written.path.name, flags)
    y, x = original.positions_px.T
    arrays = {"diffraction": original.counts, "xcoords": x, "ycoords": y, "probe": original.probe[0]}
    for name, more in {
        "matlab5": lambda path: scipy.io.savemat(
            path, {**arrays, "diffraction": original.counts.transpose(1, 2, 0)}
        ),
        "npz_packed": lambda path: np.savez_compressed(
            path, diff3d=original.counts, xcoords=x, ycoords=y, probeGuess=original.probe
        ),
        "plain_hdf5": lambda path: _write_plain(h5py, path, original),
    }.items():
        place = folder / "formats" / name
        place.mkdir()
        suffix = {"matlab5": ".mat", "npz_packed": ".npz", "plain_hdf5": ".h5"}[name]
        more(place / f"scan{suffix}")
        listed[name] = (f"scan{suffix}", [])
    try:
        import zarr
    except ImportError:
        pass
    else:
        place = folder / "formats" / "zarr"
        place.mkdir()
        store = zarr.open_group(str(place / "scan.zarr"), mode="w")
        store.create_array("diffraction", data=original.counts)
        store.create_array("positions", data=original.positions_px)
        store["positions"].attrs["units"] = "px"
        store.create_array("probe", data=original.probe)
        listed["zarr"] = ("scan.zarr", [])
    np.savez(folder / SCAN, diff3d=original.counts, xcoords=x, ycoords=y, probeGuess=original.probe)
    (folder / "formats.json").write_text(json.dumps(listed), encoding="utf-8")


def _write_plain(h5py: Any, path: Path, original: Any) -> None:
    with h5py.File(path, "w") as file:
        file["dp"] = original.counts
        file["positions"] = original.positions_px
        file["positions"].attrs["units"] = "px"
        file["probe"] = original.probe


def _write_bundle(folder: Path) -> None:
    """Write the small bundle of the tests."""
    sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
    from small_bundle import small_bundle

    from ptycho_core.bundle import write_bundle

    write_bundle(folder / BUNDLE, small_bundle())


def _reconstruct(folder: Path) -> None:
    """Reconstruct, report and inspect once: the result, the kernel in the cache, the modules they need."""
    os.chdir(folder)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    from ptycho_dispatch.cli import COMMANDS, main

    for words in (
        ("reconstruct", SCAN, "--effort", "fast", "--diagnose", "off", "--output-dir", RESULT),
        ("report", RESULT, "--output", "report.html"),
        ("compare", RESULT, RESULT, "--output-dir", "compared"),
        ("inspect", SCAN),
        ("watch", SCAN, "--replay", "2000", "--timeout", "0.5", "--output-dir", "watched"),
    ):
        main(list(words))
    ours = {f"ptycho_dispatch.{module}" for module, _ in COMMANDS.values()}
    modules = sorted(ours | {name for name in sys.modules if not name.startswith(("__", "_pytest"))})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
