"""Pictures of a training: loss curves, and masked brain rows beside what a network fills in."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.report.charts.style import save_figure

COLUMNS = 3
SMOOTH = 25
"""Steps that a training loss is averaged over."""
TRAINING, VALIDATION = "#8fb6d9", "#b3470f"
Rows = NDArray[Any]


def curves_png(curves: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return a PNG of every stage's training loss over its steps, and of its validation loss where it had one.

    Parameters
    ----------
    curves : what `curves.json` holds: by stage, `losses`, `validation` as (step, loss), and the `best` step or None
    """
    from matplotlib.figure import Figure

    lines = -(-len(curves) // COLUMNS)
    figure = Figure(figsize=(12, 2.4 * lines), layout="constrained")
    for index, (stage, history) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(lines, COLUMNS, index)
        losses = np.asarray(history["losses"])
        width = max(1, min(SMOOTH, len(losses) // 4))
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.plot(np.arange(len(smooth)) + width, smooth, color=TRAINING, linewidth=1.4, label="training")
        if history["validation"]:
            axes.plot(*zip(*history["validation"], strict=True), color=VALIDATION, linewidth=1.4, label="held out")
        if history["best"]:
            axes.axvline(history["best"], color=VALIDATION, linewidth=0.8, linestyle=":")
        axes.set_title(stage, fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        axes.set_xlabel("step", fontsize=7)
        axes.legend(fontsize=7, frameon=False)
    return save_figure(figure, dpi=100)


def filled_in_png(subject: str, truth: Rows, made: Rows, hidden: NDArray[np.bool_]) -> bytes:
    """Return a PNG of trials, what of them was visible to a network, and what it made of the rest.

    Parameters
    ----------
    truth, made, hidden : (trial, voxel), voxels in ROI order
    """
    from matplotlib.figure import Figure

    visible = np.where(hidden, np.nan, truth)
    filled = np.where(hidden, made, truth)
    shown = {"recorded": truth, "visible": visible, "visible, and what was filled in": filled}
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for index, (title, rows) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(3, 1, index)
        axes.set_facecolor("#d9dce0")
        image = axes.imshow(rows, aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-2.5, vmax=2.5)
        axes.set_title(f"{subject}: {title}", fontsize=9, loc="left")
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
    axes.set_xlabel("voxel, region by region", fontsize=8)
    figure.colorbar(image, ax=figure.axes, label="standard deviations", fraction=0.02)
    return save_figure(figure, dpi=100)
