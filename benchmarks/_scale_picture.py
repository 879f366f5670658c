"""The chart of `scale.py`: how each stage's time grows, what was measured and the line that the plan goes by."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from studies.planning.rates import Growth, Rates

WIDTH, DPI, COLUMNS = 12.0, 100, 3
ROW = 2.7
"""Inches of a line of panels."""
POINT, LINE, WRITTEN = "#0b4a80", "#b3470f", "#3c4046"


def growth_png(rates: "Rates") -> bytes:
    """Return a PNG, 1200 pixels wide: one panel a stage, both axes logarithmic."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = -(-len(rates.growth) // COLUMNS)
    with rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(WIDTH, ROW * rows + 0.75), dpi=DPI, layout="constrained")
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for panel, growth in zip(axes, rates.growth, strict=False):
            _draw(panel, growth)
        for panel in axes[len(rates.growth) :]:
            panel.set_visible(False)
        machine = rates.machine
        where = f"{machine.cores} cores, {machine.memory_bytes / 1e9:.0f} GB, {machine.threads} thread"
        figure.suptitle(
            f"Seconds by size, measured on {where}{'s' if machine.threads > 1 else ''}: medians, and the nearer of a "
            "line (constant + slope) and a power law",
            fontsize=11,
            x=0.012,
            ha="left",
        )
        buffer = BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Any, growth: "Growth") -> None:
    from matplotlib.ticker import LogLocator

    sizes = np.array(growth.sizes)
    at = np.geomspace(sizes.min() * 0.8, sizes.max() * 1.25, 60)
    axes.plot(at, [growth.at(size) for size in at], color=LINE, linewidth=1.6, zorder=2)
    style = {"color": POINT, "marker": "o", "markersize": 6, "markerfacecolor": "white", "markeredgewidth": 1.6}
    axes.plot(sizes, growth.seconds, linestyle="none", zorder=3, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = min(growth.seconds), max(growth.seconds)
    middle = float(np.sqrt(low * high))
    reach = max(high / middle, 3.2) * 1.25  # at least a decade, so that what does not grow looks level
    axes.set_ylim(middle / reach, middle * reach)
    axes.set_xticks(sizes, [_short(size) for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel(growth.unit, fontsize=8, color=WRITTEN)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(growth.of, fontsize=10, loc="left", pad=5)
    told = f"size^{growth.exponent:.2f} ± {growth.error:.2f}"
    axes.text(0.97, 0.05, told, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=WRITTEN)


def _short(value: float) -> str:
    """Write a size in a few signs."""
    for unit, power in (("M", 1e6), ("k", 1e3)):
        if value >= power:
            return f"{value / power:.3g} {unit}"
    return f"{value:g}"
