"""Shows tables of scores: routes with their metrics side by side, a report with its controls side by side."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH = 120
"""Columns of a table that goes into a file or a pipe."""
REPORT_WIDTH = 150
"""The same for a report; a narrower screen shows three rows."""


def print_report(title: str, metrics: Mapping[str, Any]) -> None:
    """Print a reconstruction's scores, a metric a line, beside its controls; then what a reader has to know.

    Parameters
    ----------
    metrics : what `metrics.json` holds
    """
    from evaluation.report.wording import metric_label, number, ordered_metrics, p_words, row_label
    from evaluation.statistics.scores import CONTROLS, NOISE_CEILING, ORACLE, RECONSTRUCTION, SHUFFLED

    rows = metrics["rows"]
    tests = metrics.get("comparisons", {}).get(SHUFFLED, {})
    paper = Console(width=None if sys.stdout.isatty() else REPORT_WIDTH)
    wide = paper.width >= REPORT_WIDTH
    columns = (RECONSTRUCTION, *CONTROLS, NOISE_CEILING, ORACLE) if wide else (RECONSTRUCTION, SHUFFLED, ORACLE)
    shown = [row for row in columns if row in rows]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 2), pad_edge=False)
    table.add_column("", no_wrap=wide)
    for row in shown:
        table.add_column("\n".join(row_label(row).split()[:2]), justify="right", no_wrap=True)
        if row == RECONSTRUCTION:
            table.add_column("p against\nshuffled", justify="right", no_wrap=True)
    table.add_column("chance", justify="right", no_wrap=True)
    for name in ordered_metrics(name for row in rows.values() for name in row):
        line = [escape(metric_label(name))]
        for row in shown:
            line.append(_with_interval(rows[row].get(name)) if row == RECONSTRUCTION else _plain(rows[row].get(name)))
            if row == RECONSTRUCTION:
                p = tests.get(name, {}).get("p")
                line.append("" if p is None else p_words(p).removeprefix("p ").removeprefix("= "))
        entry = next(one[name] for one in rows.values() if name in one)
        table.add_row(*line, number(entry["chance"]) if entry["chance"] is not None else "")
    paper.print(table)
    console = Console(soft_wrap=True)
    for leak in _leaks(metrics):
        console.print(f"[red]leak[/] {escape(leak)}", highlight=False)
    for note in metrics.get("notes", []):
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)


def _leaks(metrics: Mapping[str, Any]) -> list[str]:
    """Say in a line each what of the test set training has seen."""
    leaks = metrics.get("diagnoses", {}).get("leaks", {})
    lines = []
    if leaks.get("stimuli", {}).get("count"):
        found = leaks["stimuli"]
        lines.append(f"{found['count']} test stimuli have the name of a training one: {', '.join(found['examples'])}")
    if leaks.get("clips", {}).get("count"):
        found = leaks["clips"]
        pairs = ", ".join(f"{one['test']} is {one['train']}" for one in found["examples"])
        lines.append(f"{found['count']} test clips are training clips in another file: {pairs}")
    if leaks.get("captions", {}).get("count"):
        found = leaks["captions"]
        lines.append(
            f"{found['count']} test stimuli share a caption with a training one: {'; '.join(found['examples'])}"
        )
    return lines


def _with_interval(entry: Mapping[str, Any] | None) -> str:
    from evaluation.report.wording import number

    if entry is None:
        return ""
    low, high = entry["ci95"]
    interval = "" if low is None or high is None else escape(f" [{number(low)}, {number(high)}]")
    return f"[bold]{_plain(entry)}[/]{interval}"


def _plain(entry: Mapping[str, Any] | None) -> str:
    from evaluation.report.wording import number

    if entry is None:
        return ""
    missing = f" ({entry['undefined']} missing)" if entry.get("undefined") else ""
    return ("missing" if entry["value"] is None else number(entry["value"])) + missing


def print_folds(report: Mapping[str, Any]) -> None:
    """Print the K-fold cross-validation that a report carries, if any."""
    from evaluation.statistics.spaces import is_centred

    folds = report.get("cross_validation") or {"targets": {}}
    for role, scored in folds["targets"].items():
        title = f"{folds['folds']}-fold cross-validation: {role} ({scored['target']}), {folds['n']} stimuli"
        plain = {
            row: {name: entry for name, entry in entries.items() if not is_centred(name.rpartition(".")[0])}
            for row, entries in scored["rows"].items()
        }
        print_scores(title, plain)


def routes_table(scored: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Return a target's rows with what they are minus the training mean, and paired differences to the first route."""
    from evaluation.statistics.spaces import is_centred

    routes = {name: scored["rows"][name] for name in scored["routes"]}
    rows = {
        row: {name: entry for name, entry in entries.items() if is_centred(name.rpartition(".")[0])}
        for row, entries in {**routes, **scored["rows"]}.items()
    }
    for row, entries in scored["differences"].items():
        for name, entry in entries.items():
            if is_centred(name.rpartition(".")[0]) and name.endswith(".correlation"):
                rows[row][f"{name}\nminus {scored['baseline']}"] = {**entry, "chance": None}
    return rows, scored["chosen"]


def print_scores(title: str, rows: Mapping[str, Mapping[str, Any]], chosen: str | None = None) -> None:
    """Print rows with their metrics side by side; the chosen row is marked as registered."""
    from evaluation.report.wording import ordered_metrics, ordered_rows

    every = [name for row in rows.values() for name in row]
    names = [*ordered_metrics(n for n in every if "\n" not in n), *dict.fromkeys(n for n in every if "\n" in n)]
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("")
    for name in names:
        table.add_column(name.replace(".", "\n").replace("_centred", ",\nmean removed"), justify="right")
    for row in ordered_rows(rows):
        label = f"[bold]{row}[/]\nregistered" if row == chosen else row
        table.add_row(label, *(_cell(rows[row].get(name)) for name in names))
    chances = {name: next((row[name]["chance"] for row in rows.values() if name in row), None) for name in names}
    table.add_row("chance", *("" if chances[name] is None else f"{chances[name]:.2f}" for name in names))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    if entry["value"] is None:
        return "undefined"
    low, high = entry["ci95"]
    interval = "" if low is None or high is None else f"\n[{low:.2f}, {high:.2f}]"
    return f"[bold]{entry['value']:.3f}[/]{escape(interval)}"


def print_catalogue() -> None:
    """Print every metric: its name, what it is, what guessing earns, its range, and whose protocol it follows."""
    from evaluation.metrics import SPACES_OF, metric, metric_names
    from evaluation.report.wording import ordered_metrics

    table = Table(title="metrics, as 'space.name'", title_justify="left", show_lines=True)
    for name, justify in (
        ("space", "left"),
        ("name", "left"),
        ("what it is", "left"),
        ("chance", "right"),
        ("range", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ordered_metrics(metric_names()):
        one = metric(name)
        spaces = SPACES_OF.get(one.view, ("…_centred",) if one.view == "centred" else ("…",))
        chance = "by the truth" if callable(one.chance) else "" if one.chance is None else f"{one.chance:.3g}"
        better = "" if one.higher_is_better else ", lower is better"
        about = f"{one.label}{better}" + (f"\npublished: {one.protocol}" if one.protocol else "")
        low, high = (f"{bound:.3g}".replace("inf", "∞") for bound in one.span)
        table.add_row("\n".join(spaces), name, escape(about), chance, f"{low} to {high}")
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
