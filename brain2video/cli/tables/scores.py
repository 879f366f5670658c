"""Shows tables of scores: of a training, routes side by side; of a reconstruction, controls side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.cells import adjusted_p_cell, heading, in_lines, p_below, plain, with_interval
from brain2video.cli.tables.closing import print_closing_report, print_closing_training
from brain2video.cli.tables.drawing import print_line, print_notes, print_table, shown_path
from core.subjects import group_of, subject_label
from studies.runs import GALLERY, PICTURES

FIRST = ("nearest_training_clip", "prior", "mean_predictor", "shuffled_brain")
"""The controls in a report's first table; the others are in a second one."""


def show_training(study: str, folder: Path, scores: Mapping[str, Any], *, full: bool = False) -> None:
    """Show what a training is worth: the route that is registered, how it compares, its scores and the pictures.

    Parameters
    ----------
    folder : the training run
    scores : the content of its `scores.json`
    full : whether every metric of every row is shown
    """
    from evaluation.report.notes import in_order
    from evaluation.report.verdict import training_verdict

    selection, targets = scores["selection"], scores["targets"]
    grounds = f", by {selection['criterion']} of {selection['n']} held-out training stimuli" if selection["n"] else ""
    print_line("registered route", f"{selection['chosen']}{grounds}")
    for sentence in training_verdict(scores):
        print_line("", sentence)
    if full:
        _print_every_route(study, scores)
    else:
        print_closing_training(f"{study}: {scores['n_test']} test stimuli", scores)
    for route, members in {
        name: who for own in targets.values() for name, who in own.get("group_decoders", {}).items()
    }.items():
        decoder = subject_label(group_of(members))
        print_line(route, f"{decoder}: a stimulus is decoded from the responses of all of them to it")
    for label, text in _faults(scores):
        print_line(label, text, style="red")
    print_notes(in_order(note for scored in targets.values() for note in scored.get("notes", [])))
    if gain := (selection.get("reported") or {}).get("difference"):
        print_line("gain by choosing", _gain(gain, selection["reported"]))
    print_line("pictures", shown_path(folder, PICTURES))


def _print_every_route(study: str, scores: Mapping[str, Any]) -> None:
    """Print every route and control of every target in every metric, and how each was tested."""
    targets = scores["targets"]
    for role, scored in targets.items():
        title = f"{study}: {role} ({scored['target']}), {scores['n_test']} test stimuli"
        print_scores(title, *routes_table(scored), scored.get("comparisons"))
    print_folds(scores)
    print_legend([scored["rows"] for scored in targets.values()], in_training=True)
    _print_tests(scores, *targets.values())
    for role, scored in targets.items():
        regressor = scored["regressor"]
        if "explained_variance" in regressor:
            held = f"{regressor['components']} components hold {regressor['explained_variance']:.3f}"
            print_line(role, f"{held} of the training variance of {scored['target']}")
        for subject, note in scored.get("penalties", {}).get(scored["chosen"], {}).items():
            print_line(role, f"{subject}: {note}")


def _gain(gain: Mapping[str, Any], reported: Mapping[str, Any]) -> str:
    """Write what choosing among routes gains over the first one, where it was scored on other stimuli."""
    from evaluation.report.wording import difference, p_words

    (low, high), p = gain["ci95"], gain["p"]
    text = difference(gain["value"], signed=True) + ("" if low is None else f" [{difference(low)}, {difference(high)}]")
    return f"{text} over {reported['baseline']}{'' if p is None else f', {p_words(p)}'}; {reported['how']}"


def show_reconstruction(study: str, folder: Path, metrics: Mapping[str, Any], *, full: bool = False) -> None:
    """Show the verdict on a reconstruction, its scores beside its controls, and where its gallery is.

    Parameters
    ----------
    folder : the run
    metrics : the content of its `metrics.json`
    full : whether every metric of every row is shown
    """
    print_report(f"{study}: {subject_label(metrics['subject'])}, {metrics['n_test']} test stimuli", metrics, full=full)
    print_line("gallery", shown_path(folder, GALLERY))


def print_report(title: str, metrics: Mapping[str, Any], *, full: bool = False) -> None:
    """Print the verdict, the scores beside their controls, leaks and notes.

    Parameters
    ----------
    metrics : the content of a run's `metrics.json`
    full : whether every metric of every row is shown, with what rows are and how they were tested; else the rows that
        matter, in a few metrics
    """
    from evaluation.report.notes import in_order
    from evaluation.report.verdict import verdict

    print_line("", verdict(metrics))
    if full:
        _print_every_row(title, metrics)
    else:
        print_closing_report(title, metrics)
    for label, text in _faults(metrics):
        print_line(label, text, style="red")
    print_notes(in_order(metrics.get("notes", [])))


