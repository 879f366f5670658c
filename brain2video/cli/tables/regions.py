"""Shows from which ROIs a study's targets can be decoded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.drawing import print_line, print_notes, print_table, shown_path

CAPTION = "lost: all voxels less all but this ROI's; bold: the interval excludes chance, or 0"


def show_regions(study: str, report: Mapping[str, Any], pictures: Sequence[Path]) -> None:
    """Show a decoding by ROI, best first, and where its pictures are.

    Parameters
    ----------
    report : the content of the run's `regions.json`
    pictures : files of the run
    """
    for role, target in report["targets"].items():
        title = f"{study}: {role} ({target['target']}) from each ROI, {report['n_test']} test stimuli"
        print_table(_table(title, report, target))
    print_line("decoded by", report["config"]["route"]["name"] or "ridge on standardised voxels")
    if report["skipped"]:
        print_line("skipped", "; ".join(f"{roi}: {why}" for roi, why in report["skipped"].items()), style="yellow")
    print_notes(report["notes"])
    brain = report["brain"]
    if brain["why"]:
        print_line("note" if brain["picture"] else "no brain", brain["why"], style="yellow")
    print_line("pictures", ", ".join(shown_path(picture.parent, picture.name) for picture in pictures))


def _table(title: str, report: Mapping[str, Any], target: Mapping[str, Any]) -> Table:
    from evaluation.report.charts.regions import best_first
    from evaluation.statistics.scores import ALL_VOXELS, SHUFFLED

    correlation, two_way = target["metrics"]
    table = Table(title=escape(title), caption=CAPTION, caption_justify="left")
    for name in ("", "voxels", "alone:\ncorrelation", "alone:\ntwo-way", "without it:\ncorrelation", "lost"):
        table.add_column(name, justify="right" if name else "left")
    everything, shuffled = target["rows"][ALL_VOXELS], target["rows"][SHUFFLED]
    table.add_row("all voxels", _counts(report["voxels"]), _cell(everything[correlation]), _cell(everything[two_way]))
    for roi in best_first(target["regions"], correlation):
        scored = target["regions"][roi]
        without, lost = ((scored[kind] or {}).get(correlation) for kind in ("without", "lost"))
        scores = (_cell(scored["alone"][correlation]), _cell(scored["alone"][two_way]), _cell(without, interval=False))
        table.add_row(escape(roi), _counts(report["regions"][roi]["voxels"]), *scores, _cell(lost, digits=3))
    table.add_section()
    table.add_row("shuffled brain", "", _cell(shuffled[correlation]), _cell(shuffled[two_way]))
    table.add_row("chance", "", *(_chance(everything[name]["chance"]) for name in (correlation, two_way)))
    return table


def _counts(voxels: Mapping[str, int]) -> str:
    return f"{round(sum(voxels.values()) / len(voxels)):,}"


def _chance(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _cell(entry: Mapping[str, Any] | None, *, digits: int = 2, interval: bool = True) -> str:
    """Write a score with its interval, bold where that excludes chance, or a difference where it excludes 0."""
    from evaluation.report.wording import number

    if entry is None:
        return "–"
    value, (low, high) = entry["value"], entry["ci95"]
    if value is None or low is None or high is None:
        return number(value, digits)
    text = number(value, digits)
    text += escape(f" [{number(low, digits)}, {number(high, digits)}]") if interval else ""
    null = entry.get("chance", 0.0)
    return text if null is None or low <= null <= high else f"[bold]{text}[/]"
