"""What goes into a bug report: the run's own texts without names, this installation, a small picture."""

from __future__ import annotations

import getpass
import json
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptycho_config.errors import DataError
from ptycho_config.plaintext import one_line
from ptycho_config.regular import open_regular
from ptycho_dispatch.audit.run_record import read_record
from ptycho_dispatch.bug_report.anonymous import Anonymous, tells_nothing
from ptycho_dispatch.log import LOG_FILE

__all__ = ["Gathered", "as_bytes", "gather", "listed"]

_RECORD_FILE = "run.json"
#: The end of a log tells what went wrong.
_LOG_BYTES = 2 << 20
_RECORD_BYTES = 16 << 20
_THUMBNAIL_PX = 256
#: Variables that change how a run goes; those of a scheduler hold names too, and only their numbers are told.
_VARIABLES = ("PTYCHO_", "OMP_", "OPENBLAS_", "MKL_", "CUDA_", "NCCL_", "TORCH_", "TF_")
_NUMBERS_ALONE = ("SLURM_", "PBS_")
#: Fields of `run.json` in which somebody's paths stand, whatever they look like.
_PATH_FIELDS = ("dir", "file", "path", "data", "config", "scans")


@dataclass(frozen=True)
class Gathered:
    """What a report holds.

    Attributes:
        files: name in the report -> its content.
        absent: what is not in it, each with the reason.
        n_paths: how many paths and names of files were replaced.
    """

    files: Mapping[str, bytes]
    absent: tuple[str, ...]
    n_paths: int


def gather(directory: Path, *, thumbnail: bool = True) -> Gathered:
    """Read what a run left, as far as it got, and describe this installation.

    Raises:
        DataError: the directory is none, or no run has written there.
    """
    if not directory.is_dir():
        raise DataError(
            f"{directory}: there is no such run. Expected the output directory of `ptycho reconstruct`, "
            "`train`, `infer` or `watch`, even of one that failed."
        )
    log, no_log = _read(directory / LOG_FILE, _LOG_BYTES, from_end=True)
    text, no_record = _read(directory / _RECORD_FILE, _RECORD_BYTES)
    if log is None and text is None:
        raise DataError(
            f"{directory}: no run has written there; it has neither {LOG_FILE} nor {_RECORD_FILE}. Name the "
            "directory that was given with `--output-dir`."
        )
    absent = [reason for reason in (no_log, no_record) if reason]
    record = None if text is None else _record(directory)
    if text is not None and record is None:
        absent.append(f"{_RECORD_FILE} as it should be: it is damaged, and stands here as text")
    anonymous = _anonymous(directory, record or {})
    files: dict[str, bytes] = {}
    if log is not None:
        files[LOG_FILE] = as_bytes(anonymous.text(log))
    if text is not None:
        clean = anonymous.text(text) if record is None else _json(anonymous.value(record))
        files[_RECORD_FILE] = as_bytes(clean)
    files["installation.json"] = as_bytes(_json(anonymous.value(_installation())))
    if thumbnail:
        png, reason = _thumbnail(directory)
        if png is None:
            absent.append(f"thumbnail.png: {anonymous.text(reason)}")
        else:
            files["thumbnail.png"] = png
    else:
        absent.append("thumbnail.png: it was not wanted")
    return Gathered(files, tuple(absent), anonymous.replaced)


