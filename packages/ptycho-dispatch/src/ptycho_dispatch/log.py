"""Where log lines go: to stderr and, once there is an output directory, to its `ptycho.log`."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptycho_config.errors import NotRegularError, OutputError
from ptycho_config.plaintext import one_line, plain
from ptycho_config.regular import kind_of, require_regular
from ptycho_dispatch.screen import tell

__all__ = [
    "FILE_ONLY",
    "LOG_FILE",
    "Screen",
    "file_in_run",
    "held_warnings",
    "logging_to",
    "writable_directory",
]

LOG_FILE = "ptycho.log"
#: A record that carries this attribute goes to the log file and not to the screen.
FILE_ONLY = "ptycho_file_only"
logger = logging.getLogger("ptycho")


class Screen(logging.Handler):
    """Writes plain lines to stderr, above a progress bar where one is shown."""

    console: Any = None  # a rich console while a progress bar is on it

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, FILE_ONLY, False):
            return
        line = self.format(record)
        if self.console is None:
            tell(line)
        else:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class PlainFormatter(logging.Formatter):
    """Formats a record as lines that hold nothing but text, whatever names stand in them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = plain(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(map(plain, super().formatException(ei).splitlines()))


class LogFile(logging.FileHandler):
    """Writes `ptycho.log`; where the disk is full it says so once, and the run goes on without it."""

    broken = False

    def _open(self) -> Any:  # Any: the stream that `logging` writes to
        """Open the file itself: no link is followed, and no FIFO or device written into.

        Raises:
            OutputError: something else stands under the name.
        """
        path = Path(self.baseFilename)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            if path.is_symlink():
                raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed")
            if path.exists():
                require_regular(path)
            stream = os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8")
            if kind := kind_of(os.fstat(stream.fileno()).st_mode):
                stream.close()
                raise NotRegularError(path, kind)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written ({error.strerror}). Remove it, or choose another place with "
                "`--output-dir`."
            ) from error
        return stream

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.broken:
            self.broken = True
            logger.warning("%s: cannot be written further (%s).", self.baseFilename, error.strerror)

    def emit(self, record: logging.LogRecord) -> None:
        if not self.broken:
            super().emit(record)

    def close(self) -> None:
        try:
            super().close()
        except OSError:
            # The last lines did not fit; `handleError` has said so, or the run failed for the same reason.
            self.broken = True


@contextmanager
def held_warnings() -> Iterator[list[str]]:
    """Collect warnings that come before there is a log; the caller says them when there is one."""
    held: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield held
    held += [one_line(str(warning.message)) for warning in caught]


@contextmanager
def logging_to(directory: Path | None, level: str, *, about: str = "") -> Iterator[Screen]:
    """Log to the screen from `level` up and, from INFO up, to the end of the directory's log file.

    Args:
        about: what a line on the screen is about, where it is not the only thing.

    What ends the run with an error goes to the file as well; on the screen it is the caller's last line.
    """
    screen = Screen(level)
    begin = f"{plain(about)}: ".replace("%", "%%") if about else ""
    screen.setFormatter(PlainFormatter(f"{begin}%(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [screen]
    if directory is not None:
        file = LogFile(directory / LOG_FILE, mode="a", encoding="utf-8")
        file.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
        file.setLevel("INFO")
        handlers.append(file)
    names = ("ptycho", "ptycho_core", "ptycho_config", "ptycho_dispatch")
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).propagate) for name in names}
    for name in names:
        logging.getLogger(name).setLevel("DEBUG")
        logging.getLogger(name).propagate = False
        for handler in handlers:
            logging.getLogger(name).addHandler(handler)
    shown, warnings.showwarning = warnings.showwarning, _log_warning
    try:
        yield screen
    except BaseException as error:
        text = one_line(str(error)) or type(error).__name__
        for handler in handlers[1:]:
            handler.handle(logger.makeRecord(logger.name, logging.ERROR, "", 0, text, (), None))
        raise
    finally:
        warnings.showwarning = shown
        for name in names:
            for handler in handlers:
                logging.getLogger(name).removeHandler(handler)
            level_before, logging.getLogger(name).propagate = before[name]
            logging.getLogger(name).setLevel(level_before)
        for handler in handlers:
            handler.close()


def _log_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    logger.warning("%s", one_line(str(message)))


def writable_directory(directory: Path) -> Path:
    """Create the output directory and try it before any work is done.

    Raises:
        OutputError: it cannot be written, or what stands under the name of a result is no file.
    """
    from ptycho_core.files import require_replaceable
    from ptycho_core.io import make_directory
    from ptycho_core.result.reconstruction import RESULT_FILES

    made = make_directory(directory)
    for name in RESULT_FILES:
        require_replaceable(made / name)
    return made


def file_in_run(directory: Path, name: str, output: str | None) -> Path:
    """Return where a command writes its file about a run: in the run's directory, or where `--output` says.

    Raises:
        OutputError: a directory stands there.
    """
    path = directory / name if output is None else Path(output).expanduser()
    if path.is_dir():
        raise OutputError(f"{path}: is a directory. Name a file with `--output {path / name}`.")
    return path
