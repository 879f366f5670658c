"""What the charts share: the way a figure is saved, axes with one row a line, and text beside and below them."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any


def save_figure(figure: Any, dpi: float | None = None) -> bytes:
    """Return a matplotlib figure as PNG, by default with its own dpi; the bytes do not name matplotlib's version."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi or "figure", metadata={"Software": None})
    return buffer.getvalue()


def prepare_rows(axes: Any, labels: Sequence[str], fontsize: float) -> None:
    """Prepare axes for one row a label, from top to bottom, with a grid for the values and no frame."""
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.25)
    axes.set_yticks(range(len(labels)), labels, fontsize=fontsize)


def shortened(text: str, width: int) -> str:
    """Return a text of at most `width` characters, with an ellipsis where it was cut."""
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def write_beside(axes: Any, place: float, text: str, **style: Any) -> None:
    """Write the value of a row at the panel's right."""
    where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate(text, (1.0, place), (8, 0), va="center", **where, **style)


def write_at_foot(axes: Any, x: float, text: str, color: str, line: int = 0) -> None:
    """Write the meaning of a vertical line below the axis, `line` lines further down."""
    where = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(text, (x, 0), (0, -18 - 11 * line), ha="center", va="top", fontsize=8, color=color, **where)
