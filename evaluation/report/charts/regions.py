"""Charts of ROIs: their voxels and noise ceilings, what can be decoded from each, and their voxels on a glass brain."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluation.report.charts.style import prepare_rows, save_figure, write_at_foot, write_beside
from evaluation.report.wording import number
from evaluation.statistics.scores import ALL_VOXELS, SHUFFLED
from evaluation.statistics.spaces import is_centred

METRIC_WORDS = {"correlation": "Pearson r", "two_way": "two-way identification"}
WIDTH, DPI = 12.0, 100
HEAD, FOOT = 1.0, 0.55
"""Inches above a target's rows and below them."""
CLEAR, UNCLEAR = "#5b9bcf", "#cfd6dd"
"""Bars whose interval excludes chance (or no loss), and the others; they differ in lightness as well."""
WHOLE, NULL, CONTROL, WHISKER, WRITTEN = "#b3470f", "#3c4046", "#6f757d", "#14181d", "#0b4a80"
LABEL_WIDTH = 20
MANY = 30
"""ROIs above which rows are drawn narrower."""
Entry = Mapping[str, Any]


def region_chart_png(report: Mapping[str, Any], metric: str = "correlation") -> bytes:
    """Return a PNG, 1200 pixels wide, of every target's score from each ROI.

    One line of panels a target. Left, the score of the ROI's voxels alone with its 95 % interval, best first, beside
    chance (dashed), the shuffled brain (dotted) and all voxels together (a line with its interval as a band). Right,
    what is lost without the ROI: the score of all voxels less that of all others. Bars are dark
    where the interval excludes chance or no loss.

    Parameters
    ----------
    report : that of `regions.json`: ``{"regions": {ROI: {"voxels": {subject: count}}}, "targets": {role: {"target",
        "rows": {"all_voxels", "shuffled_brain"}, "regions": {ROI: {"alone", "lost"}}}}}``. Null values are
        written as a dash and not drawn.
    metric : which of its metrics, without the space

    Raises
    ------
    ValueError
        The report has no target or no ROI, or was not scored by this metric.
    """
    from matplotlib import rc_context

    if not report["targets"] or not report["regions"]:
        raise ValueError("the report has no target or no ROI; nothing to draw")
    with rc_context({"text.parse_math": False}):  # a ROI's name may hold any sign
        return _draw(report, metric)


def _draw(report: Mapping[str, Any], metric: str) -> bytes:
    from matplotlib.figure import Figure

    heights = [HEAD + FOOT + _line(len(target["regions"])) * len(target["regions"]) for target in _targets(report)]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI)
    top = sum(heights)
    for (role, target), height in zip(report["targets"].items(), heights, strict=True):
        _draw_target(figure, f"{role}: {target['target']}", report, target, metric, (top - height, top))
        top -= height
    return save_figure(figure)


