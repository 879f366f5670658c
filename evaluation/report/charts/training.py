"""Charts of a training: the scores of all routes from brain to target, loss curves, and brain rows filled in."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.report.charts.style import prepare_rows, save_figure, shortened, write_at_foot, write_beside
from evaluation.report.wording import number, ordered_rows, row_label, space_label
from evaluation.statistics.scores import NOISE_CEILING, ORACLE, REFERENCES
from evaluation.statistics.spaces import is_centred

COLUMNS = {"correlation": "Pearson r", "two_way": "two-way identification"}
"""The metrics that are shown, one column each, in centred spaces where the report has them."""
WIDTH, DPI = 12.0, 100
LINE, HEAD, FOOT = 0.29, 0.72, 0.5
"""Inches for a row, above a panel's rows and below them."""
MODEL, CHOSEN, CONTROL, CEILING = "#4d7ea8", "#0b4a80", "#6f757d", "#4f7022"
LABEL_WIDTH = 24
MARK = " (chosen)"
NOT_LISTED = (ORACLE, NOISE_CEILING)
"""Rows without a line of their own: the oracle would stretch every axis to 1, the noise ceiling is a vertical line."""
APART = 0.3
"""The share of a panel below which chance and noise ceiling are written on two lines."""
Entry = Mapping[str, Any]
Table = Mapping[str, Mapping[str, Entry]]


def route_table_png(report: Mapping[str, Any]) -> bytes:
    """Return a PNG, 1200 pixels wide, of how well every route predicts every target.

    One line of panels a target: Pearson's r and two-way identification, each as the mean over test stimuli with its
    95 % interval. The chosen route is a filled diamond with its name in bold, the other routes are circles, controls
    are grey squares below. Chance is dashed; the noise ceiling is a line with its interval as a band.

    Parameters
    ----------
    report : that of `scores.json`: ``{"targets": {role: {"target", "rows": {row: {metric: entry}}, "chosen"}}}``.
        `chosen` may be missing. Null values are written as a dash and not drawn. The oracle is not shown.

    Raises
    ------
    ValueError
        The report has no target.
    """
    from matplotlib import rc_context

    if not report["targets"]:
        raise ValueError("the report has no target; nothing to draw")
    with rc_context({"text.parse_math": False}):  # a route's name may hold any sign
        return _draw(report["targets"])


