"""A chart of two diagnoses: how predictions spread, and how scores depend on the distance to training.

See `evaluation.diagnoses.recall`.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.diagnoses.recall import MIN_STIMULI, SHARE, cumulative_share, effective_dimension
from evaluation.metrics import PerStimulus
from evaluation.report.charts.style import save_figure, shortened
from evaluation.report.wording import number, trend_words

SIZE, DPI = (12.0, 4.7), 100
OURS, TRUTH, POINT, WORDS = "#0b4a80", "#c05a00", "#7b98b5", "#3c4046"
"""Blue and orange, safe for colour-blind readers; the lines differ in their strokes as well."""
LABEL_WIDTH = 46
Array = NDArray[Any]


def diagnosis_chart(
    predicted: Array,
    truth: Array,
    distance: NDArray[np.float64],
    values: PerStimulus,
    *,
    label: str,
    chance: float | None = None,
    split: Mapping[str, Any] | None = None,
    higher_is_better: bool = True,
) -> bytes:
    """Return a PNG, 1200 pixels wide, of two panels.

    Left: the share of variance that the first principal components hold, of predictions and of true targets of the same
    stimuli, with their effective dimensions: predictions whose curve rises far above that of the targets have
    collapsed. Right: every test stimulus's score by the distance of its true target to the nearest training stimulus;
    the means of the near, the middle and the far third with their 95 % intervals, and chance.

    Parameters
    ----------
    predicted, truth : (n, ...) in one space, centred or not
    distance : (n,), see `evaluation.diagnoses.recall.nearest_training`
    values : (n,), one metric's scores; NaN values are not drawn, and their number is written
    label : the metric in words
    split : of `split_by_distance` for the metric; without it only points are drawn
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False}):  # a target's name may hold any sign
        figure = Figure(figsize=SIZE, dpi=DPI)
        spread, scored = figure.add_axes((0.065, 0.15, 0.40, 0.67)), figure.add_axes((0.565, 0.15, 0.37, 0.67))
        _draw_spread(spread, predicted, truth)
        _draw_chance(scored, chance)
        _draw_scores(scored, distance, values, label, split, higher_is_better=higher_is_better)
        return save_figure(figure)


def _draw_spread(axes: Any, predicted: Array, truth: Array) -> None:
    n = len(truth)
    _title(axes, "Over how many dimensions do predictions spread?", f"{n} test stimuli, which span {n - 1} at most")
    if n < MIN_STIMULI:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "too few stimuli", transform=axes.transAxes, ha="center", va="center", color=WORDS)
        return
    axes.axhline(SHARE, color=WORDS, linewidth=0.8, linestyle=(0, (4, 3)))
    for name, rows, color, dashes in (
        ("true targets", truth, TRUTH, (0, (5, 1.5))),
        ("predictions", predicted, OURS, "-"),
    ):
        shares = np.concatenate([[0.0], cumulative_share(rows)])
        dimension = effective_dimension(rows)
        height = float(np.interp(dimension, np.arange(n), shares))
        text = f"{name}: effective dimension {dimension:.1f}"
        axes.plot(shares, color=color, linestyle=dashes, linewidth=2, zorder=3, label=text)
        axes.plot([dimension] * 2, [0, height], color=color, linewidth=1.2, linestyle=(0, (1, 1.5)))
        axes.plot([dimension], [height], marker="o", markersize=7, color=color, zorder=4)
    axes.annotate(
        f"{100 * SHARE:.0f} % of the variance",
        (1, SHARE),
        (-2, -3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=WORDS,
    )
    axes.set(xlim=(0, n - 1), ylim=(0, 1.02), xlabel="principal components", ylabel="share of variance")
    axes.legend(loc="lower right", fontsize=9, edgecolor="none", framealpha=0.9, handlelength=2.6)


def _draw_scores(
    axes: Any,
    distance: Array,
    values: PerStimulus,
    label: str,
    split: Mapping[str, Any] | None,
    *,
    higher_is_better: bool,
) -> None:
    _title(axes, "Does the score hold far from what was trained?", _relation(split) if split else "")
    known = np.isfinite(values)
    axes.scatter(distance[known], values[known], s=18, color=POINT, alpha=0.75, linewidth=0, zorder=2)
    axes.set_xlabel("distance to the nearest training stimulus (1 − r)")
    axes.set_ylabel(shortened(label, LABEL_WIDTH), fontsize=9)
    if not higher_is_better:
        where = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate("lower is better", (0, 0), (4, 4), fontsize=8, **where)
    axes.margins(x=0.04, y=0.06)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.2 * (high - low))  # room above for text
    parts = list(split["parts"]) if split else []
    for place, part in enumerate(parts):
        _draw_part(axes, part, (place + 0.5) / len(parts))
    for one, other in pairwise(parts):
        between = (one["distance"][1] + other["distance"][0]) / 2
        axes.axvline(between, ymax=0.87, color="#d5d9dd", linewidth=0.8, zorder=1)
    if not known.all():
        text = f"{(~known).sum()} without a score"
        axes.text(0.99, 0.01, text, transform=axes.transAxes, ha="right", fontsize=8, color=WORDS)


def _draw_part(axes: Any, part: Mapping[str, Any], place: float) -> None:
    """Draw a part's mean over its distances, with its interval, and write both at a place between left and right."""
    low, high = part["distance"]
    text = f"{part['name']}: {number(part['value'])}"
    if part["value"] is not None:
        axes.plot([low, high], [part["value"]] * 2, color=OURS, linewidth=2.4, solid_capstyle="butt", zorder=4)
    bounds = part["ci95"]
    if None not in bounds:
        axes.fill_between(
            [low, high], *([bound] * 2 for bound in bounds), color=OURS, alpha=0.22, linewidth=0, zorder=3
        )
        text += f"\n[{number(bounds[0])}, {number(bounds[1])}]"
    axes.text(place, 0.985, text, transform=axes.transAxes, ha="center", va="top", fontsize=9, color=OURS, zorder=5)


def _relation(split: Mapping[str, Any]) -> str:
    """Return the rank correlation in words."""
    relation = split["rank_correlation"]
    low, high = relation["ci95"]
    if relation["value"] is None or low is None:
        return "no rank correlation"
    correlation = f"{number(relation['value'])} [{number(low)}, {number(high)}]"
    return f"{trend_words(low, high)}: rank correlation of score and distance {correlation}"


def _draw_chance(axes: Any, chance: float | None) -> None:
    if chance is None:
        return
    axes.axhline(chance, color=WORDS, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    axes.annotate(
        f"chance {number(chance)}",
        (1, chance),
        (2, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=WORDS,
        annotation_clip=False,
    )


def _title(axes: Any, title: str, below: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    write = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(title, (0, 1), (0, 28), fontsize=11.5, weight="bold", **write)
    axes.annotate(below, (0, 1), (0, 11), fontsize=9, color=WORDS, **write)
