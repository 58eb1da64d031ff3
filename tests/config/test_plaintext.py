"""Text from outside: written out where a terminal would obey it, and typed so that a shell reads it back."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptycho_config.plaintext import excerpt, one_line, plain, typed


def test_what_is_plain_stays_and_what_is_not_is_written_out() -> None:
    assert plain("Größe µ, 試料 (1)") == "Größe µ, 試料 (1)"
    assert plain("a\x1b[31m\nb\r\x07\x9b") == r"a\x1b[31m\nb\r\x07\x9b"
    assert plain("\u202egnp.exe\u2028x") == r"\u202egnp.exe\u2028x"
    assert plain(os.fsdecode(b"m\xfcller")) == r"m\xfcller"
    assert excerpt("a\n" + "b" * 10**6, 20) == r"a\nbbbbbbbbbbbbbb..."
    assert excerpt("\x1b" * 5, 20) == r"\x1b" * 5
    assert one_line("first\n  second\x1b") == r"first second\x1b"


@given(st.text(alphabet=st.characters()))
def test_nothing_that_is_plain_is_obeyed(text: str) -> None:
    shown = plain(text)
    shown.encode()
    assert plain(shown) == shown
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize(
    "name", [b"scan.npz", b"a b'c", b"m\xfcller", b"\x1b[31m\n'\\x", "試料\u2028".encode()]
)
def test_a_shell_reads_back_what_was_typed(name: bytes) -> None:
    words = typed(["printf", "%s", os.fsdecode(name)])
    assert plain(words) == words
    assert subprocess.run(["bash", "-c", words], capture_output=True, check=True).stdout == name
