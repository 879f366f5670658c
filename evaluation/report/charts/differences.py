"""A chart of how two runs differ: a forest plot of paired differences, metric by metric."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.metrics import metric, metric_names
from evaluation.report.charts.style import prepare_rows, save_figure, shortened
from evaluation.report.wording import difference, metric_label, ordered_metrics, p_words, row_label
from evaluation.statistics.scores import RECONSTRUCTION

WIDTH, DPI = 12.0, 100
LINE, HEAD, BETWEEN, FOOT = 0.29, 0.95, 0.62, 0.55
"""Inches for a metric, above all, between panels and below all."""
BETTER, WORSE, EVEN, WORDS = "#0b4a80", "#c05a00", "#6f757d", "#3c4046"
ALPHA = 0.05
LEFT, ACROSS, RIGHT = 0.33, 0.36, 0.71
"""Left end and width of the axes, and the place of the numbers, in parts of the width."""
LABEL_WIDTH, NAME_WIDTH = 52, 46
Entry = Mapping[str, Any]


def difference_chart(report: Mapping[str, Any]) -> bytes:
    """Return a PNG, 1200 pixels wide, of the differences between two runs, second minus first.

    A point is the mean difference over the stimuli that both have, a line its 95 % interval. To the right the second
    run is better: the axis is reversed where lower is better. Significant differences (paired
    permutation test, Holm's correction) are filled, blue or orange; the others are grey and hollow. Metrics from −1 or
    0 to 1 share an axis; every other has its own.

    Parameters
    ----------
    report : the content of `comparison.json`; see `studies.comparison.compare.compare_values`.

    Raises
    ------
    ValueError
        There is no metric.
    """
    from matplotlib import rc_context

    if not report["metrics"]:
        raise ValueError("the comparison has no metric; nothing to draw")
    with rc_context({"text.parse_math": False}):  # a run's name may hold any sign
        return _draw(report)


def _draw(report: Mapping[str, Any]) -> bytes:
    from matplotlib.figure import Figure

    panels = _panels(report["metrics"])
    height = HEAD + FOOT + sum(LINE * len(names) for names in panels) + BETWEEN * (len(panels) - 1)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    _head(figure, report, height)
    top = height - HEAD
    for names in panels:
        low = top - LINE * len(names)
        axes = figure.add_axes((LEFT, low / height, ACROSS, (top - low) / height))
        _draw_panel(axes, {name: report["metrics"][name] for name in names}, report["n"])
        top = low - BETWEEN
    return save_figure(figure)


def _panels(metrics: Mapping[str, Entry]) -> list[list[str]]:
    """Return the metrics of each panel: those that share an axis, then one panel for each of the others."""
    names = ordered_metrics(metrics)
    shared = [name for name in names if _is_share(name)]
    others: dict[str, list[str]] = {}
    for name in names:
        if name not in shared:
            others.setdefault(name.rpartition(".")[2], []).append(name)
    return [panel for panel in (shared, *others.values()) if panel]


def _is_share(name: str) -> bool:
    short = name.rpartition(".")[2]
    if short not in metric_names():
        return True
    low, high = metric(short).span
    return low >= -1.0 and high == 1.0 and metric(short).higher_is_better


def _head(figure: Any, report: Mapping[str, Any], height: float) -> None:
    first, second = (shortened(f"{run['study']}/{run['run']}", NAME_WIDTH) for run in report["runs"])
    row = "" if report["row"] == RECONSTRUCTION else f"{row_label(report['row'])}: "
    figure.text(0.012, 1 - 0.16 / height, f"{row}{second} minus {first}", fontsize=12, weight="bold", va="top")
    n = report["n"]
    note = f"paired over {n} {'stimulus' if n == 1 else 'stimuli'}; to the right, {second} is better"
    figure.text(0.012, 1 - 0.42 / height, note, fontsize=9, color=WORDS, va="top")
    for x, text in ((RIGHT, "difference [95 %]"), (RIGHT + 0.17, "p (Holm)")):
        figure.text(x, 1 - (HEAD - 0.14) / height, text, fontsize=9, color=WORDS, va="bottom")


def _draw_panel(axes: Any, entries: Mapping[str, Entry], n: int) -> None:
    prepare_rows(axes, [_label(name, entry, n) for name, entry in entries.items()], fontsize=9)
    axes.axvline(0.0, color=WORDS, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    for place, entry in enumerate(entries.values()):
        _draw_entry(axes, place, entry)
    reach = max((abs(x) for entry in entries.values() for x in _drawn(entry)), default=0.0) or 1.0
    axes.set_xlim(-1.08 * reach, 1.08 * reach)
    axes.locator_params(axis="x", nbins=6)
    turn = 1 if any(entry["higher_is_better"] for entry in entries.values()) else -1
    axes.xaxis.set_major_formatter(lambda x, _: difference(turn * x))


def _label(name: str, entry: Entry, n: int) -> str:
    label = shortened(metric_label(name), LABEL_WIDTH)
    counted = f" (n = {entry['n']})" if entry["n"] != n else ""
    return label + counted


def _drawn(entry: Entry) -> Sequence[float]:
    return [x for x in (entry["value"], *entry["ci95"]) if x is not None]


def _draw_entry(axes: Any, place: int, entry: Entry) -> None:
    """Draw a point with its interval, and write both with the p-value at the panel's right."""
    sign = 1 if entry["higher_is_better"] else -1
    value, (low, high), p = entry["value"], entry["ci95"], entry["p_adjusted"]
    differs = p is not None and p < ALPHA and value is not None
    color = EVEN if not differs else BETTER if sign * value > 0 else WORSE
    text = difference(value, signed=True)
    if low is not None and high is not None:
        ends = [sign * low, sign * high]
        axes.plot(ends, [place, place], color=color, linewidth=2, solid_capstyle="butt", zorder=3)
        text += f"  [{difference(low)}, {difference(high)}]"
    if value is not None:
        face = color if differs else "white"
        axes.plot(
            [sign * value], [place], "o", color=color, markersize=7, markerfacecolor=face, markeredgewidth=1.6, zorder=4
        )
    weight = "bold" if differs else "normal"
    for x, words in ((RIGHT, text), (RIGHT + 0.17, "" if p is None else p_words(p))):
        axes.annotate(
            words,
            ((x - LEFT) / ACROSS, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=color,
            weight=weight,
            annotation_clip=False,
        )
