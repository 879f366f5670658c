"""Shows what a command did or would do: promote, download, reconstruct a file, render a video again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.drawing import print_line, print_notes, print_table, shown_path
from core.checkout import relative_to_root
from evaluation.report.wording import signed

if TYPE_CHECKING:
    from feature_store.remote import DownloadPlan
    from models.registry.sets import ModelSet
    from models.weights.download import Model
    from studies.reconstruction.reproduce import Reproduced
    from studies.registry.decision import PromotionDecision


def show_decision(study: str, decision: "PromotionDecision") -> None:
    """Show a candidate beside production, metric by metric, and the outcome by the rules of promotion."""
    beside = f" beside {decision.production}" if decision.production is not None else ""
    title = f"{study}: {decision.candidate} (training {decision.candidate.run}){beside}"
    if decision.rows:
        table = Table(title=f"{title}, {decision.stimuli} held-out training stimuli")
        for name in ("", "production", "candidate", "difference", "required", ""):
            table.add_column(name, justify="right" if name else "left")
        for row in decision.rows:
            low, high = signed(row.low, 4), signed(row.high, 4)
            difference = f"{signed(row.difference, 4)} {escape(f'[{low}, {high}]')}"
            asked = f"{row.rule.difference:+g} {escape(f'[{row.rule.interval:+g} …]')}"
            passes = "[green]✓[/]" if row.passes else "[red]✗[/]"
            table.add_row(row.name, f"{row.production:.4f}", f"{row.candidate:.4f}", difference, asked, passes)
        print_table(table)
    else:
        print_line("", title)
    print_notes(decision.notes)
    print_line(decision.outcome, "; ".join(decision.reasons))


def show_in_production(models: "ModelSet") -> None:
    """Show a model set that is in production."""
    print_line("in production", str(models))


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


def show_new_videos(folder: Path, count: int, notes: Sequence[str]) -> None:
    """Show how many videos were made of responses that were never stored, and where they are."""
    print_notes(notes)
    print_line("videos", f"{count}, with captions.csv and sheet.png: {shown_path(folder)}")


def show_reproduced(reproduced: "Reproduced") -> None:
    """Show whether a video that was rendered again is the same."""
    print_notes(reproduced.notes)
    output = relative_to_root(reproduced.output)
    if reproduced.identical:
        print_line("identical", f"{output}, sha256 {reproduced.output_sha256}", style="green")
    else:
        print_line("differs", f"{output}: {reproduced.difference}", style="red")
