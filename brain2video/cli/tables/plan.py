"""Shows what a study will take."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.drawing import print_table

if TYPE_CHECKING:
    from studies.planning.plan import Plan
    from studies.planning.store_size import GroupSize

MANY = 12
"""Groups above which those of one kind are shown as one line."""
WORDS = ("", "grows with", "state", "shape (train, test, …)", "subjects", "here", "stage")


def show_plan(plan: "Plan", cards: Sequence[int] = ()) -> None:
    """Show what is fetched, written and held in memory, what of it is done, and which cards hold the networks."""
    console = Console(soft_wrap=True, highlight=False)
    low, high = plan.voxels
    voxels = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    console.print(
        f"[bold]{escape(plan.study)}[/] {plan.subjects} {'subject' if plan.subjects == 1 else 'subjects'}, "
        f"{sum(plan.stimuli.values()):,} stimuli ({plan.stimuli['train']:,} to train, {plan.stimuli['test']:,} to "
        f"test), {sum(plan.trials.values()):,} trials, {voxels} voxels a subject; {plan.origin}"
    )
    fetched = [(one.name, "unknown" if one.size is None else size(one.size), one.there) for one in plan.weights]
    _print("weights to fetch", ("", "bytes", "here"), [(*words, "yes" if there else "no") for *words, there in fetched])
    if plan.ask is not None:
        console.print(f"[bold]recordings[/] ask the bucket, which knows their bytes: {escape(plan.ask)}")
    _print("feature store", ("", "shape (train, test, …)", "chunks", "files", "bytes", "state"), _store(plan))
    outputs = [(o.what, f"{o.files:,}", "by what they show" if o.size is None else size(o.size)) for o in plan.outputs]
    _print("beside the store", ("", "files", "bytes"), outputs)
    peaks = [(one.stage, size(one.size), one.grows) for one in plan.peaks]
    _print("memory, where no GPU takes part", ("stage", "at most about", "grows with"), peaks)
    networks = [
        (one.stage, one.part, size(one.weights), size(one.working), *(one.fits(card) for card in cards))
        for one in plan.networks
        if one.on_gpu
    ]
    names = ("stage", "", "weights, exact", "working, about", *(f"fits {card} GB" for card in cards))
    _print("memory of a GPU", names, networks)
    scales = {
        "store": [f"{size(one.store)}, {one.files:,} files" for one in plan.scales],
        "models, the largest route": [size(one.models) for one in plan.scales],
        "memory, where no GPU takes part": [size(one.memory) for one in plan.scales],
    }
    if plan.scales:
        names = ("subjects", *(f"{one.subjects:,}" for one in plan.scales))
        _print("the same study, larger", names, [(name, *values) for name, values in scales.items()])
    for note in plan.notes:
        console.print(f"[yellow]note[/] {escape(note)}")


def size(count: float) -> str:
    """Write bytes as people do, by powers of ten."""
    for unit, power in (("TB", 12), ("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:,.{3 if count < 10 ** (power + 3) else 4}g} {unit}"
    return f"{count:.0f} B"


def _store(plan: "Plan") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for kind in ("responses/", "targets/"):
        groups = [one for one in plan.groups if one.name.startswith(kind)]
        if len(groups) > MANY:
            rows.append(_row(f"{kind}… ({len(groups)})", "as the first", groups, sorted({one.state for one in groups})))
            continue
        for one in groups:
            rows.append(
                _row(one.name, "  ".join("×".join(map(str, s)) for s in one.shapes.values()), [one], [one.state])
            )
    return [*rows, _row("in all", "", plan.groups, [f"{size(plan.size_left)} left to write"])]


def _row(name: str, shape: str, groups: Sequence["GroupSize"], states: list[str]) -> tuple[str, ...]:
    counts = sum(one.chunks for one in groups), sum(one.files for one in groups)
    return (name, shape, *(f"{n:,}" for n in counts), size(sum(one.size for one in groups)), ", ".join(states))


def _print(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in WORDS else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    print_table(table)
