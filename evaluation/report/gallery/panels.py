"""Layout of the gallery's small charts of intervals: one panel a metric, one line a row."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from evaluation.report.wording import (
    Outcome,
    adjusted_p,
    folded,
    headline,
    metric_label,
    number,
    ordered_metrics,
    ordered_rows,
    outcome,
    p_words,
    row_group,
    row_label,
    space_label,
)
from evaluation.statistics.scores import MEAN, NEAREST, NOISE_CEILING, ORACLE, PRIOR, RECONSTRUCTION, SHUFFLED
from evaluation.statistics.spaces import is_centred, plain

LEFT, RIGHT = 132.0, 254.0
"""Ends of the axis; names are written to its left, values and p-values to its right."""
TOP, LINE, FOOT, APART = 22.0, 21.0, 20.0, 7.0
"""Above the rows, a row, below them, and between models, controls and ceilings."""
RING = "M-4.8 0a4.8 4.8 0 1 0 9.6 0a4.8 4.8 0 1 0-9.6 0z"
MARKERS = {
    NEAREST: "M0 5.5l5.5-9.5h-11z",
    PRIOR: "M-4.2-4.2l8.4 8.4M-4.2 4.2l8.4-8.4",
    MEAN: "M-4.2-4.2h8.4v8.4h-8.4z",
    SHUFFLED: "M0-5.5l5.5 9.5h-11z",
    NOISE_CEILING: "M-5.5-4.5l11 9v-9l-11 9z",
    ORACLE: "M0-6l6 6l-6 6l-6-6z",
    "category": "M-5.2-3l5.2-3 5.2 3v6l-5.2 3-5.2-3z",
    "still": "M-5-1.5h10v3h-10z",
    "shuffled_frames": "M-5-5h3v10h-3zM2-5h3v10h-3z",
    "caption_only": "M-5.5-2.5l5.5-3v11l-5.5-3z",
    "z_only": "M5.5-2.5l-5.5-3v11l5.5-3z",
    "time_only": "M-5-5h10l-10 10h10z",
    "nuisance": "M-6 0l3-5 3 10 3-10 3 5",
    "other_brain": "M-1.5-5.5h3v4h4v3h-4v4h-3v-4h-4v-3h4z",
}
"""Every row's shape about the origin; rows of models have a ring."""
ROUNDING = 1e-9
"""By how much a bound may lie beyond the end of its range."""
Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]

MAX_FIRST = 6
FIRST_SPACES = (
    "pixels",
    "frames",
    "latents",
    "clip",
    "clip_frames",
    "video_attributes",
    "video_classes",
    "caption_attributes",
    "captions",
)
"""Spaces of which one metric each is shown first."""


@dataclass(frozen=True)
class Mark:
    """One row's value and interval in a panel, in SVG units."""

    row: str
    label: str
    text: str
    y: float
    x: float | None
    low: float | None
    high: float | None
    compared: Mapping[str, Any] | None = None
    """The reconstruction's paired comparison with the row, where there is one."""

    @property
    def main(self) -> bool:
        """Whether this is the reconstruction, which the other rows are compared with."""
        return self.row == RECONSTRUCTION

    @property
    def shape(self) -> str:
        """The marker's outline, as an SVG path about the origin."""
        return marker(self.row)

    @property
    def p_text(self) -> str:
        """The adjusted p without its letter: "<.001", ".012"; "<.001↓" where the reconstruction is worse."""
        p = adjusted_p(self.compared or {})
        if p is None:
            return ""
        text = p_words(p).removeprefix("p ").removeprefix("= ").replace(" ", "")
        return f"{text}↓" if outcome(self.compared) == "worse" else text


@dataclass(frozen=True)
class Panel:
    """One metric's chart."""

    name: str
    label: str
    marks: list[Mark]
    ends: tuple[str, str]
    """Texts at the two ends of the axis."""
    chance: float | None
    chance_text: str
    height: float
    lower_is_better: bool

    @property
    def axis_y(self) -> float:
        """Height of the axis."""
        return self.height - FOOT

    @property
    def tested(self) -> bool:
        """Whether any row has a p-value."""
        return any(mark.p_text for mark in self.marks)

    @property
    def described(self) -> str:
        """The chart in one sentence, for readers who do not see it."""
        rows = "; ".join(f"{mark.label} {mark.text}{_in_brackets(mark)}" for mark in self.marks)
        lower = " (lower is better)" if self.lower_is_better else ""
        return f"{self.label}{lower}: {rows}" + (f"; chance {self.chance_text}" if self.chance_text else "")


def marker(row: str) -> str:
    """Return a row's shape, an SVG path about the origin."""
    return MARKERS.get(row, RING)


