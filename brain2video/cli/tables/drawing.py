"""What all tables share: the width in a pipe, lines with a bold or coloured label, a run's path."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.checkout import relative_to_root
from studies.runs import LATEST

WIDTH = 120
"""Columns of a table that goes into a file or a pipe."""


def table_console(width: int = WIDTH) -> Console:
    """Return a console as wide as the terminal, or of `width` columns where the output is no terminal."""
    return Console(width=None if sys.stdout.isatty() else width)


def print_table(table: Table, width: int = WIDTH) -> None:
    """Print a table as wide as the terminal, or in `width` columns where the output is no terminal."""
    table_console(width).print(table)


def print_line(label: str, text: str = "", *, style: str = "bold") -> None:
    """Print a styled label and a text, literally and in one line."""
    line = f"[{style}]{escape(label)}[/] {escape(text)}" if label else escape(text)
    Console(soft_wrap=True).print(line.rstrip(), highlight=False)


def print_notes(notes: Sequence[str]) -> None:
    """Print notes, a line each."""
    for note in notes:
        print_line("note", note, style="yellow")


def shown_path(folder: Path, name: str = "") -> str:
    """Return the path of a run, or of a file in it, relative to the checkout; by its `latest` link where that fits."""
    latest = folder.parent / LATEST
    return relative_to_root((latest if latest.resolve() == folder.resolve() else folder) / name)
