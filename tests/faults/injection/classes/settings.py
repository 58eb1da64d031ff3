"""Settings with extreme values: flags of every command, variables, YAML files."""

from __future__ import annotations

import argparse
import importlib
import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

from injection.case import Act, Case
from injection.ground import Ground

__all__ = ["draw"]

#: What is wrong with a setting is told by 2; what does not fit the scan by 3, the host by 4 or 5.
CODES = frozenset({0, 2, 3, 4, 5})
SHORT = ("--effort", "fast", "--max-time", "1s", "--output-dir", "out")
COMMANDS: dict[str, tuple[str, ...]] = {
    "reconstruct": ("reconstruct", "scan.npz", *SHORT),
    "watch": ("watch", "scan.npz", "--replay", "3000", "--timeout", "0.3", *SHORT),
    "inspect": ("inspect", "scan.npz"),
    "simulate": ("simulate", "--frames", "20", "--size", "32", "--output", "out.npz"),
    "report": ("report", "result"),
    "compare": ("compare", "result", "result"),
    "diagnose": ("diagnose", "scan.npz", "--budget", "1s"),
    "config": ("config", "show"),
}
SHARES = (5, 2, 2, 2, 0.3, 0.3, 0.3, 1)
NUMBERS = (
    *("0", "-1", "1", "2", "-0.0", "1e-300", "1e300", "1e400", "nan", "inf", "-inf", "0.5", "1e12"),
    *("2147483648", "-9223372036854775809", "18446744073709551616", "9" * 400, "1_000", "0x10", "١٢"),
)
TEXTS = (
    *(
        "",
        " ",
        "\x1b[31mred\n",
        "m\udcfcller",
        "x" * 5000,
        "../" * 3000,
        "nan",
        "none",
        "true",
        "--help",
        "-",
    ),
    *(
        "/dev/null",
        "/dev/full",
        "/proc/self/mem",
        "fifo",
        "result",
        "scan.npz",
        "scan.npz:diff3d",
        "nowhere.npz",
    ),
    *(
        "fifo:x",
        "0:10",
        "5:",
        ":-1",
        "1,2,3",
        "1e3,1e3",
        "0,0",
        "nan,nan",
        "1,",
        "10-5",
        "0-100000000000",
        "🙂",
        "\u202e",
    ),
    *("0.5um", "-1m", "1e400nm", "5parsec", "1e-30m", "0:0,0:0", "10:20,30:40", "-1e300:1e300,-1e300:1e300"),
)


def draw(rng: random.Random, ground: Ground) -> Case:
    """Draw flags, or a YAML file, or variables."""
    how = rng.random()
    if how < 0.62:
        return _flags(rng, ground)
    return _yaml(rng, ground) if how < 0.85 else _variables(rng, ground)


@cache
def _actions(command: str) -> tuple[argparse.Action, ...]:
    """List the flags of a command as its own parser has them."""
    from ptycho_config.commandline import FlagParser
    from ptycho_dispatch.cli import COMMANDS as MODULES

    parser = FlagParser(prog=command)
    importlib.import_module(f"ptycho_dispatch.{MODULES[command][0]}").add_arguments(parser)
    given = set(COMMANDS[command]) - {"--effort"}
    # `--debug` shows tracebacks, which is what it is for.
    return tuple(
        action
        for action in parser._actions
        if action.option_strings
        and not given & set(action.option_strings)
        and action.dest not in ("help", "debug")
    )


def _value(action: argparse.Action, rng: random.Random) -> str:
    if action.choices and rng.random() < 0.6:
        return str(rng.choice(list(action.choices)))
    metavar = str(action.metavar or "")
    if any(kind in metavar for kind in ("NUMBER", "INTEGER", "I,J")) and rng.random() < 0.85:
        number = rng.choice(NUMBERS)
        return number if "I,J" not in metavar else rng.choice((number, f"{number},{rng.choice(NUMBERS)}"))
    return rng.choice((*TEXTS, *NUMBERS))


def _flags(rng: random.Random, ground: Ground) -> Case:
    command = rng.choices(list(COMMANDS), SHARES)[0]
    chosen: list[str] = []
    for action in rng.sample(_actions(command), k=min(len(_actions(command)), rng.choice((1, 1, 1, 2, 4)))):
        flag = action.option_strings[-1]
        if action.nargs == 0:
            chosen.append(flag)
        else:
            chosen.append(f"{flag}={_value(action, rng)}")
    if rng.random() < 0.05:
        chosen.append(rng.choice(TEXTS))
    words = (*COMMANDS[command], *chosen)
    return Case(
        "settings", f"{command} {' '.join(_shortened(one) for one in chosen)}", _prepare(ground, words)
    )


def _shortened(text: str) -> str:
    return text if len(text) < 60 else f"{text[:40]}… ({len(text)})"


