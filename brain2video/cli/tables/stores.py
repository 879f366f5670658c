"""Shows a person, with rich, what came out: tables of scores, stores, downloads, findings."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brain2video.cli.launch import working
from brain2video.cli.tables.scores import WIDTH, print_folds, print_report, print_scores, routes_table
from core.checkout import relative_to_root
from core.files import read_json

if TYPE_CHECKING:
    from feature_store.remote import DownloadPlan
    from models.weights.download import Model
    from studies.reconstruction.reproduce import Reproduced
    from studies.registry.compare import Comparison
    from studies.study import Study

COLOURS = {"good": "green", "note": "yellow", "bad": "red"}
"""Of a line of the status, by its level."""


def show_stores(study: "Study") -> None:
    """Show the study's groups and what DVC says of them."""
    from studies.status.status import stores_status

    _print_lines(f"{study.study}: feature store", stores_status(study))


def show_status(study: "Study", *, full: bool = False) -> None:
    """Show stores, runs and production."""
    from studies.status.status import production_status, remotes_status, runs_status, stores_status

    with working():
        lines = [*stores_status(study, full=full), *remotes_status(), *runs_status(study), *production_status(study)]
    _print_lines(study.study, lines)


def show_production(study: "Study") -> None:
    """Show what is in production."""
    from studies.status.status import production_status

    _print_lines(study.study, production_status(study))


def show_comparison(study: "Study", made: "Comparison") -> None:
    """Show a candidate beside production, metric by metric, and what the rules say."""
    console = Console(soft_wrap=True)
    beside = f" beside {made.production}" if made.production is not None else ""
    title = f"{study.study}: {made.candidate} (training {made.candidate.run}){beside}"
    if made.rows:
        table = Table(title=f"{title}, {made.stimuli} held-out training stimuli", title_justify="left")
        for name in ("", "production", "candidate", "difference", "asked for", ""):
            table.add_column(name, justify="right" if name else "left")
        for row in made.rows:
            difference = f"{row.difference:+.4f} {escape(f'[{row.low:+.4f}, {row.high:+.4f}]')}"
            asked = f"{row.rule.difference:+g} {escape(f'[{row.rule.interval:+g} …]')}"
            passes = "[green]✓[/]" if row.passes else "[red]✗[/]"
            table.add_row(row.name, f"{row.production:.4f}", f"{row.candidate:.4f}", difference, asked, passes)
        Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    else:
        console.print(escape(title), highlight=False)
    console.print(f"[bold]{made.outcome}[/] {escape('; '.join(made.reasons))}".rstrip(), highlight=False)


def show_promotion(study: "Study") -> None:
    """Show whether the latest training is in production, and if not, why."""
    from studies.registry.promote import compare_with_production

    latest = (study.outputs / "training" / "latest").resolve().name
    made = compare_with_production(study, latest)
    if made.outcome == "current":
        Console(soft_wrap=True).print(f"[bold]in production[/] {made.candidate}", highlight=False)
    else:
        show_comparison(study, made)


def show_training(study: "Study") -> None:
    """Show the scores of the latest training: every route, which is registered, and where the pictures are."""
    latest = study.outputs / "training" / "latest"
    scores = read_json(latest / "scores.json")
    for role, scored in scores["targets"].items():
        title = f"{study.study}: {role} ({scored['target']}), {scores['n_test']} test stimuli"
        print_scores(title, *routes_table(scored))
    print_folds(scores)
    console = Console(soft_wrap=True)
    for role, scored in scores["targets"].items():
        made = scored["regressor"]
        if "explained_variance" in made:
            share = f"{made['components']} components hold {made['explained_variance']:.3f} of the training variance"
            console.print(f"[bold]{role}[/] {share} of {scored['target']}", highlight=False)
    selection = scores["selection"]
    grounds = f", by {selection['criterion']} of {selection['n']} held-out training stimuli" if selection["n"] else ""
    console.print(f"[bold]registered route[/] {selection['chosen']}{grounds}", highlight=False)
    console.print(f"[bold]pictures[/] {relative_to_root(latest / 'pictures')}", highlight=False)


def show_training_and_reconstruction(study: "Study") -> None:
    """Show the routes that were trained, whether they are in production, and what was reconstructed."""
    show_training(study)
    show_promotion(study)
    show_reconstruction(study)


