"""One picture of a subject's ROIs: how many voxels each has, and how much of their variance can be explained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.report.charts.style import save_figure

COLOURS, MARKERS = ("#0b62a8", "#c2571a"), ("o", "^")


def roi_chart_png(
    title: str, voxels: Mapping[str, int], ceilings: Mapping[str, Sequence[NDArray[np.float64]]]
) -> bytes:
    """Return a PNG of voxels and noise ceilings by ROI.

    Parameters
    ----------
    title : str
    voxels : by ROI, how many it has
    ceilings : by what they are of, at most two: the noise ceiling of every ROI's voxels, in percent of variance, in the
        order of `voxels`. The median over finite voxels is drawn, and the middle half as a line.
    """
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a ROI's name may hold any sign
        return _draw(title, voxels, ceilings)


def _draw(title: str, voxels: Mapping[str, int], ceilings: Mapping[str, Sequence[NDArray[np.float64]]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.22 * len(voxels)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 2))
    places = np.arange(len(voxels))[::-1]
    left.barh(places, list(voxels.values()), color="#8a9099", height=0.7)
    left.set_yticks(places, list(voxels), fontsize=8)
    left.set_xlabel("voxels")
    shifts = (0.16, -0.16)
    for (label, values), shift, colour, marker in zip(ceilings.items(), shifts, COLOURS, MARKERS, strict=True):
        low, middle, high = np.array([_quartiles(percent) for percent in values]).T
        right.hlines(places + shift, low, high, color=colour, lw=1.5, alpha=0.6)
        right.plot(middle, places + shift, marker, color=colour, ms=4, label=label)
    right.set_xlim(0, 100)
    right.set_xlabel("noise ceiling, % of variance (median, middle half)")
    right.legend(fontsize=8, frameon=False, loc="lower right")
    for axes in (left, right):
        _plain(axes, len(voxels))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return save_figure(figure, dpi=130)


def _plain(axes: Any, rows: int) -> None:
    axes.set_ylim(-0.8, rows - 0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)


def _quartiles(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = percent[np.isfinite(percent)]
    return np.percentile(finite, [25, 50, 75]) if len(finite) else np.full(3, np.nan)
