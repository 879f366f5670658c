"""Shows a person, with rich, from which ROIs a study's targets can be decoded."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.scores import WIDTH
from core.checkout import relative_to_root
from core.files import read_json

if TYPE_CHECKING:
    from studies.study import Study

CAPTION = "lost: all voxels less all but this ROI's; bold: the interval excludes chance, or 0"


def show_regions(study: "Study") -> None:
    """Show the latest decoding by ROI, best first, and where its pictures are, or why there is none."""
    from studies.regions.run import BRAIN, CHART, FOLDER, RECORD, nothing_to_decode

    console = Console(soft_wrap=True)
    nothing = nothing_to_decode(study)
    if nothing is not None:
        console.print(escape(nothing), highlight=False)
        return
    latest = study.outputs / FOLDER / "latest"
    report = read_json(latest / RECORD)
    for role in study.roles.regressed():
        target = report["targets"][role]
        title = f"{study.study}: {role} ({target['target']}) from each ROI, {report['n_test']} test stimuli"
        Console(width=None if sys.stdout.isatty() else WIDTH).print(_table(title, report, target))
    route = report["config"]["route"]["name"]
    console.print(f"[bold]decoded by[/] {escape(route or 'ridge on standardised voxels')}", highlight=False)
    if report["skipped"]:
        left_out = "; ".join(f"{roi}: {why}" for roi, why in report["skipped"].items())
        console.print(f"[yellow]left out[/] {escape(left_out)}", highlight=False)
    for note in report["notes"]:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
    brain = report["brain"]
    if brain["why"]:
        console.print(
            f"[yellow]{'note' if brain['picture'] else 'no brain'}[/] {escape(brain['why'])}", highlight=False
        )
    drawn = [CHART, *([BRAIN] if brain["picture"] else [])]
    console.print(
        f"[bold]pictures[/] {', '.join(escape(relative_to_root(latest / name)) for name in drawn)}", highlight=False
    )


def _table(title: str, report: Mapping[str, Any], target: Mapping[str, Any]) -> Table:
    from evaluation.report.charts.regions import best_first
    from evaluation.statistics.scores import ALL_VOXELS, SHUFFLED

    correlation, two_way = target["metrics"]
    table = Table(title=escape(title), title_justify="left", caption=CAPTION, caption_justify="left")
    for name in ("", "voxels", "alone:\ncorrelation", "alone:\ntwo-way", "without it:\ncorrelation", "lost"):
        table.add_column(name, justify="right" if name else "left")
    everything, shuffled = target["rows"][ALL_VOXELS], target["rows"][SHUFFLED]
    table.add_row("all voxels", _counts(report["voxels"]), _cell(everything[correlation]), _cell(everything[two_way]))
    for roi in best_first(target["regions"], correlation):
        one = target["regions"][roi]
        without, lost = ((one[kind] or {}).get(correlation) for kind in ("without", "lost"))
        scores = (_cell(one["alone"][correlation]), _cell(one["alone"][two_way]), _cell(without, interval=False))
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