def _targets(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(report["targets"].values())


def _line(rows: int) -> float:
    """Return the inches of a row: narrower where there are many."""
    return 0.27 if rows <= MANY else 0.2


def _draw_target(
    figure: Any,
    title: str,
    report: Mapping[str, Any],
    target: Mapping[str, Any],
    metric: str,
    between: tuple[float, float],
) -> None:
    """Draw a target's two panels; `between` are the lower and upper end in inches from the figure's foot."""
    total = figure.get_figheight()
    low, high = (between[0] + FOOT) / total, (between[1] - HEAD) / total
    name = _metric_name(target, metric)
    order = best_first(target["regions"], name)
    figure.text(0.012, (between[1] - 0.14) / total, title, fontsize=12, weight="bold", va="top")
    alone = figure.add_axes((0.155, low, 0.275, high - low))
    lost = figure.add_axes((0.575, low, 0.275, high - low))
    removed = ", centred" if is_centred(name.rpartition(".")[0]) else ""
    labels = [_label(roi, report["regions"][roi]) for roi in order]
    _prepare(alone, labels, f"ROI alone: {METRIC_WORDS.get(metric, metric)}{removed}")
    _prepare(lost, [""] * len(order), "lost without it: all voxels less all others")
    _write_head(alone)
    _draw_references(alone, target["rows"][ALL_VOXELS][name], target["rows"].get(SHUFFLED, {}).get(name))
    lost.axvline(0, color=NULL, linestyle=(0, (4, 3)), linewidth=1, zorder=4)
    write_at_foot(lost, 0, "nothing lost", NULL)
    chance = target["rows"][ALL_VOXELS][name]["chance"] or 0.0
    size = 9 if len(order) <= MANY else 8
    for place, roi in enumerate(order):
        one = target["regions"][roi]
        _draw_bar(alone, place, one["alone"][name], chance, 2, size)
        _draw_bar(lost, place, one["lost"] and one["lost"][name], 0.0, 3, size)
    for axes in (alone, lost):
        axes.margins(x=0.05)
        axes.locator_params(axis="x", nbins=6)


def _metric_name(target: Mapping[str, Any], metric: str) -> str:
    names = [name for name in target["rows"][ALL_VOXELS] if name.rpartition(".")[2] == metric]
    if not names:
        raise ValueError(
            f"{target['target']}: not scored by '{metric}'; found {', '.join(target['rows']['all_voxels'])}"
        )
    return str(names[0])


def best_first(regions: Mapping[str, Any], name: str) -> list[str]:
    """Return the ROIs by falling score alone; those without one last."""

    def place(roi: str) -> tuple[bool, float]:
        value = regions[roi]["alone"][name]["value"]
        return value is None, -(value or 0.0)

    return sorted(regions, key=place)


def _label(roi: str, region: Mapping[str, Any]) -> str:
    """Return a ROI's name with its voxels, the mean over subjects."""
    shown = roi if len(roi) <= LABEL_WIDTH else f"{roi[:11]}…{roi[12 - LABEL_WIDTH :]}"
    counts = list(region["voxels"].values())
    return f"{shown}  {round(sum(counts) / len(counts)):,}"


def _prepare(axes: Any, labels: list[str], title: str) -> None:
    prepare_rows(axes, labels, fontsize=9 if len(labels) <= MANY else 8)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, loc="left", pad=22)


def _write_head(axes: Any) -> None:
    """Write a heading above the labels."""
    where = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "bottom"}
    axes.annotate("ROI  voxels", (0, 1), (-6, 3), fontsize=8, color=CONTROL, **where)


def _draw_references(axes: Any, whole: Entry, shuffled: Entry | None) -> None:
    """Draw chance, the shuffled brain and all voxels, with a legend between the title and the bars."""
    handles = []
    if whole["value"] is not None:
        low, high = whole["ci95"]
        if low is not None and high is not None:
            axes.axvspan(low, high, color=WHOLE, alpha=0.14, linewidth=0, zorder=1)
        label = f"all voxels {number(whole['value'])}"
        handles.append(axes.axvline(whole["value"], color=WHOLE, linewidth=1.4, zorder=2, label=label))
    if whole["chance"] is not None:
        label, dashed = f"chance {number(whole['chance'])}", (0, (4, 3))
        handles.append(axes.axvline(whole["chance"], color=NULL, linestyle=dashed, linewidth=1, zorder=4, label=label))
    if shuffled is not None and shuffled["value"] is not None:
        label, dotted = f"shuffled brain {number(shuffled['value'])}", (0, (1, 2))
        line = axes.axvline(shuffled["value"], color=CONTROL, linestyle=dotted, linewidth=1.4, zorder=4, label=label)
        handles.append(line)
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 0.995), "ncols": 3, "fontsize": 8}
    axes.legend(handles=handles, frameon=False, borderpad=0.1, columnspacing=1.2, handlelength=1.6, **place)


