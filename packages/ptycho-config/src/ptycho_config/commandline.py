"""An argument parser whose mistakes are ConfigErrors with the nearest valid name.

It differs from argparse's own in three ways: a boolean flag never swallows the word behind it
(`--resume siemens-star`), a wrong flag is answered with the nearest right one, and the help text shows each
flag in one spelling.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from ptycho_config.errors import ConfigError
from ptycho_config.naming import nearest, shortened

__all__ = ["FlagHelp", "FlagParser"]

_BOOLEAN_WORDS = frozenset({"true", "false"})


class FlagHelp(argparse.HelpFormatter):
    """Shows a flag in its first spelling only: `--batch-size`, not `--batch_size` as well."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        short = [option for option in action.option_strings if not option.startswith("--")]
        long = [option for option in action.option_strings if option.startswith("--")][:1]
        shown = ", ".join((*short, *long))
        return f"{shown} {self._format_args(action, action.dest.upper())}"


class FlagParser(argparse.ArgumentParser):
    """Parses a command line; a mistake is raised, never printed, and costs exit code 2 at the top.

    Raises:
        ConfigError: from `parse_args`; one line with the nearest valid name.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **({"allow_abbrev": False, "formatter_class": FlagHelp} | kwargs))

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Split a command line; an unknown flag is an error here, where its neighbours are known."""
        if args is None:
            import sys

            args = sys.argv[1:]
        known, rest = super().parse_known_args(self._spell_out(args), namespace)
        for word in rest:
            if word.startswith("-") and len(word) > 1:
                self._refuse(word.partition("=")[0])
        return known, rest

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong.

        Raises:
            ConfigError: always.
        """
        message, guess = " ".join(message.split()), None
        if wrong := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", message):
            guess = nearest(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        hint = f" Did you mean `{guess}`?" if guess else ""
        raise ConfigError(f"{_concise(message)}.{hint} `{self.prog} --help` lists what is possible.")

    def _refuse(self, flag: str) -> NoReturn:
        known = {option for option in self._flags() if option.startswith("--")}
        # Both spellings are known; the one with hyphens is that of the help.
        usual = {option: option.replace("_", "-") for option in known}
        guess = nearest(
            flag, (one for one, hyphens in usual.items() if one == hyphens or hyphens not in known)
        )
        hint = f"did you mean `{guess}`?" if guess else f"`{self.prog} --help` lists the flags."
        raise ConfigError(f"unknown flag `{shortened(flag)}`; {hint}")

    def _flags(self) -> dict[str, argparse.Action]:
        """List the flags; argparse has no public name for them."""
        return self._option_string_actions

    def _spell_out(self, args: Sequence[str]) -> list[str]:
        """Write `--flag true` and a bare `--flag` of an optional value as `--flag=...`."""
        flags, spelt, words = self._flags(), list[str](), list(args)
        while words:
            word = words.pop(0)
            if word == "--":
                return [*spelt, word, *words]
            action = flags.get(word)
            if action is None or not _may_be_bare(action) or not word.startswith("--"):
                spelt.append(word)
                continue
            choices = _BOOLEAN_WORDS | frozenset(re.findall(r"[\w-]+", str(action.metavar)))
            value = words.pop(0) if words and words[0].lower() in choices else str(action.const)
            spelt.append(f"{word}={value}")
        return spelt


def _may_be_bare(action: argparse.Action) -> bool:
    """Tell a boolean flag, whose value is one of a few words, from one that takes any word or none."""
    return action.nargs == "?" and str(action.metavar).startswith("{")


def _concise(message: str) -> str:
    """Shorten what the user typed inside a message of argparse: quoted, or what was left over."""
    message = re.sub(r"'([^']*)'", lambda quoted: f"'{shortened(quoted[1])}'", message)
    return re.sub(r"(unrecognized arguments: )(.*)", lambda rest: rest[1] + shortened(rest[2]), message)
