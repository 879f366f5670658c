"""Shows what is known of videos: those made of a file of responses, where one comes from, one rendered again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.drawing import print_line, print_notes, print_table, shown_path
from core.checkout import relative_to_root

if TYPE_CHECKING:
    from studies.reconstruction.reproduce import Reproduced


def show_new_videos(folder: Path, count: int, notes: Sequence[str]) -> None:
    """Show how many videos were made of responses that were never stored, and where they are."""
    print_notes(notes)
    print_line("videos", f"{count}, with captions.csv and sheet.png: {shown_path(folder)}")


def show_facts(title: str, facts: Sequence[tuple[str, str]]) -> None:
    """Show what is known of something, a line each."""
    table = Table(title=escape(title), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for what, value in facts:
        table.add_row(escape(what), escape(value))
    print_table(table)


def show_reproduced(reproduced: "Reproduced") -> None:
    """Show whether a video that was rendered again is the same."""
    print_notes(reproduced.notes)
    output = relative_to_root(reproduced.output)
    if reproduced.identical:
        print_line("identical", f"{output}, sha256 {reproduced.output_sha256}", style="green")
    else:
        print_line("differs", f"{output}: {reproduced.difference}", style="red")