def panels(rows: Rows, comparisons: Rows | None = None) -> list[Panel]:
    """Lay out one panel for every metric that any row has; `rows` and `comparisons` are as in `metrics.json`.

    Rows that are `wording.folded` are not drawn: a table has them.
    """
    names = ordered_metrics(name for entries in rows.values() for name in entries)
    drawn = [row for row in ordered_rows(rows) if not folded(row)]
    panels_of = ((name, {row: rows[row][name] for row in drawn if name in rows[row]}) for name in names)
    return [_panel(name, entries, comparisons or {}) for name, entries in panels_of if entries]


def first_metrics(rows: Rows) -> list[str]:
    """Return the few metrics that are shown first: the headline, and the first metric of each of `FIRST_SPACES`."""
    names = ordered_metrics(name for entries in rows.values() for name in entries)
    first = {space: next(group) for space, group in groupby(names, key=_space) if not is_centred(space)}
    chosen = [name for name in (headline(rows), *(first.get(space) for space in FIRST_SPACES)) if name]
    chosen += [name for space, name in first.items() if space not in FIRST_SPACES]
    some = set(list(dict.fromkeys(chosen or names))[:MAX_FIRST])
    return [name for name in names if name in some]


def by_space(names: list[str]) -> list[tuple[str, list[str]]]:
    """Group ordered `space.metric` names under their spaces' labels; a centred space goes with the plain one."""
    groups: dict[str, list[str]] = {}
    for name in names:
        label = space_label(plain(_space(name))) or "others"
        groups.setdefault(label[:1].upper() + label[1:], []).append(name)
    return list(groups.items())


def _space(name: str) -> str:
    return name.rpartition(".")[0]


OUTCOMES: dict[Outcome, str] = {
    "better": "reconstruction better",
    "worse": "reconstruction worse",
    "open": "no difference shown",
}


def outcome_words(compared: Mapping[str, Any] | None) -> str:
    """Return how a comparison came out: "reconstruction better, adjusted p < .001"; empty where nothing was tested."""
    p, found = adjusted_p(compared or {}), outcome(compared)
    return "" if p is None or found is None else f"{OUTCOMES[found]}, adjusted {p_words(p)}"


def outcome_in_short(compared: Mapping[str, Any] | None) -> str:
    """Return the same for a table's cell: "better, p < .001", "worse, p = .012", "p = .43"."""
    p, found = adjusted_p(compared or {}), outcome(compared)
    if p is None or found is None:
        return ""
    return p_words(p) if found == "open" else f"{found}, {p_words(p)}"


def _in_brackets(mark: Mark) -> str:
    words = outcome_words(mark.compared)
    return f" ({words})" if words else ""


def _panel(name: str, entries: Mapping[str, Mapping[str, Any]], comparisons: Rows) -> Panel:
    first = next(iter(entries.values()))
    low, high = _range(entries)

    def x(value: float | None) -> float | None:
        return None if value is None else round(LEFT + (RIGHT - LEFT) * (value - low) / (high - low), 1)

    groups = [row_group(row) for row in entries]
    tops = [TOP + LINE * place + APART * len(set(groups[: place + 1]) - {groups[0]}) for place in range(len(groups))]

    def mark(place: int, row: str, one: Mapping[str, Any]) -> Mark:
        start, end = (x(bound) for bound in one["ci95"])
        y = tops[place] + 0.5 * LINE
        drawn = number(one["value"]), y, x(one["value"]), start, end
        return Mark(row, row_label(row), *drawn, comparisons.get(row, {}).get(name))

    marks = [mark(place, row, one) for place, (row, one) in enumerate(entries.items())]
    return Panel(
        name=name,
        label=metric_label(name),
        marks=marks,
        ends=(number(low), number(high)),
        chance=x(first["chance"]),
        chance_text="" if first["chance"] is None else number(first["chance"]),
        height=tops[-1] + LINE + FOOT,
        lower_is_better=not first["higher_is_better"],
    )


def _range(entries: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """Return the axis's ends: the range of the values and a margin, within −1 or 0 to 1 where the values are."""
    drawn = [one["value"] for one in entries.values()] + [one["chance"] for one in entries.values()]
    drawn += [bound for one in entries.values() for bound in one["ci95"]]
    known = [value for value in drawn if value is not None] or [0.0, 1.0]
    low, high = min(known), max(known)
    margin = 0.08 * (high - low) or 0.5
    if low >= -1.0 - ROUNDING and high <= 1.0 + ROUNDING:
        return max(low - margin, 0.0 if low >= -ROUNDING else -1.0), min(high + margin, 1.0)
    return low - margin, high + margin
