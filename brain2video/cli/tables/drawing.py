"""What all tables share, and what is shown alike: lines of status, findings of a check, facts."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from brain2video.cli.tables.layout import blocks, laid_out, natural_width, wrapped
from core.checkout import relative_to_root
from studies.runs import LATEST

if TYPE_CHECKING:
    from studies.status.status import Line

COLOURS = {"good": "green", "note": "yellow", "bad": "red"}
"""Of a line of the status, by its level."""


def stdout_console() -> Console:
    """Return a console on stdout, as wide as the terminal."""
    return Console()


def has_width(console: Console) -> bool:
    """Return whether the output has a width to be kept to: that of a terminal, or the one that `COLUMNS` names."""
    return console.is_terminal or "COLUMNS" in os.environ


def available_width() -> float:
    """Return how many columns the output has; a file or a pipe has any number."""
    console = stdout_console()
    return console.width if has_width(console) else math.inf


def print_table(table: Table) -> None:
    """Print a table, its title above it, so that no header and no value is cut; see `layout`."""
    console = stdout_console()
    title, caption, table.title, table.caption = table.title, table.caption, None, None
    fits = has_width(console)
    parts = laid_out(table, console.width) if fits else [table]
    if title is not None:
        _print_text(console, Text.from_markup(str(title), style="italic"))
    if not fits:
        console.width = max(console.width, natural_width(table))
    for part in parts:
        console.print(part, highlight=False)
    for line in () if parts else blocks(table, console.width):
        console.print(line, soft_wrap=True, highlight=False)
    if caption is not None:
        _print_text(console, Text.from_markup(str(caption), style="dim italic"))


def print_line(label: str, text: str = "", *, style: str = "bold") -> None:
    """Print a styled label and a text, literally: in one line, or wrapped at blanks where the screen is narrower."""
    line = f"[{style}]{escape(label)}[/] {escape(text)}" if label else escape(text)
    _print_text(stdout_console(), Text.from_markup(line.rstrip()))


def _print_text(console: Console, text: Text) -> None:
    for line in wrapped(text, console.width) if has_width(console) else (text,):
        console.print(line, soft_wrap=True, highlight=False)


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
    table = Table(title=title, show_header=False)
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
    table = Table(title=escape(title), show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for what, value in facts:
        table.add_row(escape(what), escape(value))
    print_table(table)
