"""What is right after an act: exit code, one line, whole files, inputs as they were, bounded memory."""

from __future__ import annotations

import csv
import json
import re
import traceback
import zipfile
from pathlib import Path

from injection.case import CLEAN, Act
from injection.running import Ran

__all__ = ["Finding", "Inputs", "inputs_of", "judged"]

#: Control characters that a terminal or the reader of a log would obey.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SCRATCH = re.compile(r"^\..*\.part$|^\.ptycho-write-test$")
#: What may follow a line of warning or come before the last line; none of it is a failure's one line.
LOG_FILE = "ptycho.log"

Finding = tuple[str, str]
#: Path -> (size, time of the last change) of each file that was there before.
Inputs = dict[str, tuple[int, int]]


def inputs_of(place: Path) -> Inputs:
    """Note size and time of all files in a folder."""
    return {str(path): _stamp(path) for path in place.rglob("*") if path.is_file() and not path.is_symlink()}


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def judged(act: Act, ran: Ran, place: Path, before: Inputs, *, keeps_parts: bool) -> Finding:
    """Say what came of it: `clean`, or what is wrong and in which words."""
    coded = (act.environment.get("PYTHONIOENCODING") or "utf-8").partition(":")[0]
    out, err = ran.out.decode(coded, "replace"), ran.err.decode(coded, "replace")
    killed = act.stop is not None and act.stop.number == 9
    code = ran.code
    if "Traceback (most recent call last)" in err + out + _log(place):
        return "traceback", _last(err)
    if code is None:
        return "hang", f"no end after {ran.seconds:.0f} s"
    died_rightly = code < 0 and act.stop is not None and -code == act.stop.number and (killed or act.may_die)
    if code < 0 and not died_rightly:
        return "crash by signal", f"signal {-code}, {_last(err)}"
    broken = _half_written(place, before, keeps_parts=keeps_parts or killed)
    if broken:
        return "half-written file", broken
    if not died_rightly and code not in act.codes:
        return "wrong exit code", f"{code} and not {sorted(act.codes)}: {_last(err)}"
    if ran.peak_bytes > act.memory_bytes:
        return "too much memory", f"{ran.peak_bytes >> 20} MB"
    return _promises(act, ran, out, err, place, before)


def _promises(act: Act, ran: Ran, out: str, err: str, place: Path, before: Inputs) -> Finding:
    """What else is promised: one line, plain text, the inputs as they were, and what the case asks."""
    code = ran.code or 0
    if act.told and not act.program and code > 0 and code < 128 and act.stderr == "file":
        last = _last(err)
        if not last.startswith(("ptycho: ", "ptycho ")) and "error:" not in last:
            return "broken promise", f"exit {code} and no line that says why: {last!r}"
        if "--debug shows where" in last:
            return "broken promise", f"Python's words: {last}"
    for name, text in (("screen", out + err), (LOG_FILE, _log(place))):
        found = CONTROL.search(text)
        if found:
            return "broken promise", f"a control character {found[0]!r} on the {name}"
    changed = [
        path for path, stamp in before.items() if _changed(Path(path).relative_to(place), place, stamp)
    ]
    if "--resume" in act.words:
        changed = []  # the result that it goes on from is where the new one goes
    if changed:
        return "broken promise", f"changed or gone: {', '.join(changed)}"
    if act.check:
        try:
            exec(
                compile(act.check, "<check>", "exec"),
                {"place": place, "at_signal": ran.at_signal.decode(errors="replace")},
            )
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1].lineno or 0
            line = act.check.splitlines()[where - 1] if where <= len(act.check.splitlines()) else ""
            return (
                "broken promise",
                f"{type(error).__name__} {error}: {line.strip()} (exit {code}, {_last(err)})",
            )
    return CLEAN, ""


def _changed(path: Path, place: Path, stamp: tuple[int, int]) -> bool:
    # What is there to be replaced, and frames that come while a watch runs.
    if path.parts[0].startswith("out") or path.parts[0] in ("cache", "later"):
        return False
    try:
        return _stamp(place / path) != stamp
    except OSError:
        return True


def _log(place: Path) -> str:
    texts = []
    for path in place.glob(f"out*/{LOG_FILE}"):
        if path.is_file() and not path.is_symlink():
            texts.append(path.read_text("utf-8", "replace"))
    return "".join(texts)


def _last(err: str) -> str:
    lines = err.strip().splitlines()
    return lines[-1][:300] if lines else ""


def _half_written(place: Path, before: Inputs, *, keeps_parts: bool) -> str:
    """Name the first new file that cannot be read to its end, or a temporary one that stayed."""
    for path in sorted(place.rglob("*")):
        if path.is_symlink() or not path.is_file() or before.get(str(path)) == _stamp(path):
            continue
        if SCRATCH.match(path.name):
            if not keeps_parts:
                return f"{path.name} stayed"
            continue
        try:
            _read_whole(path)
        except Exception as error:
            return f"{path.relative_to(place)}: {type(error).__name__}: {error}"
    return ""


def _read_whole(path: Path) -> None:
    """Read a file to its end as what its name says; raises where it is cut short."""
    import h5py
    import numpy as np

    with path.open("rb") as file:
        is_page = file.read(9).lower() == b"<!doctype"  # under whatever name somebody asked for
    match ".html" if is_page else path.suffix.lower():
        case ".npz":
            with np.load(path, allow_pickle=False) as archive:
                for key in archive.files:
                    archive[key]
        case ".h5" | ".mat":
            with h5py.File(path) as file:
                file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)
        case ".json":
            json.loads(path.read_text("utf-8"))
        case ".csv":
            text = path.read_text("utf-8")
            rows = list(csv.reader(text.splitlines()))
            if not text.endswith("\n") or len({len(row) for row in rows}) != 1:
                raise ValueError("rows of different length")
        case ".png":
            from PIL import Image

            with Image.open(path) as picture:
                picture.load()
        case ".tif":
            import tifffile

            tifffile.imread(path)
        case ".html":
            if not path.read_text("utf-8").rstrip().endswith("</html>"):
                raise ValueError("it does not end where a page ends")
        case ".zip":
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise ValueError("a member is damaged")
