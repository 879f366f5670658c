"""Shows the scores of a folder of videos, and the difference of two runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.drawing import print_line, print_notes, print_table
from brain2video.cli.tables.scores import print_report
from core.checkout import relative_to_root
from studies.runs import GALLERY

if TYPE_CHECKING:
    from studies.comparison.compare import RunComparison
    from studies.comparison.evaluate import EvaluationRef

ALPHA = 0.05


def show_evaluation(evaluation: "EvaluationRef", *, full: bool = False) -> None:
    """Show the verdict on a folder, its scores beside its controls, and where the gallery is."""
    metrics = evaluation.metrics
    n = metrics["n_test"]
    print_report(f"{evaluation.name}: {n} {'video' if n == 1 else 'videos'}", metrics, full=full)
    print_line("gallery", relative_to_root(evaluation.path / GALLERY))


def show_run_comparison(comparison: "RunComparison") -> None:
    """Show two runs metric by metric, their paired difference, notes, and where the picture is."""
    from evaluation.report.wording import metric_label, number, ordered_metrics, p_words

    report = comparison.report
    first, second = (f"{run['study']}/{run['run']}" for run in report["runs"])
    print_line("first ", first)
    print_line("second", second)
    title = f"{report['row']}, paired over {report['n']} stimuli"
    table = Table(title=escape(title))
    for name in ("", "first", "second", "second − first", "p", "adjusted p", "n"):
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
    print_table(table)
    print_notes(report["notes"])
    print_line("", _summary(report["metrics"]))
    print_line("picture", relative_to_root(comparison.folder / "differences.png"))


def _difference(entry: Mapping[str, Any]) -> str:
    """Write a difference with its interval, green where the second run is clearly better, red where it is worse."""
    from evaluation.report.wording import difference

    value, (low, high), p = entry["value"], entry["ci95"], entry["p_adjusted"]
    text = difference(value, signed=True)
    text += "" if low is None or high is None else escape(f" [{difference(low)}, {difference(high)}]")
    if p is None or p >= ALPHA or not value:
        return text
    return f"[{'green' if (value > 0) == entry['higher_is_better'] else 'red'}]{text}[/]"


def _summary(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one sentence on how many metrics the runs differ in."""
    clear = [
        entry
        for entry in metrics.values()
        if entry["p_adjusted"] is not None and entry["p_adjusted"] < ALPHA and entry["value"]
    ]
    better = sum((entry["value"] > 0) == entry["higher_is_better"] for entry in clear)
    if not clear:
        return f"The two do not differ in any of {len(metrics)} metrics (adjusted p ≥ .05)."
    worse = len(clear) - better
    return f"Of {len(metrics)} metrics the second run is better in {better} and worse in {worse} (adjusted p < .05)."
