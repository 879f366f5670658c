"""Shows a person, with rich, how a folder of videos was scored and how two runs differ."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.scores import WIDTH, print_report
from core.checkout import relative_to_root

if TYPE_CHECKING:
    from studies.comparison.compare import RunComparison
    from studies.comparison.evaluate import EvaluationRef

ALPHA = 0.05


def show_evaluation(made: "EvaluationRef") -> None:
    """Show a folder's scores beside its controls, what a reader has to know, and where the gallery is."""
    from evaluation.report.wording import verdict

    metrics = made.metrics
    n = metrics["n_test"]
    print_report(f"{made.name}: {n} {'video' if n == 1 else 'videos'}", metrics)
    console = Console(soft_wrap=True)
    console.print(escape(verdict(metrics)), highlight=False)
    console.print(f"[bold]gallery[/] {escape(relative_to_root(made.path / 'gallery.html'))}", highlight=False)


def show_run_comparison(made: "RunComparison") -> None:
    """Show two runs metric by metric, their paired difference, and what a reader has to know."""
    from evaluation.report.wording import metric_label, number, ordered_metrics, p_words

    report = made.report
    first, second = (f"{run['study']}/{run['run']}" for run in report["runs"])
    console = Console(soft_wrap=True)
    console.print(f"[bold]first[/]  {escape(first)}", highlight=False)
    console.print(f"[bold]second[/] {escape(second)}", highlight=False)
    title = f"{report['row']}, paired over {report['n']} stimuli"
    table = Table(title=title, title_justify="left")
    for name in ("", "first", "second", "second − first", "p", "p (Holm)", "n"):
        table.add_column(name, justify="right" if name else "left")
    for name in ordered_metrics(report["metrics"]):
        entry = report["metrics"][name]
        better = "" if entry["higher_is_better"] else ", lower is better"
        table.add_row(
            f"{escape(metric_label(name))}{better}",
            number(entry["first"]["value"]),
            number(entry["second"]["value"]),
            _difference(entry),
            "" if entry["p"] is None else p_words(entry["p"]),
            "" if entry["p_adjusted"] is None else p_words(entry["p_adjusted"]),
            str(entry["n"]),
        )
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    for note in report["notes"]:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
    console.print(_said(report["metrics"]), highlight=False)
    console.print(f"[bold]picture[/] {escape(relative_to_root(made.folder / 'differences.png'))}", highlight=False)


def _difference(entry: Mapping[str, Any]) -> str:
    """Write a difference with its interval, green where the second run is clearly better, red where it is worse."""
    from evaluation.report.charts.differences import difference

    value, (low, high), p = entry["value"], entry["ci95"], entry["p_adjusted"]
    text = difference(value, signed=True)
    text += "" if low is None or high is None else escape(f" [{difference(low)}, {difference(high)}]")
    if p is None or p >= ALPHA or not value:
        return text
    return f"[{'green' if (value > 0) == entry['higher_is_better'] else 'red'}]{text}[/]"


def _said(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in one sentence in how many metrics the runs differ."""
    clear = [
        one for one in metrics.values() if one["p_adjusted"] is not None and one["p_adjusted"] < ALPHA and one["value"]
    ]
    better = sum((one["value"] > 0) == one["higher_is_better"] for one in clear)
    if not clear:
        return f"The two do not differ in any of {len(metrics)} metrics (Holm-adjusted p ≥ .05)."
    worse = len(clear) - better
    return (
        f"Of {len(metrics)} metrics the second run is better in {better} and worse in {worse} (Holm-adjusted p < .05)."
    )
