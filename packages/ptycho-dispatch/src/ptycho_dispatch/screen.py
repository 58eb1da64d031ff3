"""What a command says on the screen: plain text in whatever encoding is there.

It is never the end of the work: a full disk, a closed stream or a reader that has gone (`ptycho … | head -1`)
costs the words and not the result.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import warnings
from typing import Any, TextIO

from ptycho_config.errors import EXIT_FAILED
from ptycho_config.plaintext import one_line, plain

__all__ = ["Outputs", "say", "tell"]


def say(text: str = "") -> None:
    """Print a line of the answer."""
    print(plain(text))


def tell(text: str) -> None:
    """Print a line beside the answer, to stderr."""
    if sys.stdout is not None:  # so that lines stand in the order in which they were said
        sys.stdout.flush()
    print(plain(text), file=sys.stderr, flush=True)


class Outputs:
    """The two streams of a process of ours, put in the place of Python's own.

    Attributes:
        stdout: what the answer is written to; remembers whether all of it could be.
    """

    def __init__(self) -> None:
        _open_what_is_closed()
        self.stdout = _Forgiving(1)
        sys.stdout = _text_stream(self.stdout, sys.stdout)
        sys.stderr = _text_stream(_Forgiving(2), sys.stderr, line_buffering=True)
        warnings.showwarning = _tell_warning

    def end(self, code: int) -> int:
        """Write out what is still waiting; the exit code, a failure where the answer got lost."""
        sys.stdout.flush()
        lost = self.stdout.lost
        if lost is None or lost.errno == errno.EPIPE:  # a reader that has gone had seen enough
            return code
        tell(f"ptycho: the answer could not be written to the screen ({lost.strerror}).")
        return code or EXIT_FAILED


class _Forgiving(io.FileIO):
    """A file descriptor that ends no run: what cannot be written is dropped, and that remembered."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost: OSError | None = None

    def write(self, data: Any) -> int:
        if self.lost is None:
            try:
                while (written := super().write(data)) is None:  # pyright: ignore[reportUnnecessaryComparison]
                    select.select([], [self], [])  # somebody made it a stream that does not wait
                return written
            except OSError as error:
                self.lost = error
        return len(memoryview(data).cast("B"))


def _text_stream(raw: io.FileIO, before: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    """Make a stream like Python's own, which writes out what the encoding does not have."""
    unbuffered = bool(getattr(before, "write_through", False))
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=line_buffering or raw.isatty(),
        write_through=unbuffered,
    )


def _open_what_is_closed() -> None:
    """Put the null device where a standard stream is closed: the next file would be opened in its place.

    What is written to a closed stdout is lost, and must be seen to be: it is opened for reading.
    """
    for descriptor, way in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, way), True)


def _tell_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning that comes before there is a log as one of ours, without the place in the code."""
    tell(f"WARNING {one_line(str(message))}")
