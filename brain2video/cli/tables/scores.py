"""Shows tables of scores: of a training, routes side by side; of a reconstruction, controls side by side."""

from collections.abc import Mapping, Sequence
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
FIRST = ("nearest_training_clip", "prior", "mean_predictor", "shuffled_brain")
"""The controls in a report's first table; the others are in a second one."""


def show_training(study: str, folder: Path, scores: Mapping[str, Any]) -> None:
    """Show the scores of a training: every route, which is registered, and where the pictures are.

    Parameters
    ----------
    folder : the training run
    scores : the content of its `scores.json`
    """
    for role, scored in scores["targets"].items():
        title = f"{study}: {role} ({scored['target']}), {scores['n_test']} test stimuli"
        print_scores(title, *routes_table(scored), scored.get("comparisons"))
        for route, members in scored.get("group_decoders", {}).items():
            decoder = subject_label(group_of(members))
            print_line(route, f"{decoder}: a stimulus is decoded from the responses of all of them to it")
    print_folds(scores)
    print_legend([scored["rows"] for scored in scores["targets"].values()], in_training=True)
    _print_tests(scores, *scores["targets"].values())
    for label, text in _faults(scores):
        print_line(label, text, style="red")
    print_notes(list(dict.fromkeys(note for scored in scores["targets"].values() for note in scored.get("notes", []))))
    for role, scored in scores["targets"].items():
        regressor = scored["regressor"]
        if "explained_variance" in regressor:
            held = f"{regressor['components']} components hold {regressor['explained_variance']:.3f}"
            print_line(role, f"{held} of the training variance of {scored['target']}")
        for subject, note in scored.get("penalties", {}).get(scored["chosen"], {}).items():
            print_line(role, f"{subject}: {note}")
    selection = scores["selection"]
    grounds = f", by {selection['criterion']} of {selection['n']} held-out training stimuli" if selection["n"] else ""
    print_line("registered route", f"{selection['chosen']}{grounds}")
    if gain := (selection.get("reported") or {}).get("difference"):
        print_line("gain by choosing", _gain(gain, selection["reported"]))
    print_line("pictures", shown_path(folder, PICTURES))


def _gain(gain: Mapping[str, Any], reported: Mapping[str, Any]) -> str:
    """Write what choosing among routes gains over the first one, where it was scored on other stimuli."""
    from evaluation.report.wording import difference, p_words

    (low, high), p = gain["ci95"], gain["p"]
    text = difference(gain["value"], signed=True) + ("" if low is None else f" [{difference(low)}, {difference(high)}]")
    return f"{text} over {reported['baseline']}{'' if p is None else f', {p_words(p)}'}; {reported['how']}"


def show_reconstruction(study: str, folder: Path, metrics: Mapping[str, Any]) -> None:
    """Show a reconstruction's scores beside its controls, the verdict, and where its gallery is.

    Parameters
    ----------
    folder : the run
    metrics : the content of its `metrics.json`
    """
    from evaluation.report.verdict import verdict

    print_report(f"{study}: {subject_label(metrics['subject'])}, {metrics['n_test']} test stimuli", metrics)
    print_folds(metrics)
    print_line("", verdict(metrics))
    print_line("gallery", shown_path(folder, GALLERY))


def print_report(title: str, metrics: Mapping[str, Any]) -> None:
    """Print scores, a metric a line, beside their controls; then how they were tested, leaks and notes.

    Controls that are not of `FIRST` have a table of their own, where the screen is wide enough.

    Parameters
    ----------
    metrics : the content of a run's `metrics.json`
    """
    from evaluation.report.wording import ordered_rows, row_group
    from evaluation.statistics.scores import MEAN, NOISE_CEILING, SHUFFLED

    rows = metrics["rows"]
    wide = table_console(REPORT_WIDTH).width >= REPORT_WIDTH
    ordered = ordered_rows(rows)
    more = [row for row in ordered if row_group(row) == "control" and row not in FIRST]
    shown = [row for row in ordered if row not in more and (wide or row in NARROW)]
    print_table(_report_table(title, metrics, shown, tested=(SHUFFLED,)), REPORT_WIDTH)
    if more and wide:
        print_table(_table_of_more(metrics, more), REPORT_WIDTH)
    _print_tests(metrics)
    print_legend([rows], only=(MEAN, NOISE_CEILING))
    for label, text in _faults(metrics):
        print_line(label, text, style="red")
    print_notes(metrics.get("notes", []))


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
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 2), pad_edge=False)
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
            line.append(_with_interval(entry) if row == RECONSTRUCTION else _plain(entry))
            if row in tested:
                line.append(_adjusted_p(metrics.get("comparisons", {}).get(row, {}).get(name)))
        entry = next(row[name] for row in rows.values() if name in row)
        table.add_row(*line, number(entry["chance"]) if entry["chance"] is not None else "")
    return table