def _read(path: Path, most_bytes: int, *, from_end: bool = False) -> tuple[str | None, str]:
    """Read a text, or say why it is not there."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > most_bytes and not from_end:
                return None, f"{path.name}: it has {size} bytes, more than {most_bytes}"
            cut = size > most_bytes
            if cut:
                file.seek(size - most_bytes)
                file.readline()  # the rest of a line
            content = file.read(most_bytes)
    except FileNotFoundError:
        return None, f"{path.name}: the run has written none"
    except OSError as error:
        return None, f"{path.name}: it cannot be read ({error.strerror or type(error).__name__})"
    text = content.decode("utf-8", errors="replace")
    return f"... the first {size - len(content)} bytes are left out\n{text}" if cut else text, ""


def _record(directory: Path) -> dict[str, Any] | None:
    try:
        return read_record(directory)[1]
    except DataError:
        return None


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def as_bytes(text: str) -> bytes:
    """Encode a text; half characters, as bytes of a name that are none, are written out."""
    return text.encode("utf-8", errors="backslashreplace")


def _anonymous(directory: Path, record: Mapping[str, Any]) -> Anonymous:
    """Know the names of this user, this host, this run and its scan."""
    from ptycho_core.datasets import dataset_names
    from ptycho_core.result.reconstruction import RESULT_FILES

    paths = set(_paths_of(record))
    with suppress(OSError, RuntimeError):
        folders = (directory, Path.home(), Path.cwd(), Path(sys.prefix), Path(sys.base_prefix))
        paths |= {str(one) for folder in folders for one in (folder, folder.absolute(), folder.resolve())}
    known = record.get("input")
    scan = known if isinstance(known, dict) else {}
    paths |= {
        value for name, value in os.environ.items() if name.startswith("PTYCHO_") and _is_path(name, value)
    }
    launched = record.get("launched")
    of_ranks = [launched.get("host")] if isinstance(launched, dict) else []
    hosts = [*_hosts(), *(host for host in of_ranks if isinstance(host, str))]
    names = dict.fromkeys(_users(), "<user>") | dict.fromkeys(hosts, "<host>")
    for name in (record.get("scan"), scan.get("scan"), scan.get("file")):
        if isinstance(name, str) and name not in dataset_names():
            stem = Path(name).name
            names |= {stem: "<scan>", stem.split(".")[0]: "<scan>"}
    return Anonymous(names, paths - set(dataset_names()), (LOG_FILE, _RECORD_FILE, *RESULT_FILES))


def _paths_of(record: Mapping[str, Any]) -> Iterator[str]:
    """List what was typed or recorded as a path; a word that stands in every log is none."""
    words = record.get("command")
    found = [word for word in words[1:] if isinstance(word, str)] if isinstance(words, list) else []
    settings = record.get("settings")
    for fields in settings.values() if isinstance(settings, dict) else ():
        for field, setting in fields.items() if isinstance(fields, dict) else ():
            value = setting.get("value") if isinstance(setting, dict) else None
            found += [value] if isinstance(value, str) and _is_path(field, value) else []
    yield from (path for path in found if not path.startswith("-") and not tells_nothing(path))


def _is_path(name: str, value: str) -> bool:
    """Whether a setting or a variable of that name holds a path."""
    return name.lower().rpartition(".")[2].rpartition("_")[2] in _PATH_FIELDS or "/" in value or "\\" in value


def _users() -> Iterator[str]:
    with suppress(OSError, KeyError, ImportError):
        yield getpass.getuser()
    yield from (
        os.environ[name] for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER") if name in os.environ
    )
    with suppress(RuntimeError):
        yield Path.home().name
    with suppress(ImportError, KeyError, AttributeError):
        import pwd

        yield pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0]


def _hosts() -> Iterator[str]:
    for name in (platform.node(), socket.gethostname(), os.environ.get("SLURMD_NODENAME", "")):
        yield from {name, name.split(".")[0]}


def _installation() -> dict[str, Any]:
    """Describe what would run here: versions, hardware, arrays, backends, variables."""
    from ptycho_core.arrays import array_libraries
    from ptycho_core.backend import discover_backends
    from ptycho_core.memory import in_words, memory_bytes
    from ptycho_core.result.provenance import hardware, versions

    memory = memory_bytes()
    return {
        "versions": versions(),
        "python": f"{platform.python_implementation()} {sys.version}",
        "hardware": {
            **hardware(),
            "processor": _processor(),
            "memory": None if memory is None else in_words(memory),
        },
        "arrays": {name: _arrays(load) for name, load in array_libraries().items()},
        "backends": _asked(
            lambda: {name: _backend(backend) for name, backend in discover_backends().items()}
        ),
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(_VARIABLES) or (name.startswith(_NUMBERS_ALONE) and value.isdecimal())
        },
    }


def _asked(question: Callable[[], Any]) -> Any:  # Any: whatever JSON can hold
    """Answer a question of this installation; a failure may be what the report is about."""
    try:
        return question()
    except Exception as error:
        return f"{type(error).__name__}: {one_line(str(error))}"


def _arrays(load: Callable[[], Any]) -> str:
    def answer() -> str:
        library = load()
        if not library.available():
            return "its package is not installed"
        return "cpu, cuda" if library.sees_gpu() else "cpu"

    return _asked(answer)


def _backend(backend: Any) -> str:
    def answer() -> str:
        found = backend.availability()
        return ", ".join(found.devices) if found.installed else found.reason

    return _asked(answer)


def _processor() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor()


def _thumbnail(directory: Path) -> tuple[bytes | None, str]:
    """Draw amplitude and phase of the object side by side, small; or say why not."""
    from ptycho_core import Reconstruction
    from ptycho_core.figures import thumbnail_png

    try:
        png = thumbnail_png(Reconstruction.load(directory), _THUMBNAIL_PX)
    except Exception as error:  # a result that cannot be drawn may be what the report is about
        return None, one_line(str(error)) or type(error).__name__
    return png, "" if png else "the data carry no image"


def listed(lines: Iterable[str]) -> str:
    """Write lines as a list."""
    return "".join(f"- {line}\n" for line in lines)
