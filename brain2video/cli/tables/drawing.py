"""What all tables share, and what is shown alike: lines of status, findings of a check, facts."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.checkout import relative_to_root
from studies.runs import LATEST

if TYPE_CHECKING:
    from studies.status.status import Line

WIDTH = 120
"""Columns of a table that goes into a file or a pipe."""
COLOURS = {"good": "green", "note": "yellow", "bad": "red"}
"""Of a line of the status, by its level."""


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


def show_lines(title: str, lines: "Sequence[Line]") -> None:
    """Show lines of the status: what, its state in a word or two, a detail."""
    table = Table(title=title, title_justify="left", show_header=False)
    for line in lines:
        table.add_row(line.what, f"[{COLOURS[line.level]}]{escape(line.state)}[/]", escape(line.detail))
    print_table(table)


def show_findings(findings: Sequence[str], sound: str) -> None:
    """Show the findings of a check on stderr, a line each, or that all is sound."""
    console = Console(stderr=True, soft_wrap=True)
    for finding in findings:
        console.print(f"[red]✗[/] {escape(finding)}", highlight=False)
    if not findings:
        console.print(f"[green]✓[/] {escape(sound)}", highlight=False)


def show_facts(title: str, facts: Sequence[tuple[str, str]]) -> None:
    """Show what is known of something, a line each."""
    table = Table(title=escape(title), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for what, value in facts:
        table.add_row(escape(what), escape(value))
    print_table(table)
