"""The entry point `ptycho`: finds the command, runs it, and turns a failure into one line and a code."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from ptycho_config.commandline import FlagHelp, FlagParser
from ptycho_config.errors import EXIT_CONFIG, ConfigError, OutputError, exit_code
from ptycho_config.launcher import Launch, launched
from ptycho_dispatch.failures import NO_MEMORY, explained, require_address_space
from ptycho_dispatch.screen import Outputs, say, tell
from ptycho_dispatch.signals import HEARING

__all__ = ["COMMANDS", "collect_less_often", "command_parser", "main"]

#: Command -> (module that has `add_arguments` and `run`, one line of help).
COMMANDS = {
    "reconstruct": ("commands.reconstruct", "from a scan to object and probe: the main job"),
    "train": ("commands.training", "a network learns a scan through the physics, without labels"),
    "infer": ("commands.inference", "a trained network reconstructs a scan by one pass over its frames"),
    "export": ("commands.exporting", "a trained network as an ONNX file, for hosts without PyTorch"),
    "watch": ("commands.watching", "live reconstruction of a scan that is being measured, or its replay"),
    "inspect": ("commands.inspection", "what is in a scan or a result, and what looks suspicious"),
    "diagnose": ("commands.diagnosis", "how a scan should have been read: short trials, and the command"),
    "simulate": ("commands.simulation", "make a scan with known truth"),
    "report": ("report.command", "a finished run as one HTML page, to look at and to pass on"),
    "view": ("viewer.command", "a result to walk about in: napari where it is installed, else the page"),
    "bug-report": ("bug_report.command", "one file for an issue: log, settings, versions, no names, no data"),
    "compare": ("commands.comparison", "scores and a picture of two results, or of a result and the truth"),
    "data": ("commands.data", "named real data sets: list them, fetch one"),
    "config": ("commands.configuration", "the configuration in force, the source of each value; JSON schema"),
    "backends": ("commands.backends", "what is installed and which devices it sees"),
    "audit": ("audit.command", "whether this installation, or a finished run, keeps the rules of the house"),
}

#: Commands of which every task of a launcher does a part; of the others rank 0 does all.
_SEVERAL_TASKS = ("reconstruct", "train")
#: Fields of the flags by which commands name a file, where others name a directory.
_OF_A_FILE = {
    "simulate": ("output",),
    "export": ("output",),
    "audit": ("output",),
    "inspect": ("picture", "json"),
    "diagnose": ("picture",),
}


def collect_less_often() -> None:
    """Let Python look seldom for what nothing refers to, in a process of our own.

    A framework is a million objects that stay to the end; looking through them as often as Python does by
    default is a good part of the time in which it is loaded.
    """
    gc.set_threshold(50_000, 20, 100)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words behind `ptycho`; those of this process when None.
    """
    if arguments is not None:
        return _finished(list(arguments))
    HEARING.listen()
    collect_less_often()
    # No command shows a window, and a backend that matplotlib does not know ends whatever loads matplotlib.
    os.environ.pop("MPLBACKEND", None)
    outputs = Outputs()
    try:
        code = _finished(sys.argv[1:])
    except (KeyboardInterrupt, MemoryError) as error:  # while another error was being told
        code = HEARING.exit_code or exit_code(error)
        HEARING.last_words("interrupted" if HEARING.exit_code else NO_MEMORY)
    HEARING.end_work(code)
    code = outputs.end(code)
    HEARING.close(code)
    return code


def _finished(words: list[str]) -> int:
    """Run a command to its end, whatever it is; the exit code."""
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return _run(words)
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except SystemExit as leaving:
        return exit_code(leaving)
    except Exception as error:
        if HEARING.exit_code is not None:
            return _interrupted(error)  # an import that was interrupted says that it failed
        text, code = explained(error)
        if debug:
            for line in traceback.format_exc().splitlines():
                tell(line)
        else:
            tell(f"ptycho: {text}")
        return code


