"""Text from outside as plain text: names, attributes and messages that somebody else wrote.

A file may be called anything, and whatever stands in an attribute or in a compiler's message ends on a
terminal and in a log. There it may neither colour, clear nor move anything, nor look like a line of ours.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable

__all__ = ["excerpt", "one_line", "plain", "typed"]

#: What a terminal obeys instead of showing it: control characters, line separators, marks that turn the
#: direction of writing; and halves of a character, as which Python keeps bytes of a name that are no UTF-8.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_BYTE = 0xDC00


def plain(text: str) -> str:
    r"""Return a text with everything in it that a terminal would obey written out, as `\n` and `\x1b`.

    Example:
        >>> print(plain("scan\n\x1b[31m"))
        scan\n\x1b[31m
    """
    return text if text.isascii() and text.isprintable() else _OBEYED.sub(_written_out, text)


def one_line(text: str) -> str:
    """Return a text of several lines as one that is plain."""
    return plain(" ".join(text.split()))


def excerpt(text: str, longest: int = 160) -> str:
    """Return the beginning of a text as one line that is plain, for a message: it may be of any length."""
    shown = plain(text[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def typed(words: Iterable[str]) -> str:
    r"""Return a command as it is typed into a shell; words that are not plain as `$'m\xfcller'`."""
    return " ".join(shlex.quote(word) if plain(word) == word else _quoted(word) for word in words)


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if _BYTE + 0x80 <= code <= _BYTE + 0xFF:
        code -= _BYTE  # the byte that stood in the name
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _quoted(word: str) -> str:
    try:
        in_bytes = os.fsencode(word)
    except UnicodeEncodeError:  # no name of a file: it holds half a character
        in_bytes = word.encode("utf-8", "replace")
    shown = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in in_bytes
    )
    return "$'" + "".join(shown) + "'"