def show_reconstruction(study: "Study") -> None:
    """Show the latest reconstruction's scores beside its controls and where its gallery is, or why there is none."""
    from studies.decoding.render import why_nothing_to_render

    nothing = why_nothing_to_render(study)
    console = Console(soft_wrap=True)
    if nothing is not None:
        console.print(nothing, highlight=False)
        return
    from evaluation.report.wording import verdict

    latest = study.outputs / "latest"
    metrics = read_json(latest / "metrics.json")
    print_report(f"{study.study}: {metrics['subject']}, {metrics['n_test']} test stimuli", metrics)
    print_folds(metrics)
    console.print(verdict(metrics), highlight=False)
    console.print(f"[bold]gallery[/] {relative_to_root(latest / 'gallery.html')}", highlight=False)


def show_new_videos(study: "Study") -> None:
    """Show what was decoded of responses that were never stored, and where the videos are."""
    from studies.reconstruction.new import FOLDER

    latest = study.outputs / FOLDER / "latest"
    console = Console(soft_wrap=True)
    manifest = read_json(latest / "manifest.json")
    count = len(list((latest / "videos").glob("*.mp4")))
    for note in manifest["notes"]:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
    console.print(
        f"[bold]videos[/] {count}, with captions.csv and sheet.png: {relative_to_root(latest)}", highlight=False
    )


def show_facts(title: str, facts: Sequence[tuple[str, str]]) -> None:
    """Show what is known of something, a line each."""
    table = Table(title=escape(title), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for what, value in facts:
        table.add_row(escape(what), escape(value))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def show_reproduced(made: "Reproduced") -> None:
    """Say whether a video came out the same, and exit with 2 where it did not."""
    console = Console(soft_wrap=True)
    for note in made.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
    if made.identical:
        console.print(
            f"[green]identical[/] {relative_to_root(made.output)}, sha256 {made.output_sha256}", highlight=False
        )
        return
    console.print(f"[red]differs[/] {relative_to_root(made.output)}: {escape(made.difference)}", highlight=False)
    sys.exit(2)


def show_zoo(scores: dict[str, Any]) -> None:
    """Show what the judge says of the small world's models."""
    from zoo.card import rows_of

    rows = rows_of(scores)
    table = Table(title=f"read by the judge, {scores['clips']} clips", title_justify="left")
    table.add_column("")
    names = list(scores["judge"])
    for name in names:
        table.add_column(name, justify="right")
    for row, values in rows.items():
        table.add_row(row, *("" if name not in values else f"{values[name]:.3f}" for name in names))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def verify_store(store: Path) -> None:
    """Print one line per finding and exit with 2 where there is one."""
    from feature_store import verify

    with working() as console:
        findings = list(verify(store))
    for finding in findings:
        console.print(f"[red]✗[/] {escape(str(finding))}", highlight=False)
    if findings:
        sys.exit(2)
    console.print(f"[green]✓[/] {escape(str(store))}: every byte is as published", highlight=False)


def show_download_plan(plan: "DownloadPlan", folder: Path) -> None:
    """Show what a download comes to."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(f"[bold]download to[/] {escape(str(folder))}", highlight=False, soft_wrap=True)
    table = Table(show_header=False)
    wanted, missing = len(plan.objects), len(plan.missing)
    rows = [("wanted", wanted, plan.size), ("already there", wanted - missing, plan.present)]
    for what, files, size in [*rows, ("to be fetched", missing, plan.to_fetch)]:
        table.add_row(what, f"{files:,} files", f"{size / 1e6:,.1f} MB")
    table.add_row("free on the disk", "", f"{plan.free / 1e6:,.1f} MB")
    console.print(table)


def show_weights(models: "Sequence[Model]") -> None:
    """Show what published weights come to and where they go."""
    console = Console(soft_wrap=True)
    if not models:
        console.print("every model that the study names lies here already; nothing to fetch", highlight=False)
    for model in models:
        kind = "pickled weights" if model.pickled else "safetensors"
        size = f"{len(model.files)} files, {model.size / 1e6:,.1f} MB"
        name = escape(model.name)
        console.print(f"[bold]{name}[/] {model.commit[:12]}: {size}, {kind} → data/weights/{name}", highlight=False)


def show_clips(folder: Path) -> None:
    """Print one line per finding about a folder of clips and exit with 2 where there is one."""
    from feature_store.sources.bold_moments.request import check_clips

    with working() as console:
        findings = check_clips(folder)
    for finding in findings:
        console.print(f"[red]✗[/] {escape(finding)}", highlight=False)
    if findings:
        sys.exit(2)
    console.print(f"[green]✓[/] {escape(str(folder))}: every clip is there, as long as published", highlight=False)


def _print_lines(title: str, lines: list[Any]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for line in lines:
        table.add_row(line.what, f"[{COLOURS[line.level]}]{escape(line.state)}[/]", escape(line.detail))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
