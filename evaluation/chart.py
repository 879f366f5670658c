"""Where things lie in the gallery's small charts of intervals: one panel a metric, one line a row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluation.wording import metric_label, number, ordered_metrics, ordered_rows, row_label

LEFT, RIGHT, WIDTH = 112.0, 288.0, 340.0
TOP, LINE = 12.0, 24.0


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


@dataclass(frozen=True)
class Panel:
    """One metric's chart."""

    name: str
    label: str
    marks: list[Mark]
    ends: tuple[str, str]
    """What stands at the axis's two ends."""
    chance: float | None
    chance_text: str
    height: float
    lower_is_better: bool

    @property
    def axis_y(self) -> float:
        """Where the axis lies."""
        return TOP + LINE * len(self.marks)

    @property
    def described(self) -> str:
        """The chart in one sentence, for those who do not see it."""
        rows = "; ".join(f"{mark.label} {mark.text}" for mark in self.marks)
        return f"{self.label}: {rows}" + (f"; chance {self.chance_text}" if self.chance_text else "")


def panels(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Panel]:
    """Lay out one panel for every metric that any row has."""
    names = ordered_metrics(name for entries in rows.values() for name in entries)
    return [_panel(name, {row: rows[row][name] for row in ordered_rows(rows) if name in rows[row]}) for name in names]


def _panel(name: str, entries: Mapping[str, Mapping[str, Any]]) -> Panel:
    first = next(iter(entries.values()))
    low, high = _range(entries)

    def x(value: float | None) -> float | None:
        return None if value is None else round(LEFT + (RIGHT - LEFT) * (value - low) / (high - low), 1)

    marks = [
        Mark(row, row_label(row), number(one["value"]), TOP + LINE * (k + 0.5), x(one["value"]), *map(x, one["ci95"]))
        for k, (row, one) in enumerate(entries.items())
    ]
    return Panel(
        name=name,
        label=metric_label(name),
        marks=marks,
        ends=(number(low), number(high)),
        chance=x(first["chance"]),
        chance_text="" if first["chance"] is None else number(first["chance"]),
        height=TOP + LINE * len(marks) + 20,
        lower_is_better=not first["higher_is_better"],
    )


def _range(entries: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """Return the axis's ends: all that is drawn and a little more, within −1 or 0 to 1 where all of it is."""
    drawn = [one["value"] for one in entries.values()] + [one["chance"] for one in entries.values()]
    drawn += [bound for one in entries.values() for bound in one["ci95"]]
    known = [value for value in drawn if value is not None] or [0.0, 1.0]
    low, high = min(known), max(known)
    room = 0.08 * (high - low) or 0.5
    if low >= -1.0 and high <= 1.0:
        return max(low - room, 0.0 if low >= 0.0 else -1.0), min(high + room, 1.0)
    return low - room, high + room
