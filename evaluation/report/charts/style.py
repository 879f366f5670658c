"""What the charts share: text beside a row, and below the axis what a vertical line is."""

from typing import Any


def write_beside(axes: Any, place: float, text: str, **style: Any) -> None:
    """Write at the panel's right what a row of it is worth."""
    where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate(text, (1.0, place), (8, 0), va="center", **where, **style)


def write_at_foot(axes: Any, x: float, text: str, color: str, line: int = 0) -> None:
    """Write below the axis what a vertical line is, so many lines further down."""
    where = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(text, (x, 0), (0, -18 - 11 * line), ha="center", va="top", fontsize=8, color=color, **where)