def _print_every_row(title: str, metrics: Mapping[str, Any]) -> None:
    """Print every metric, a line each, of every row; controls that are not of `FIRST` have a table of their own."""
    from evaluation.report.wording import ordered_rows, row_group
    from evaluation.statistics.scores import MEAN, NOISE_CEILING, SHUFFLED

    rows = metrics["rows"]
    ordered = ordered_rows(rows)
    more = [row for row in ordered if row_group(row) == "control" and row not in FIRST]
    shown = [row for row in ordered if row not in more]
    print_table(_report_table(title, metrics, shown, tested=(SHUFFLED,)))
    if more:
        print_table(_table_of_more(metrics, more))
    print_folds(metrics)
    _print_tests(metrics)
    print_legend([rows], only=(MEAN, NOISE_CEILING))


def _print_tests(report: Mapping[str, Any], *parts: Mapping[str, Any]) -> None:
    """Print how many tests a report, or each of its parts, holds, and how its intervals were computed."""
    from evaluation.report.wording import comparisons_words

    lines = [("tests", words) for words in map(comparisons_words, parts or (report,)) if words]
    lines += [("intervals", report["intervals"])] if report.get("intervals") else []
    for label, text in dict.fromkeys(lines):
        print_line(label, text)


def _report_table(title: str, metrics: Mapping[str, Any], shown: Sequence[str], *, tested: Sequence[str]) -> Table:
    """Return a table of some rows as columns; beside those of `tested`, the adjusted p against the reconstruction."""
    from evaluation.report.wording import metric_label, number, ordered_metrics, row_label
    from evaluation.statistics.scores import RECONSTRUCTION

    rows = {row: metrics["rows"].get(row, {}) for row in shown}
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 0, 0, 2), pad_edge=False)
    table.add_column("")
    for row in shown:
        table.add_column("\n".join(row_label(row).split()[:2]), justify="right", no_wrap=True)
        if row in tested:
            table.add_column("adj.\np", justify="right", no_wrap=True)
    table.add_column("chance", justify="right", no_wrap=True)
    for name in ordered_metrics(name for row in rows.values() for name in row):
        line = [escape(metric_label(name))]
        for row in shown:
            entry = rows[row].get(name)
            line.append(with_interval(entry) if row == RECONSTRUCTION else plain(entry))
            if row in tested:
                line.append(adjusted_p_cell(metrics.get("comparisons", {}).get(row, {}).get(name)))
        entry = next(row[name] for row in rows.values() if name in row)
        table.add_row(*line, number(entry["chance"]) if entry["chance"] is not None else "")
    return table


def _table_of_more(metrics: Mapping[str, Any], more: Sequence[str]) -> Table:
    """Return a table of further controls as columns; each cell has the adjusted p against the reconstruction."""
    from evaluation.report.wording import metric_label, ordered_metrics, row_label
    from evaluation.statistics.scores import RECONSTRUCTION

    rows, comparisons = metrics["rows"], metrics.get("comparisons", {})
    title = f"the reconstruction beside {len(more)} more control{'' if len(more) == 1 else 's'}, with adjusted p"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 0, 0, 2), pad_edge=False)
    table.add_column("")
    for row in (RECONSTRUCTION, *more):
        table.add_column("\n".join(row_label(row).split()[:2]), justify="right", no_wrap=True)
    for name in ordered_metrics(name for row in more for name in rows[row]):
        cells = [plain(rows[row].get(name)) + p_below(comparisons.get(row, {}).get(name)) for row in more]
        table.add_row(escape(metric_label(name)), plain(rows.get(RECONSTRUCTION, {}).get(name)), *cells)
    return table