def _table_of_more(metrics: Mapping[str, Any], more: Sequence[str]) -> Table:
    """Return a table of further controls as columns; each cell has the adjusted p against the reconstruction."""
    from evaluation.report.wording import metric_label, ordered_metrics, row_label
    from evaluation.statistics.scores import RECONSTRUCTION

    rows, comparisons = metrics["rows"], metrics.get("comparisons", {})
    title = f"the reconstruction beside {len(more)} more control{'' if len(more) == 1 else 's'}, with adjusted p"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 2), pad_edge=False)
    table.add_column("")
    for row in (RECONSTRUCTION, *more):
        table.add_column("\n".join(row_label(row).split()[:2]), justify="right", no_wrap=True)
    for name in ordered_metrics(name for row in more for name in rows[row]):
        cells = [_plain(rows[row].get(name)) + _p_below(comparisons.get(row, {}).get(name)) for row in more]
        table.add_row(escape(metric_label(name)), _plain(rows.get(RECONSTRUCTION, {}).get(name)), *cells)
    return table


def _p_below(compared: Mapping[str, Any] | None) -> str:
    """Write the adjusted p of a comparison on a line of its own: "p < .001", "p = .43"."""
    p = _adjusted_p(compared)
    return "" if not p else f"\np {p}" if p.startswith("<") else f"\np = {p}"


def _adjusted_p(compared: Mapping[str, Any] | None) -> str:
    """Write the adjusted p of a comparison, and "worse" where the reconstruction is: "< .001", ".43", ".002 worse"."""
    from evaluation.report.wording import adjusted_p, outcome, p_words

    p = adjusted_p(compared or {})
    worse = " worse" if outcome(compared) == "worse" else ""
    return "" if p is None else p_words(p).removeprefix("p ").removeprefix("= ") + worse


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
    missing = f"{entry['undefined']} missing" if entry.get("undefined") else "missing"
    return missing if entry["value"] is None else number(entry["value"])


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
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("")
    for name in names:
        table.add_column(_heading(name), justify="right")
    for row in ordered_rows(rows):
        label = escape(row) if row_group(row) == "model" else row_label(row)  # a route is called as the study calls it
        label = f"[bold]{label}[/]\nregistered" if row == chosen else label
        tests = (comparisons or {}).get(row, {})
        table.add_row(label, *(_cell(rows[row].get(name), tests.get(name)) for name in names))
    chances = {name: next((row[name]["chance"] for row in rows.values() if name in row), None) for name in names}
    table.add_row("chance", *("" if chances[name] is None else number(chances[name]) for name in names))
    print_table(table)


def _heading(name: str) -> str:
    """Return a metric's name as the head of a column: "centred latents,", "correlation", "minus ridge"."""
    from evaluation.report.wording import metric_label

    metric, *more = name.split("\n")
    return escape("\n".join([metric_label(metric).replace(", ", ",\n", 1), *more]))


def _cell(entry: Mapping[str, Any] | None, compared: Mapping[str, Any] | None = None) -> str:
    from evaluation.report.wording import number

    if entry is None:
        return ""
    if entry["value"] is None:
        return _plain(entry)
    low, high = entry["ci95"]
    interval = "" if low is None or high is None else f"\n[{number(low)}, {number(high)}]"
    return f"[bold]{number(entry['value'], 3)}[/]{escape(interval)}{_p_below(compared)}"


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
        chance += ", in …_centred" if listed.chance_in_centred else ""
        better = "" if listed.higher_is_better else ", lower is better"
        about = f"{listed.label}{better}" + (f"\npublished: {listed.protocol}" if listed.protocol else "")
        low, high = (f"{bound:.3g}".replace("inf", "∞") for bound in listed.span)
        table.add_row("\n".join(spaces), name, escape(about), chance, f"{low} to {high}")
    print_table(table)
