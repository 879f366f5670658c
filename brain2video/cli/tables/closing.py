"""The short table that a command ends with: at most ten rows, those that decide how far the result can be believed."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.cells import adjusted_p_cell, column_name, plain, with_interval
from brain2video.cli.tables.drawing import available_width, print_line, print_table
from brain2video.cli.tables.layout import natural_width

MAX_ROWS = 10
"""Rows of a closing table, with that of chance."""
FULL = "--full"
Rows = Mapping[str, Mapping[str, Any]]


def print_closing_report(title: str, metrics: Mapping[str, Any]) -> None:
    """Print the reconstruction beside its controls in the metric of the verdict, and in others while there is room.

    Parameters
    ----------
    metrics : the content of a run's `metrics.json`
    """
    from evaluation.report.gallery.panels import first_metrics
    from evaluation.report.wording import headline, metric_label, ordered_metrics, ordered_rows, row_label

    rows, comparisons = metrics["rows"], metrics.get("comparisons", {})
    name = headline(rows)
    if name is None:
        return
    shown = [row for row in ordered_rows(rows) if row in rows_that_matter(rows, comparisons, name)[: MAX_ROWS - 1]]
    others = [other for other in first_metrics(rows) if other != name]
    tables = [_report_table(rows, comparisons, shown, [name, *others[:count]]) for count in range(len(others), -1, -1)]
    table = next((one for one in tables if natural_width(one) <= available_width()), tables[-1])
    table.title = escape(f"{title}; {metric_label(name)}")
    print_table(table)
    hidden = [row_label(row) for row in ordered_rows(rows) if row not in shown]
    count = len(ordered_metrics(other for row in rows.values() for other in row)) - (len(table.columns) - 2)
    print_hidden(hidden, count, ["the cross-validation"] if metrics.get("cross_validation") else [])


def rows_that_matter(rows: Rows, comparisons: Rows, name: str) -> list[str]:
    """Return rows, the most important ones first: what must be beaten, what is not, what bounds the reconstruction."""
    from evaluation.report.wording import ordered_rows, outcome, row_group
    from evaluation.statistics.scores import CATEGORY, MEAN, NEAREST, NOISE_CEILING, ORACLE, RECONSTRUCTION, SHUFFLED

    ordered = ordered_rows(rows)
    tested = {row: outcome(comparisons.get(row, {}).get(name)) for row in ordered}
    open_ones = [row for row in ordered if row_group(row) == "control" and tested[row] in ("open", "worse")]
    first = (RECONSTRUCTION, SHUFFLED, MEAN, ORACLE, *open_ones, NEAREST, NOISE_CEILING, CATEGORY, *ordered)
    return [row for row in dict.fromkeys(first) if row in rows]


def _report_table(rows: Rows, comparisons: Rows, shown: Sequence[str], names: Sequence[str]) -> Table:
    """Return rows in some metrics, the first one with its interval and the adjusted p against the reconstruction."""
    from evaluation.report.wording import row_label
    from evaluation.statistics.scores import RECONSTRUCTION

    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 2), pad_edge=False, show_edge=False)
    table.add_column("")
    first, *others = names
    table.add_column(column_name(first), justify="right", no_wrap=True)
    table.add_column("adjusted\np", justify="right")
    for name in others:
        table.add_column(column_name(name), justify="right")
    for row in shown:
        label = f"[bold]{row_label(row)}[/]" if row == RECONSTRUCTION else escape(row_label(row))
        scores = [plain(rows[row].get(name)) for name in others]
        p = adjusted_p_cell(comparisons.get(row, {}).get(first))
        table.add_row(label, with_interval(rows[row].get(first)), p, *scores)
    _add_chances(table, [(rows, first), ({}, ""), *((rows, name) for name in others)])
    return table


def print_hidden(rows: Sequence[str], metrics: int, others: Sequence[str] = ()) -> None:
    """Print what a closing table does not show, by name or by number, and the option that shows it.

    Parameters
    ----------
    rows : labels of rows
    metrics : how many metrics
    others : further parts of the full report
    """
    parts = [f"{len(rows)} more row{'' if len(rows) == 1 else 's'} ({', '.join(rows)})"] if rows else []
    parts += [f"{metrics} more metric{'' if metrics == 1 else 's'}"] if metrics > 0 else []
    if parts or others:
        print_line("", f"{', '.join([*parts, *others])}: {FULL}")


def print_closing_training(title: str, scores: Mapping[str, Any]) -> None:
    """Print the routes of every target beside the controls, in one metric a target.

    Parameters
    ----------
    scores : the content of a training's `scores.json`
    """
    from evaluation.report.verdict import main_metric
    from evaluation.report.wording import ordered_rows, row_group, row_label

    targets = scores["targets"]
    every = dict.fromkeys(row for scored in targets.values() for row in scored["rows"])
    registered = {scored["chosen"] for scored in targets.values()} - {None}
    shown = [row for row in ordered_rows(every) if row in _routes_that_matter(scores)[: MAX_ROWS - 1]]
    names = {role: main_metric(scored, scores) for role, scored in targets.items()}
    table = Table(title=escape(title), box=SIMPLE_HEAD, padding=(0, 0, 0, 2), pad_edge=False, show_edge=False)
    table.add_column("")
    for role, scored in targets.items():
        target = "" if scored["target"] == role else f" ({scored['target']})"
        table.add_column(f"{escape(role + target)}:\n{column_name(names[role])}", justify="right")
    for row in shown:
        label = escape(row) if row_group(row) == "model" else row_label(row)
        label = f"[bold]{label}[/], registered" if row in registered else label
        entries = [scored["rows"].get(row, {}).get(names[role]) for role, scored in targets.items()]
        table.add_row(label, *map(with_interval, entries))
    _add_chances(table, [(scored["rows"], names[role]) for role, scored in targets.items()])
    print_table(table)
    hidden = [row if row_group(row) == "model" else row_label(row) for row in ordered_rows(every) if row not in shown]
    metrics = sum(len(scored["rows"][scored["routes"][0]]) - 1 for scored in targets.values())
    print_hidden(hidden, metrics, ["the cross-validation"] if scores.get("cross_validation") else [])


def _add_chances(table: Table, columns: Sequence[tuple[Rows, str]]) -> None:
    from evaluation.report.wording import number

    chances = [next((row[name]["chance"] for row in rows.values() if name in row), None) for rows, name in columns]
    if any(chance is not None for chance in chances):
        table.add_row("chance", *("" if chance is None else number(chance) for chance in chances))


def _routes_that_matter(scores: Mapping[str, Any]) -> list[str]:
    """Return the rows of a training, the most important ones first: what is registered, and what it has to beat."""
    from evaluation.report.wording import ordered_rows
    from evaluation.statistics.scores import CATEGORY, MEAN, NOISE_CEILING, SHUFFLED

    targets = scores["targets"].values()
    every = ordered_rows(dict.fromkeys(row for scored in targets for row in scored["rows"]))
    chosen = [scored["chosen"] for scored in targets if scored["chosen"]]
    return [row for row in dict.fromkeys((*chosen, SHUFFLED, MEAN, NOISE_CEILING, CATEGORY, *every)) if row in every]