def _draw_bar(axes: Any, place: int, entry: Entry | None, null: float, digits: int, size: int) -> None:
    """Draw a bar from `null` with its interval, and write both with so many digits at the panel's right."""
    if entry is None or entry["value"] is None:
        write_beside(axes, place, "no other voxels" if entry is None else "–", color=CONTROL, fontsize=size - 1)
        return
    value, (low, high) = entry["value"], entry["ci95"]
    has_interval = low is not None and high is not None
    clear = has_interval and not low <= null <= high
    axes.barh(place, value - null, left=null, height=0.72, color=CLEAR if clear else UNCLEAR, zorder=3)
    text = number(value, digits)
    if has_interval:
        axes.plot([low, high], [place, place], color=WHISKER, linewidth=1.2, solid_capstyle="butt", zorder=5)
        text += f"  [{number(low, digits)}, {number(high, digits)}]"
    write_beside(axes, place, text, color=WRITTEN if clear else CONTROL, fontsize=size - 1)


BRAIN_ROW, BRAIN_HEAD = 3.1, 0.42
"""Inches: height of a brain, and of the line above it."""
NOT_DECODED = "#b4b9c0"
MAP = "viridis"
OUTLINE = (0.45, 0.45, 0.45)
PLACES = ["x", "y", "z"]


def voxel_places(tables: Mapping[str, pd.DataFrame]) -> tuple[dict[str, NDArray[np.float64]], str]:
    """Return where each subject's voxels lie, (voxel, 3) in mm, and why subjects are missing.

    Parameters
    ----------
    tables : by subject, the store's table of voxels

    Returns
    -------
    places : by subject; only those whose voxels all have finite coordinates
    why : empty where no subject is missing
    """
    places, without = {}, []
    for subject, table in tables.items():
        xyz = table[PLACES].to_numpy(np.float64) if set(PLACES) <= set(table) else np.full((len(table), 3), np.nan)
        if np.isfinite(xyz).all():
            places[subject] = xyz
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

    height = BRAIN_ROW + BRAIN_HEAD
    figure = Figure(figsize=(WIDTH, height * len(scores)), dpi=DPI)
    for index, (title, values) in enumerate(scores.items(), start=1):
        foot = 1 - index / len(scores)
        _draw_brain(figure, (foot, 1 / len(scores)), places, values, (words, chance))
        top = 1 - (index - 1) / len(scores) - 0.1 / figure.get_figheight()
        figure.text(0.012, top, title, fontsize=12, weight="bold", va="top")
        figure.text(0.988, top, where, fontsize=8, color="#6f757d", va="top", ha="right")
    return save_figure(figure)


def voxel_scores(count: int, regions: Sequence[tuple[NDArray[Any], float | None]]) -> NDArray[np.float64]:
    """Return the score of each voxel's ROI, (voxel,); the best one of a voxel in several, NaN of one in none."""
    values = np.full(count, np.nan)
    for voxels, score in regions:
        values[voxels] = np.fmax(values[voxels], np.nan if score is None else score)
    return values


def _draw_brain(
    figure: Any, band: tuple[float, float], places: NDArray[Any], values: NDArray[Any], scale_of: tuple[str, float]
) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn.plotting import plot_glass_brain

    (foot, height), (words, chance) = band, scale_of
    head = height * BRAIN_HEAD / (BRAIN_ROW + BRAIN_HEAD)
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


COLOURS, MARKERS = ("#0b62a8", "#c2571a"), ("o", "^")


def roi_chart_png(
    title: str, voxels: Mapping[str, int], ceilings: Mapping[str, Sequence[NDArray[np.float64]]]
) -> bytes:
    """Return a PNG of voxels and noise ceilings by ROI.

    Parameters
    ----------
    voxels : by ROI, how many it has
    ceilings : by what they are of, at most two: the noise ceiling of every ROI's voxels, in percent of variance, in the
        order of `voxels`. The median over finite voxels is drawn, and the middle half as a line.
    """
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a ROI's name may hold any sign
        return _draw_rois(title, voxels, ceilings)


def _draw_rois(title: str, voxels: Mapping[str, int], ceilings: Mapping[str, Sequence[NDArray[np.float64]]]) -> bytes:
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
    right.set_xlabel("noise ceiling of voxels, % of variance (median, middle half)")
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
