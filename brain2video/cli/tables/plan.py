"""Shows a person, with rich, what a study will take."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.scores import WIDTH

if TYPE_CHECKING:
    from studies.planning.plan import GroupPlan, Plan

MANY = 12
"""Groups above which those of one kind are shown as one line."""


def show_plan(plan: "Plan") -> None:
    """Show what is fetched, written, held in memory and waited for; what of it is done; and on what grounds."""
    console = Console(soft_wrap=True)
    low, high = plan.voxels
    voxels = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    console.print(
        f"[bold]{escape(plan.study)}[/] {plan.subjects} {_plural(plan.subjects, 'subject')}, "
        f"{sum(plan.stimuli.values()):,} stimuli ({plan.stimuli['train']:,} to train, {plan.stimuli['test']:,} to "
        f"test), {sum(plan.trials.values()):,} trials, {voxels} voxels a subject; {plan.origin}",
        highlight=False,
    )
    _print(_fetch_table(plan))
    _print(_store_table(plan))
    _print(_outputs_table(plan))
    _print(_stages_table(plan))
    if plan.scales:
        _print(scales_table(plan))
    _show_assumptions(console, plan)


def size(count: float) -> str:
    """Write bytes as people do, by powers of ten."""
    for unit, power in (("TB", 12), ("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return (
                f"{count / 10**power:,.3g} {unit}" if count < 10 ** (power + 3) else f"{count / 10**power:,.0f} {unit}"
            )
    return f"{count:.0f} B"


def duration(hours: float) -> str:
    """Write hours as people do: seconds, minutes, hours or days."""
    if hours * 3600 < 100:
        return f"{hours * 3600:.2g} s"
    if hours * 60 < 100:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 100 else f"{hours / 24:,.0f} d"


def _fetch_table(plan: "Plan") -> Table:
    fetch = plan.fetch
    table = _table("to fetch", "", "bytes", "here")
    if fetch.recordings is None:
        table.add_row("recordings", "nothing that a command brings", "")
    else:
        table.add_row("recordings", size(fetch.recordings), size(fetch.recordings_there))
    for one in fetch.weights:
        table.add_row(escape(one.name), "unknown" if one.size is None else size(one.size), "yes" if one.there else "no")
    table.add_section()
    table.add_row("left", size(fetch.left), "")
    return table


def _store_table(plan: "Plan") -> Table:
    table = _table("feature store", "", "shape (train, test, …)", "chunks", "files", "bytes", "state")
    for kind in ("responses/", "targets/"):
        groups = [one for one in plan.groups if one.name.startswith(kind)]
        if len(groups) > MANY:
            states = sorted({one.state for one in groups})
            _add(table, f"{kind}… ({len(groups)})", "as the first", groups, ", ".join(states))
        else:
            for one in groups:
                _add(
                    table,
                    one.name,
                    "  ".join("×".join(map(str, shape)) for shape in one.shapes.values()),
                    [one],
                    one.state,
                )
    table.add_section()
    _add(table, "in all", "", plan.groups, f"{size(plan.size_left)} left to write")
    return table


def _add(table: Table, name: str, shape: str, groups: Sequence["GroupPlan"], state: str) -> None:
    counts = sum(one.chunks for one in groups), sum(one.files for one in groups)
    colour = "green" if state == "fresh" else "yellow"
    shown = f"[{colour}]{escape(state)}[/]" if name != "in all" else state
    table.add_row(escape(name), shape, *(f"{n:,}" for n in counts), size(sum(one.size for one in groups)), shown)


def _outputs_table(plan: "Plan") -> Table:
    table = _table("beside the store", "", "bytes")
    for one in plan.outputs:
        table.add_row(escape(one.what), size(one.size))
    return table


def _stages_table(plan: "Plan") -> Table:
    machines = list(plan.hours[0].whole) if plan.hours else []
    table = _table("stages", "", "peak memory", "grows with", *machines, "left here")
    hours, peaks = {one.stage: one for one in plan.hours}, {one.stage: one for one in plan.peaks}
    for stage in dict.fromkeys([*peaks, *hours]):
        peak, one = peaks.get(stage), hours.get(stage)
        times = [] if one is None else [_timed(one.whole[name], one.grounds[name]) for name in machines]
        left = duration(one.left[machines[0]]) if one is not None else ""
        grows = "" if peak is None else peak.grows
        table.add_row(stage, "" if peak is None else size(peak.size), grows, *(times or [""] * len(machines)), left)
    if plan.hours:
        table.add_section()
        sums = [duration(sum(one.whole[name] for one in plan.hours)) for name in machines]
        table.add_row("in all", "", "", *sums, duration(sum(one.left[machines[0]] for one in plan.hours)))
    return table


def _timed(hours: float, grounds: str) -> str:
    return f"{duration(hours)}{'' if grounds.startswith('measured') else ' ~'}"


def scales_table(plan: "Plan") -> Table:
    """Return what the study takes with more subjects."""
    table = _table("the same study, larger", "subjects", *(f"{one.subjects:,}" for one in plan.scales))
    rows = {
        "fetched": [size(one.fetch) for one in plan.scales],
        "store": [f"{size(one.store)}, {one.files:,} files" for one in plan.scales],
        "models, the largest route": [size(one.models) for one in plan.scales],
        "peak memory": [size(one.memory) for one in plan.scales],
    }
    for machine in plan.scales[0].hours:
        rows[f"hours, {machine}"] = [f"{duration(one.hours[machine])} ~" for one in plan.scales]
    for machine in plan.scales[0].money:
        rows[f"money, {machine} and a month of disk"] = [f"{one.money[machine]:,.0f}" for one in plan.scales]
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


def _show_assumptions(console: Console, plan: "Plan") -> None:
    from studies.planning.plan import ESTIMATED, MEASURED

    gpu, rates = plan.assumptions["gpu"], plan.assumptions["rates"]
    console.print(
        f"[bold]~[/] is {ESTIMATED}: networks by their products, on a GPU of {gpu['half_flops'] / 1e12:g} TFLOP/s in "
        f"half precision and {gpu['single_flops'] / 1e12:g} in float32 ({gpu['name']}, its stated peaks), "
        f"{gpu['efficiency']:.0%} of which are supposed to be reached; what no network does takes as long as here. "
        "docs/plan.md says which stages several GPUs share; reconstruct and evaluate are not shared.",
        highlight=False,
    )
    console.print(
        f"[bold]prices[/] supposed: {gpu['hour_price']:g} a GPU hour, {gpu['gb_month_price']:g} a GB and month; set "
        "--gpu-hour and --gb-month.",
        highlight=False,
    )
    if rates is not None:
        machine = rates["machine"]
        console.print(
            f"[bold]{MEASURED}[/] without ~: {escape(rates['file'])} of {rates['date']}, {machine['cores']} cores, "
            f"{machine['memory_bytes'] / 1e9:.0f} GB, {machine['threads']} {_plural(machine['threads'], 'thread')}.",
            highlight=False,
        )
    for note in plan.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        words = name in ("", "grows with", "state", "shape (train, test, …)", "subjects")
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    return table


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