def _prepare(
    ground: Ground, words: tuple[str, ...], files: dict[str, bytes] | None = None, **options: object
) -> Callable[[Path], list[Act]]:
    def prepare(place: Path) -> list[Act]:
        ground.put(place, f"{' '.join(words)} {options} {files}")
        os.mkfifo(place / "fifo")
        for name, content in (files or {}).items():
            (place / name).write_bytes(content)
        # Whoever names a device or a folder as the output is told by 1 that it cannot be written.
        codes = CODES | {1} if any(word.startswith("--output") and "=" in word for word in words) else CODES
        return [Act(words, codes=codes, patience_s=25, **options)]  # type: ignore[arg-type]

    return prepare


def _yaml(rng: random.Random, ground: Ground) -> Case:
    """Give a YAML file: one of the hostile ones, or settings with values of any type."""
    command = rng.choice(("reconstruct", "watch", "config"))
    if rng.random() < 0.35:
        name = rng.choice(sorted(HOSTILE))
        content = HOSTILE[name]
    else:
        keys = [action.dest for action in _actions("reconstruct")]
        lines = [f"{rng.choice(keys)}: {rng.choice(VALUES)}" for _ in range(rng.choice((1, 1, 3)))]
        content = "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n"
        name = ", ".join(_shortened(line) for line in lines)
    words = (*COMMANDS[command], "--config", "settings.yaml")
    return Case("settings", f"YAML, {command}: {name}", _prepare(ground, words, {"settings.yaml": content}))


VALUES = (
    *(
        "null",
        "~",
        ".nan",
        "-.inf",
        "1e400",
        "9" * 400,
        "-1",
        "0",
        "yes",
        "2026-11-30",
        "0o17",
        "[]",
        "{}",
        "[1, 2, 3]",
    ),
    *(
        '"\\e[31m\\n"',
        '""',
        "|\n  several\n  lines",
        "!!binary aGVsbG8=",
        "!!set {a, b}",
        "0.5",
        "1",
        "{a: {b: {c: 1}}}",
    ),
    *(
        '"/dev/zero"',
        "fifo",
        "2147483648",
        "[[[[[1]]]]]",
        "💥",
        "&a [*a]",
        "'x'",
        "=",
        "<<",
        "1:30:00",
        "x" * 100_000,
    ),
)
HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "a list": b"- 1\n- 2\n",
    "a scalar": b"42\n",
    "an object of Python": b"!!python/object/apply:os.system ['touch executed']\n",
    "an object below a key": b"effort: !!python/name:os.system\n",
    "aliases that grow": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 107)),
    "an alias to itself": b"effort: &a\n  x: *a\n",
    "brackets ten thousand deep": b"effort: " + b"[" * 10_000,
    "mappings two thousand deep": b"".join(b" " * n + b"a:\n" for n in range(2000)),
    "a key twice": b"effort: fast\neffort: thorough\n",
    "a key with an escape sequence": b'"\\e[31mkey\\nINFO forged": 1\n',
    "a key that is a number": b"1: 2\n",
    "a key that is a list": b"? [a, b]\n: 1\n",
    "a key that is null": b"~: 1\n",
    "a key of a megabyte": b"k" * 1_000_000 + b": 1\n",
    "a value of a megabyte": b"effort: " + b"v" * 1_000_000 + b"\n",
    "tabs": b"effort:\tfast\n\tseed: 1\n",
    "not UTF-8": b"effort: m\xfcller\n",
    "UTF-16": "effort: fast\n".encode("utf-16"),
    "zero bytes": b"effort: fast\0\n",
    "random bytes": random.Random(1).randbytes(4000),
    "two documents": b"effort: fast\n---\neffort: thorough\n",
    "a directive": b"%YAML 9.9\n---\neffort: fast\n",
    "Windows lines and a mark": b"\xef\xbb\xbfeffort: fast\r\n",
    "a merge of nothing": b"<<: 1\n",
    "only a comment": b"# nothing\n",
    "an unclosed quote": b'effort: "fast\n',
    "a pickle": b"cposix\nsystem\n(S'touch executed'\ntR.",
    "JSON": b'{"effort": "fast"}',
}


def _variables(rng: random.Random, ground: Ground) -> Case:
    """Give variables of the environment that the project or its libraries read."""
    name = rng.choice(
        ("PTYCHO_KERNEL_FLAGS", "PTYCHO_CACHE_DIR", "PTYCHO_DATA_DIR", "PTYCHO_DIAGNOSE", "CC", *_named())
    )
    value = rng.choice((*TEXTS[1:], *NUMBERS))
    if "\0" in value:
        value = "x"
    command = rng.choice(("reconstruct", "inspect", "config", "watch"))
    # What a compiler makes of the flags takes a while; without one the solver goes on.
    prepare = _prepare(ground, COMMANDS[command], environment={name: value})
    return Case("settings", f"{name}={_shortened(value)}, {command}", prepare)


@cache
def _named() -> tuple[str, ...]:
    return tuple(f"PTYCHO_{action.dest.upper()}" for action in _actions("reconstruct"))
