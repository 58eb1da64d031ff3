"""The reference of the command line, made of its parsers, and that of the settings, made of their models."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from typing import Any

from pydantic_core import PydanticUndefined

from ptycho_config.accepted import accepted
from ptycho_config.naming import Part, Place, places
from ptycho_dispatch.cli import COMMANDS, command_parser
from ptycho_dispatch.commands.configuration import PARTS

__all__ = ["COMMANDS_AT", "SETTINGS_AT", "command_pages", "settings_page"]

COMMANDS_AT = "reference/commands"
SETTINGS_AT = "reference/settings.md"


def command_pages() -> dict[str, str]:
    """Write a page for each command and one that lists them, by their place on the site."""
    pages = {f"{COMMANDS_AT}/{name}.md": _command_page(name) for name in COMMANDS}
    lines = ["# The command line", "", "`ptycho COMMAND --help` prints what stands here.", ""]
    lines += ["| command | what it does |", "|---|---|"]
    lines += [f"| [`ptycho {name}`]({name}.md) | {summary} |" for name, (_, summary) in COMMANDS.items()]
    lines += ["", "[Exit codes](../files.md#exit-codes), and [every setting](../settings.md) on one page."]
    return {f"{COMMANDS_AT}/README.md": "\n".join(lines) + "\n", **pages}


def _command_page(name: str) -> str:
    parser, module = command_parser(name)
    lines = [f"# ptycho {name}", "", str(parser.description), ""]
    # argparse has no public names for them. What it calls options is what belongs to no part of the settings.
    arguments, general, *parts = parser._action_groups
    for title, group in (
        ("Arguments", arguments),
        *((str(part.title), part) for part in parts),
        ("Other flags" if any(part._group_actions for part in parts) else "Flags", general),
    ):
        actions = [one for one in group._group_actions if one.help is not argparse.SUPPRESS]
        if actions:
            lines += [f"## {title}", "", "| argument | what it is |", "|---|---|"]
            lines += [f"| {_shown(one)} | {_cell(_help(one, parser))} |" for one in actions]
            lines.append("")
    lines += ["## Examples", "", "```console", *(f"$ {example}" for example in module.EXAMPLES), "```", ""]
    return "\n".join(lines)


def _shown(action: argparse.Action) -> str:
    """Write an argument as it is typed, in its first spelling."""
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices is not None and not metavar:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    words = [one for one in action.option_strings if not one.startswith("--")]
    words += [one for one in action.option_strings if one.startswith("--")][:1]
    if not words:
        return f"`{metavar or action.dest}`".replace("|", "\\|")
    # What has many choices stands below its flag.
    value = f" `{metavar}`" if metavar and action.nargs != 0 else ""
    return ", ".join(f"`{word}`" for word in words) + value.replace(",", ", ").replace("|", "\\|")


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return str(action.help or "") % {"prog": parser.prog, "default": action.default, "dest": action.dest}


def settings_page() -> str:
    """Write every setting with its flag, what it accepts and its default, by the model that has it."""
    lines = [
        "# Every setting",
        "",
        "Each is a flag of the commands that need it, an environment variable and a key of YAML files, under",
        "the same name: `--batch-size`, `PTYCHO_BATCH_SIZE`, `batch_size:`. Which source wins, and older",
        "names: [configuration](configuration.md).",
        "",
    ]
    for part in map(_as_promised, PARTS):
        lines += [
            f"## {part.heading}",
            "",
            f"Fields of `{part.model_class.__module__}.{part.model_class.__name__}`.",
            "",
        ]
        lines += ["| flag | accepts | default | what it is |", "|---|---|---|---|"]
        lines += [_row(place) for place in places(part)]
        lines.append("")
    return "\n".join(lines)


def _as_promised(part: Part[Any]) -> Part[Any]:
    """Give the public model where a command has one of its own, in which nothing is needed."""
    model = part.model_class
    return replace(part, model_class=model.__base__) if model.__name__.startswith("_") else part


def _row(place: Place) -> str:
    default = place.info.get_default(call_default_factory=True, validated_data={})
    needed = default is PydanticUndefined
    shown = "needed" if needed else "chosen" if default is None else f"`{_plain(default)}`"
    words = (f"`{place.flag}`", accepted(place.info), shown, place.info.description or "")
    return f"| {' | '.join(map(_cell, words))} |"


def _plain(default: object) -> str:
    if isinstance(default, tuple | list):
        return ",".join(map(str, default)) or "none"
    return str(default).lower() if isinstance(default, bool) else str(default) or "empty"


def _cell(text: str) -> str:
    """Write a text so that it stays in its cell."""
    return re.sub(r"(?<!\\)\|", "\\|", " ".join(text.split())).replace("<", "&lt;")