def print_legend(
    tables: Sequence[Mapping[str, Mapping[str, Any]]], *, only: Sequence[str] | None = None, in_training: bool = False
) -> None:
    """Print a line on what each row is that is no model, and on what "centred" and the like mean.

    Parameters
    ----------
    tables : entries by row and by `space.metric`, of one table or more
    only : the rows that are explained, by default every one
    in_training : whether they are rows of a training; see `evaluation.report.wording.row_meaning`
    """
    from evaluation.report.wording import ordered_rows, row_group, row_label, row_meaning, spaces_explained

    for row in ordered_rows(dict.fromkeys(row for rows in tables for row in rows)):
        if row_group(row) != "model" and (only is None or row in only):
            print_line(row_label(row), row_meaning(row, in_training=in_training))
    for meaning in spaces_explained(name for rows in tables for entries in rows.values() for name in entries):
        print_line("", meaning)


def _faults(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what limits the report, a label and a line each: leaks, and test trials near training trials in time."""
    from evaluation.report.verdict import time_words

    time = metrics.get("diagnoses", {}).get("time") or {}
    near = [("dense in time", time.get("note") or time_words(time))] if time.get("dense") else []
    return [*(("leak", leak) for leak in _leaks(metrics)), *near]


def _leaks(metrics: Mapping[str, Any]) -> list[str]:
    """Return a line for each way in which training has seen the test set."""
    leaks = metrics.get("diagnoses", {}).get("leaks", {})
    stimuli, clips, captions = (leaks.get(kind, {}) for kind in ("stimuli", "clips", "captions"))
    lines = []
    if stimuli.get("count"):
        examples = ", ".join(stimuli["examples"])
        lines.append(f"{stimuli['count']} test stimuli have the name of a training one: {examples}")
    if clips.get("count"):
        pairs = ", ".join(f"{pair['test']} is {pair['train']}" for pair in clips["examples"])
        lines.append(f"{clips['count']} test clips are training clips in another file: {pairs}")
    if captions.get("count"):
        examples = "; ".join(captions["examples"])
        lines.append(f"{captions['count']} test stimuli share a caption with a training one: {examples}")
    return lines


def print_folds(report: Mapping[str, Any]) -> None:
    """Print the K-fold cross-validation of a report, if there is one."""
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
    """Return a target's rows in centred spaces, with differences to the first route, and the chosen route."""
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


def print_scores(
    title: str,
    rows: Mapping[str, Mapping[str, Any]],
    chosen: str | None = None,
    comparisons: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Print rows with their metrics side by side; the chosen row is marked as registered.

    `comparisons` of the chosen row with others, by row and metric, add an adjusted p to these.
    """
    from evaluation.report.wording import number, ordered_metrics, ordered_rows, row_group, row_label

    every = [name for row in rows.values() for name in row]
    names = [*ordered_metrics(n for n in every if "\n" not in n), *dict.fromkeys(n for n in every if "\n" in n)]
    table = Table(title=title, show_lines=True)
    table.add_column("")
    for name in names:
        table.add_column(heading(name), justify="right")
    for row in ordered_rows(rows):
        label = escape(row) if row_group(row) == "model" else row_label(row)  # a route is called as the study calls it
        label = f"[bold]{label}[/]\nregistered" if row == chosen else label
        tests = (comparisons or {}).get(row, {})
        table.add_row(label, *(in_lines(rows[row].get(name), tests.get(name)) for name in names))
    chances = {name: next((row[name]["chance"] for row in rows.values() if name in row), None) for name in names}
    table.add_row("chance", *("" if chances[name] is None else number(chances[name]) for name in names))
    print_table(table)


def print_catalogue() -> None:
    """Print every metric: its name, what it measures, its chance level, its range, and the protocol it follows."""
    from evaluation.metrics import SPACES_OF, metric, metric_names
    from evaluation.report.wording import number, ordered_metrics

    table = Table(title="metrics, as 'space.name'", show_lines=True)
    for head in ("name", "space", "what it is, what guessing earns, and its range"):
        table.add_column(head)
    for name in ordered_metrics(metric_names()):
        listed = metric(name)
        spaces = SPACES_OF.get(listed.view, ("…_centred",) if listed.view == "centred" else ("…",))
        chance = (
            "by the truth" if callable(listed.chance) else "none" if listed.chance is None else number(listed.chance)
        )
        chance += ", in …_centred" if listed.chance_in_centred else ""
        better = "" if listed.higher_is_better else ", lower is better"
        low, high = (f"{bound:.3g}".replace("inf", "∞") for bound in listed.span)
        about = [f"{listed.label}{better}", f"chance {chance}; {low} to {high}"]
        about += [f"published: {listed.protocol}"] if listed.protocol else []
        table.add_row(name, "\n".join(spaces), escape("\n".join(about)))
    print_table(table)
