"""Shows tables of scores: of a training, routes side by side; of a reconstruction, controls side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.drawing import print_line, print_notes, print_table, shown_path, table_console
from core.subjects import group_of, subject_label
from studies.runs import GALLERY, PICTURES

REPORT_WIDTH = 150
"""Columns of a report that goes into a file or a pipe; a narrower screen gets the rows of `NARROW` alone."""
NARROW = ("reconstruction", "shuffled_brain", "oracle")
SHORT = {
    "reconstruction": "reconstruction",
    "shuffled_brain": "shuffled\nbrain",
    "mean_predictor": "mean\npredictor",
    "prior": "prior",
    "nearest_training_clip": "nearest\ntraining",
    "noise_ceiling": "noise\nceiling",
    "oracle": "oracle",
}
"""The rows of a report as columns, in the order in which they are read from the left."""


def show_training(study: str, folder: Path, scores: Mapping[str, Any]) -> None:
    """Show the scores of a training: every route, which is registered, and where the pictures are.

    Parameters
    ----------
    folder : the training run
    scores : the content of its `scores.json`
    """
    for role, scored in scores["targets"].items():
        title = f"{study}: {role} ({scored['target']}), {scores['n_test']} test stimuli"
        print_scores(title, *routes_table(scored))
        for route, members in scored.get("group_decoders", {}).items():
            decoder = subject_label(group_of(members))
            print_line(route, f"{decoder}: a stimulus is decoded from the responses of all of them to it")
    print_folds(scores)
    for role, scored in scores["targets"].items():
        regressor = scored["regressor"]
        if "explained_variance" in regressor:
            held = f"{regressor['components']} components hold {regressor['explained_variance']:.3f}"
            print_line(role, f"{held} of the training variance of {scored['target']}")
    selection = scores["selection"]
    grounds = f", by {selection['criterion']} of {selection['n']} held-out training stimuli" if selection["n"] else ""
    print_line("registered route", f"{selection['chosen']}{grounds}")
    if gain := (selection.get("reported") or {}).get("difference"):
        print_line("gain by choosing", _gain(gain, selection["reported"]))
    print_line("pictures", shown_path(folder, PICTURES))


def _gain(gain: Mapping[str, Any], reported: Mapping[str, Any]) -> str:
    """Write what choosing among routes gains over the first one, where it was scored on other stimuli."""
    from evaluation.report.charts.differences import difference
    from evaluation.report.wording import p_words

    (low, high), p = gain["ci95"], gain["p"]
    text = difference(gain["value"], signed=True) + ("" if low is None else f" [{difference(low)}, {difference(high)}]")
    return f"{text} over {reported['baseline']}{'' if p is None else f', {p_words(p)}'}; {reported['how']}"


def show_reconstruction(study: str, folder: Path, metrics: Mapping[str, Any]) -> None:
    """Show a reconstruction's scores beside its controls, one sentence on them, and where its gallery is.

    Parameters
    ----------
    folder : the run
    metrics : the content of its `metrics.json`
    """
    from evaluation.report.wording import verdict

    print_report(f"{study}: {subject_label(metrics['subject'])}, {metrics['n_test']} test stimuli", metrics)
    print_folds(metrics)
    print_line("", verdict(metrics))
    print_line("gallery", shown_path(folder, GALLERY))


def print_report(title: str, metrics: Mapping[str, Any]) -> None:
    """Print scores, a metric a line, beside their controls; then leaks and notes.

    Parameters
    ----------
    metrics : the content of a run's `metrics.json`
    """
    from evaluation.report.wording import metric_label, number, ordered_metrics, p_words, row_label
    from evaluation.statistics.scores import RECONSTRUCTION, SHUFFLED

    rows = metrics["rows"]
    tests = metrics.get("comparisons", {}).get(SHUFFLED, {})
    wide = table_console(REPORT_WIDTH).width >= REPORT_WIDTH
    shown = [row for row in SHORT if row in rows and (wide or row in NARROW)]
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
        entry = next(row[name] for row in rows.values() if name in row)
        table.add_row(*line, number(entry["chance"]) if entry["chance"] is not None else "")
    print_table(table, REPORT_WIDTH)
    for leak in _leaks(metrics):
        print_line("leak", leak, style="red")
    print_notes(metrics.get("notes", []))


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
    """Return a target's rows minus the training mean, with differences to the first route, and the chosen route."""
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
    print_table(table)


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    if entry["value"] is None:
        return "undefined"
    low, high = entry["ci95"]
    interval = "" if low is None or high is None else f"\n[{low:.2f}, {high:.2f}]"
    return f"[bold]{entry['value']:.3f}[/]{escape(interval)}"


def print_catalogue() -> None:
    """Print every metric: its name, what it measures, its chance level, its range, and the protocol it follows."""
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
        listed = metric(name)
        spaces = SPACES_OF.get(listed.view, ("…_centred",) if listed.view == "centred" else ("…",))
        chance = "by the truth" if callable(listed.chance) else "" if listed.chance is None else f"{listed.chance:.3g}"
        better = "" if listed.higher_is_better else ", lower is better"
        about = f"{listed.label}{better}" + (f"\npublished: {listed.protocol}" if listed.protocol else "")
        low, high = (f"{bound:.3g}".replace("inf", "∞") for bound in listed.span)
        table.add_row("\n".join(spaces), name, escape(about), chance, f"{low} to {high}")
    print_table(table)
