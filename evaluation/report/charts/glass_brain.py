"""Voxels at their places on a glass brain, coloured by how well their ROI alone tells of a target."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.report.wording import number

WIDTH, ROW, HEAD, DPI = 12.0, 3.1, 0.42, 100
"""Inches: of the picture, of a brain, of the line above it."""
NOT_DECODED = "#b4b9c0"
MAP = "viridis"
OUTLINE = (0.45, 0.45, 0.45)
PLACES = ["x", "y", "z"]


def voxel_places(tables: Mapping[str, pd.DataFrame]) -> tuple[dict[str, NDArray[np.float64]], str]:
    """Return where each subject's voxels lie, (voxel, 3) in mm, and why some or all are left out.

    Parameters
    ----------
    tables : by subject, the store's table of voxels

    Returns
    -------
    places : by subject; only those whose voxels all have finite coordinates
    why : empty where every subject has them
    """
    places, without = {}, []
    for subject, table in tables.items():
        found = table[PLACES].to_numpy(np.float64) if set(PLACES) <= set(table) else np.full((len(table), 3), np.nan)
        if np.isfinite(found).all():
            places[subject] = found
        else:
            without.append(subject)
    why = f"the store has no coordinates (x, y, z) of the voxels of {', '.join(without)}" if without else ""
    return places, why


def brain_png(
    places: NDArray[Any], scores: Mapping[str, NDArray[Any]], *, words: str, chance: float, where: str
) -> bytes:
    """Return a PNG, 1200 pixels wide, of one glass brain a target: from the left, above, the right and behind.

    Parameters
    ----------
    places : (voxel, 3), mm
    scores : by title, (voxel,): the score of the voxel's ROI alone; NaN where it has none, which is drawn in grey
    words : what the score is
    chance : where the colours begin, unless a score is lower
    where : the space that the places are in, for the line above
    """
    from matplotlib.figure import Figure

    height = ROW + HEAD
    figure = Figure(figsize=(WIDTH, height * len(scores)), dpi=DPI)
    for index, (title, values) in enumerate(scores.items(), start=1):
        foot = 1 - index / len(scores)
        _draw(figure, (foot, 1 / len(scores)), places, values, (words, chance))
        top = 1 - (index - 1) / len(scores) - 0.1 / figure.get_figheight()
        figure.text(0.012, top, title, fontsize=12, weight="bold", va="top")
        figure.text(0.988, top, where, fontsize=8, color="#6f757d", va="top", ha="right")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def voxel_scores(count: int, regions: Sequence[tuple[NDArray[Any], float | None]]) -> NDArray[np.float64]:
    """Return the score of each voxel's ROI, (voxel,); the best one of a voxel in several, NaN of one in none."""
    values = np.full(count, np.nan)
    for voxels, score in regions:
        values[voxels] = np.fmax(values[voxels], np.nan if score is None else score)
    return values


def _draw(
    figure: Any, band: tuple[float, float], places: NDArray[Any], values: NDArray[Any], told: tuple[str, float]
) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn.plotting import plot_glass_brain

    (foot, height), (words, chance) = band, told
    head = height * HEAD / (ROW + HEAD)
    axes = figure.add_axes((0.005, foot, 0.9, height - head))
    brain = plot_glass_brain(None, display_mode="lzry", figure=figure, axes=axes, annotate=True, alpha=0.6)
    known = np.isfinite(values)
    size = float(np.clip(12000 / max(1, len(places)), 3, 16))
    if not known.all():
        brain.add_markers(places[~known], marker_color=NOT_DECODED, marker_size=size * 0.7, linewidths=0)
    if not known.any():
        return
    scale = Normalize(min(chance, float(values[known].min())), max(float(values[known].max()), chance + 1e-6))
    order = np.flatnonzero(known)[np.argsort(values[known])]  # a projection shows what lies on top: the best
    colours = colormaps[MAP](scale(values[order]))
    brain.add_markers(places[order], marker_color=colours, marker_size=size, linewidths=0)
    bar = figure.add_axes((0.925, foot + 0.12 * height, 0.012, 0.62 * height))
    drawn = figure.colorbar(ScalarMappable(scale, MAP), cax=bar)
    drawn.ax.tick_params(labelsize=8)
    drawn.set_label(f"{words}, ROI alone", fontsize=8)
    drawn.ax.axhline(chance, color="white", linewidth=1)
    drawn.ax.set_xlabel(f"chance {number(chance)}", fontsize=7)
