"""`ptycho audit`: whether this installation, or one finished run, keeps the rules of the house."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho_config.errors import EXIT_DONE, EXIT_POLICY, ConfigError
from ptycho_config.findings import finding_ids
from ptycho_config.naming import nearest
from ptycho_dispatch.screen import say, tell
from ptycho_dispatch.table import print_table

if TYPE_CHECKING:
    from ptycho_dispatch.audit.verdicts import Audit

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "ptycho audit --only POLICY-001",
    "ptycho audit --only CONFIG-001 --only CONFIG-002 --format json",
    "ptycho audit --format md --output inventory.md",
    "ptycho audit star",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run to judge, and what is written where."""
    parser.add_argument(
        "run_dir",
        metavar="RUN_DIR",
        nargs="?",
        help="judge this finished run; the installation when left out",
    )
    parser.add_argument(
        "--format", choices=("table", "md", "json", "junit"), default="table", help="of what is written"
    )
    parser.add_argument("--output", metavar="FILE", help="write there; the table is printed all the same")
    parser.add_argument(
        "--tests", metavar="JUNIT.xml", help="outcomes of a test run, as pytest --junitxml writes"
    )
    parser.add_argument(
        "--only", metavar="ID", action="append", default=[], help="audit this finding; repeatable"
    )


def run(arguments: argparse.Namespace) -> int:
    """Audit, print, and return 5 where anything fails.

    Raises:
        ConfigError: an unknown finding, or a file of test outcomes that is none.
        DataError: the directory of a run holds no usable `run.json`.
        OutputError: the report cannot be written.
    """
    for identifier in arguments.only:
        if identifier not in finding_ids():
            guess = nearest(identifier, finding_ids())
            hint = f"did you mean `--only {guess}`?" if guess else f"one of {', '.join(finding_ids())}."
            raise ConfigError(f"`--only {identifier}` is no finding; {hint}")
    if arguments.run_dir is not None:
        return _audit_run(arguments)
    from ptycho_dispatch.audit import formats
    from ptycho_dispatch.audit.junit import read_outcomes
    from ptycho_dispatch.audit.verdicts import audit_installation

    outcomes = None if arguments.tests is None else read_outcomes(Path(arguments.tests))
    audit = audit_installation(arguments.only, outcomes)
    _write(arguments, formats.COLUMNS, formats.rows(audit), lambda: _text(audit, arguments.format))
    return _ended(audit.failed, formats.summary(audit))


def _text(audit: Audit, kind: str) -> str:
    from ptycho_dispatch.audit import formats

    if kind == "md":
        from ptycho_dispatch.audit.inventory import as_markdown

        return as_markdown(audit)
    return formats.as_json(audit) if kind == "json" else formats.as_junit(audit)


def _audit_run(arguments: argparse.Namespace) -> int:
    from ptycho_dispatch.audit import runs

    if arguments.tests is not None:
        raise ConfigError("`--tests` belongs to an audit of the installation; leave it out beside RUN_DIR.")
    judgement = runs.judge_run(Path(arguments.run_dir), arguments.only)
    _write(arguments, runs.COLUMNS, runs.rows(judgement), lambda: runs.as_text(judgement, arguments.format))
    return _ended(judgement.failed, runs.summary(judgement))


def _write(
    arguments: argparse.Namespace,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    make_text: Callable[[], str],
) -> None:
    """Print the table or the text; with `--output` the file gets the text, and the screen the table."""
    from ptycho_core.io import make_directory, write_text

    table = arguments.format == "table"
    if arguments.output is None:
        if table:
            print_table("", columns, rows)
        else:
            for line in make_text().splitlines():
                say(line)
        return
    path = Path(arguments.output).expanduser()
    make_directory(path.parent)
    write_text(path, _plain_table(columns, rows) if table else make_text())
    print_table("", columns, rows)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    with redirect_stdout(io.StringIO()) as text:
        print_table("", columns, rows)
    return text.getvalue()


def _ended(failed: Sequence[str], problems: Sequence[str]) -> int:
    if not failed:
        return EXIT_DONE
    for line in problems:
        tell(line)
    tell(f"ptycho: not kept: {', '.join(failed)}; `findings/<ID>.md` says what each asks for.")
    return EXIT_POLICY
