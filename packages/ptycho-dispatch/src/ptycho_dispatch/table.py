"""Two-column tables: drawn by rich in a terminal, plain aligned text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ptycho_config.plaintext import plain

__all__ = ["print_rows", "print_table"]


def print_rows(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values."""
    print_table(title, ("", ""), rows)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; outside a terminal no line is wrapped or coloured."""
    title, rows = plain(title), [[plain(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title or None, title_justify="left", show_header=any(columns))
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        Console().print(table, markup=False)
        return
    if title:
        print(title)
    lines: list[Sequence[str]] = [columns, *rows] if any(columns) else [*rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = [f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)]
        print("  " + "  ".join(cells).rstrip())
