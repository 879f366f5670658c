"""Shows what a study will take."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from brain2video.cli.tables.drawing import print_line, print_notes, print_table

if TYPE_CHECKING:
    from studies.planning.plan import Plan
    from studies.planning.store_size import GroupSize

MANY = 12
"""Groups above which those of one kind are shown as one line."""
WORDS = ("", "grows with", "state", "shape (train, test, …)", "subjects", "here", "stage")


def show_plan(plan: "Plan", cards: Sequence[int] = ()) -> None:
    """Show what is fetched, written and held in memory, what of it is done, and which cards hold the networks."""
    low, high = plan.voxels
    print_line(
        plan.study,
        f"{plan.subjects} {'subject' if plan.subjects == 1 else 'subjects'}, {sum(plan.stimuli.values()):,} stimuli "
        f"({plan.stimuli['train']:,} to train, {plan.stimuli['test']:,} to test), {sum(plan.trials.values()):,} "
        f"trials, {low:,}{'' if low == high else f' to {high:,}'} voxels a subject; {plan.origin}",
    )
    fetched = [
        (w.name, "unknown" if w.size is None else size(w.size), "yes" if w.there else "no") for w in plan.weights
    ]
    _print("weights to fetch", ("", "bytes", "here"), fetched)
    if plan.ask is not None:
        print_line("recordings", f"ask the bucket, which knows their bytes: {plan.ask}")
    _print("feature store", ("", "shape (train, test, …)", "chunks", "files", "bytes", "state"), _store(plan))
    outputs = [(o.what, f"{o.files:,}", "by what they show" if o.size is None else size(o.size)) for o in plan.outputs]
    _print("beside the store", ("", "files", "bytes"), outputs)
    peaks = [(peak.stage, size(peak.size), peak.grows) for peak in plan.peaks]
    _print("memory, where no GPU takes part", ("stage", "at most about", "grows with"), peaks)
    networks = [
        (network.stage, network.part, size(network.weights), size(network.working), *map(network.fits, cards))
        for network in plan.networks
        if network.on_gpu
    ]
    names = ("stage", "", "weights, exact", "working, about", *(f"fits {card} GB" for card in cards))
    _print("memory of a GPU", names, networks)
    if plan.scales:
        rows = [
            ("store", *(f"{size(scale.store)}, {scale.files:,} files" for scale in plan.scales)),
            ("models, the largest route", *(size(scale.models) for scale in plan.scales)),
            ("memory, where no GPU takes part", *(size(scale.memory) for scale in plan.scales)),
        ]
        _print("the same study, larger", ("subjects", *(f"{scale.subjects:,}" for scale in plan.scales)), rows)
    print_notes(plan.notes)


def size(count: float) -> str:
    """Write bytes as people do, by powers of ten."""
    for unit, power in (("TB", 12), ("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:,.{3 if count < 10 ** (power + 3) else 4}g} {unit}"
    return f"{count:.0f} B"


def _store(plan: "Plan") -> list[tuple[str, ...]]:
    rows = []
    for kind in ("responses/", "targets/"):
        groups = [group for group in plan.groups if group.name.startswith(kind)]
        if len(groups) > MANY:
            states = ", ".join(sorted({group.state for group in groups}))
            rows.append(_row(f"{kind}… ({len(groups)})", "as the first", groups, states))
        else:
            for group in groups:
                shapes = "  ".join("×".join(map(str, shape)) for shape in group.shapes.values())
                rows.append(_row(group.name, shapes, [group], group.state))
    return [*rows, _row("in all", "", plan.groups, f"{size(plan.size_left)} left to write")]


def _row(name: str, shape: str, groups: Sequence["GroupSize"], state: str) -> tuple[str, ...]:
    chunks, files, stored = (sum(getattr(group, key) for group in groups) for key in ("chunks", "files", "size"))
    return name, shape, f"{chunks:,}", f"{files:,}", size(stored), state


def _print(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name in WORDS else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    if rows:
        print_table(table)