def _interrupted(error: BaseException) -> int:
    HEARING.was_told()
    tell("ptycho: interrupted")
    return HEARING.exit_code or exit_code(error)


def _run(words: list[str]) -> int:
    launch = launched()
    if launch is not None and launch.count == 1:
        launch = None
    if launch is not None and launch.rank > 0 and (not words or words[0] not in _SEVERAL_TASKS):
        return 0  # rank 0 answers
    if words and words[0] in ("-V", "--version"):
        say(f"ptycho {version('ptycho-dispatch')}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    command = words[0]
    if command not in COMMANDS:
        from ptycho_config.naming import nearest, shortened

        guess = nearest(command, COMMANDS)
        hint = f"Did you mean `ptycho {guess}`?" if guess else "`ptycho --help` lists the commands."
        raise ConfigError(f"there is no command `{shortened(command)}`. {hint}")
    require_address_space()
    parser, module = command_parser(command)
    if launch is not None and command == "reconstruct":
        return _together(launch, module, parser, words)
    parsed = parser.parse_args(words[1:])
    if launch is not None:
        _say_who_works(launch, command)
    HEARING.begin_work()
    try:
        return module.run(parsed)
    except OutputError as error:
        raise OutputError(_with_its_own_flag(str(error), command, parsed)) from error


def _with_its_own_flag(text: str, command: str, parsed: argparse.Namespace) -> str:
    """Name the flag that the command has, where an error of a file names that of a directory."""
    fields = _OF_A_FILE.get(command, ())
    path = text.partition(": ")[0]
    named = [name for name in fields if str(getattr(parsed, name, None)) == path] or fields
    return text.replace("`--output-dir`", f"`--{named[0]}`") if named else text


def command_parser(command: str) -> tuple[FlagParser, Any]:
    """Make the parser of a command, and load the module that runs it.

    Args:
        command: one of `COMMANDS`.
    Returns:
        The parser, and the module: `EXAMPLES`, and `run` for what the parser makes of the words.
    """
    module_name, summary = COMMANDS[command]
    module = importlib.import_module(f"ptycho_dispatch.{module_name}")
    parser = FlagParser(
        prog=f"ptycho {command}",
        description=summary[0].upper() + summary[1:] + ".",
        epilog="\n".join(["examples:", *(f"  {example}" for example in module.EXAMPLES)]),
        formatter_class=_Help,
    )
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser, module


def _together(launch: Launch, module: Any, parser: FlagParser, words: list[str]) -> int:
    """Run a command that all tasks of a launcher share."""
    from ptycho_dispatch.together.team import work_together

    HEARING.begin_work()
    return work_together(
        launch, words, lambda team: module.run(team.ranks.one(lambda: parser.parse_args(words[1:])), team)
    )


def _say_who_works(launch: Launch, command: str) -> None:
    """Warn that one task works alone, or refuse several that would each train for themselves.

    Raises:
        ConfigError: the launcher is none that PyTorch's own engines know.
    """
    if command not in _SEVERAL_TASKS:
        tell(f"WARNING `ptycho {command}` works in one task; the other {launch.count - 1} do nothing.")
    elif launch.by != "SLURM" and "WORLD_SIZE" not in os.environ:
        if launch.rank > 0:
            raise SystemExit(EXIT_CONFIG)  # rank 0 says why
        raise ConfigError(
            f"{launch.count} tasks were started, and each would train for itself. Start them by srun or "
            "torchrun, or start one with `--torch-devices`."
        )


class _Help(FlagHelp, argparse.RawDescriptionHelpFormatter):
    """Keeps the examples one a line."""


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ptycho COMMAND …",
            "",
            "From a ptychographic scan to an image.",
            "",
            *lines,
            "",
            "`ptycho COMMAND --help` explains a command. Begin with: ptycho reconstruct siemens-star",
        ]
    )