def _draw(targets: Mapping[str, Mapping[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    shown = [ordered_rows(row for row in target["rows"] if row not in NOT_LISTED) for target in targets.values()]
    heights = [HEAD + FOOT + LINE * max(len(rows), 1) for rows in shown]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI)
    top = sum(heights)
    for (role, target), rows, height in zip(targets.items(), shown, heights, strict=True):
        _draw_target(figure, f"{role}: {target['target']}", target, rows, (top - height, top))
        top -= height
    return save_figure(figure)


def _draw_target(
    figure: Any, title: str, target: Mapping[str, Any], rows: list[str], between: tuple[float, float]
) -> None:
    """Draw a target's two panels; `between` are the lower and upper end in inches from the figure's foot."""
    total = figure.get_figheight()
    low, high = (between[0] + FOOT) / total, (between[1] - HEAD) / total
    figure.text(0.012, (between[1] - 0.16) / total, title, fontsize=12, weight="bold", va="top")
    for column, (short, words) in enumerate(COLUMNS.items()):
        axes = figure.add_axes((0.17 + 0.42 * column, low, 0.27, high - low))
        name = _shown_metric(target["rows"], short)
        _draw_panel(axes, name, target, rows, named=column == 0)
        space = name.rpartition(".")[0] if name else ""
        what = f"{words}, {space_label(space)}" if space else words
        axes.set_title(what, fontsize=10, loc="left", pad=6)


def _shown_metric(rows: Table, short: str) -> str | None:
    """Return the `space.metric` name of a column: that of a centred space, else any."""
    names = sorted({name for entries in rows.values() for name in entries if name.rpartition(".")[2] == short})
    return next((name for name in names if is_centred(name.rpartition(".")[0])), names[0] if names else None)


def _draw_panel(axes: Any, name: str | None, target: Mapping[str, Any], rows: list[str], *, named: bool) -> None:
    table: Table = target["rows"]
    chosen = target.get("chosen")
    prepare_rows(axes, [_name(row, chosen) if named else "" for row in rows], fontsize=10)
    for row, text in zip(rows, axes.get_yticklabels(), strict=True):
        text.set(color=_style(row, chosen)["color"], weight="bold" if row == chosen else "normal")
    divide = sum(row not in REFERENCES for row in rows) - 0.5
    if -0.5 < divide < len(rows) - 1:
        axes.axhline(divide, color="#c9cdd2", linewidth=0.8)
    if name is None:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "not scored", transform=axes.transAxes, ha="center", va="center", color=CONTROL)
        return
    entries = {row: entry for row in rows if (entry := table[row].get(name)) is not None}
    for place, row in enumerate(rows):
        if row in entries:
            _draw_row(axes, place, entries[row], _style(row, chosen))
    axes.margins(x=0.06)
    axes.locator_params(axis="x", nbins=6)
    chance = next((entry["chance"] for entry in entries.values()), None)
    _draw_chance(axes, chance)
    _draw_ceiling(axes, table.get(NOISE_CEILING, {}).get(name), chance)


def _name(row: str, chosen: str | None) -> str:
    if row == chosen:
        return shortened(row_label(row), LABEL_WIDTH - len(MARK) - 2) + MARK  # bold letters are wider
    return shortened(row_label(row), LABEL_WIDTH)


def _style(row: str, chosen: str | None) -> dict[str, Any]:
    if row in REFERENCES:
        return {"color": CONTROL, "marker": "s", "markersize": 5, "markerfacecolor": CONTROL}
    if row == chosen:
        return {"color": CHOSEN, "marker": "D", "markersize": 8, "markerfacecolor": CHOSEN}
    return {"color": MODEL, "marker": "o", "markersize": 7, "markerfacecolor": "white"}


def _draw_row(axes: Any, place: int, entry: Entry, style: Mapping[str, Any]) -> None:
    """Draw a point with its interval, and write both at the panel's right."""
    value, (low, high) = entry["value"], entry["ci95"]
    text = number(value)
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=style["color"], linewidth=2, solid_capstyle="butt", zorder=3)
        text += f"  [{number(low)}, {number(high)}]"
    if value is not None:
        axes.plot([value], [place], linestyle="none", markeredgewidth=1.6, zorder=4, **style)
    weight = "bold" if style["marker"] == "D" else "normal"
    write_beside(axes, place, text, fontsize=9, color=style["color"], weight=weight)


def _draw_chance(axes: Any, chance: float | None) -> None:
    if chance is not None:
        axes.axvline(chance, color="#3c4046", linestyle=(0, (4, 3)), linewidth=1, zorder=2)
        write_at_foot(axes, chance, f"chance {number(chance)}", "#3c4046")


def _draw_ceiling(axes: Any, entry: Entry | None, chance: float | None) -> None:
    if entry is None or entry["value"] is None:
        return
    low, high = entry["ci95"]
    if low is not None and high is not None:
        axes.axvspan(low, high, color=CEILING, alpha=0.16, linewidth=0, zorder=1)
    axes.axvline(entry["value"], color=CEILING, linewidth=1.2, zorder=2)
    left, right = axes.get_xlim()
    line = int(chance is not None and abs(entry["value"] - chance) < APART * (right - left))
    write_at_foot(axes, entry["value"], f"noise ceiling {number(entry['value'])}", CEILING, line)


ACROSS = 3
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

    lines = -(-len(curves) // ACROSS)
    figure = Figure(figsize=(12, 2.4 * lines), layout="constrained")
    for index, (stage, history) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(lines, ACROSS, index)
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
