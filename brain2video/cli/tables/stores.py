"""Shows lines of status, findings of a check, and what a download comes to."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.drawing import print_line, print_table

if TYPE_CHECKING:
    from feature_store.remote import DownloadPlan
    from models.weights.download import Model
    from studies.status.status import Line

COLOURS = {"good": "green", "note": "yellow", "bad": "red"}
"""Of a line of the status, by its level."""


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


def show_download_plan(plan: "DownloadPlan", folder: Path) -> None:
    """Show the files and bytes of a download."""
    print_line("download to", str(folder))
    table = Table(show_header=False)
    wanted, missing = len(plan.objects), len(plan.missing)
    rows = [("wanted", wanted, plan.size), ("already there", wanted - missing, plan.present)]
    for what, files, size in [*rows, ("to be fetched", missing, plan.to_fetch)]:
        table.add_row(what, f"{files:,} files", f"{size / 1e6:,.1f} MB")
    table.add_row("free on the disk", "", f"{plan.free / 1e6:,.1f} MB")
    print_table(table)


def show_weights(models: "Sequence[Model]") -> None:
    """Show the files and bytes of published weights, and where they go."""
    if not models:
        print_line("", "every model that the study names is here already; nothing to fetch")
    for model in models:
        kind = "pickled weights" if model.pickled else "safetensors"
        size = f"{len(model.files)} files, {model.size / 1e6:,.1f} MB"
        print_line(model.name, f"{model.commit[:12]}: {size}, {kind} → data/weights/{model.name}")
