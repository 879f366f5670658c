"""One picture of where a target can be decoded from: every ROI alone, and what is lost without it."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

from evaluation.report.charts.style import write_at_foot, write_beside
from evaluation.report.wording import number
from evaluation.statistics.scores import SHUFFLED
from evaluation.statistics.spaces import is_centred

METRIC_WORDS = {"correlation": "Pearson r", "two_way": "two-way identification"}
WIDTH, DPI = 12.0, 100
HEAD, FOOT = 1.0, 0.55
"""Inches above a target's rows and below them."""
CLEAR, UNCLEAR = "#5b9bcf", "#cfd6dd"
"""Bars whose interval excludes chance (or no loss), and the others: told apart by lightness, whatever one's colours."""
WHOLE, NULL, CONTROL, WHISKER, WRITTEN = "#b3470f", "#3c4046", "#6f757d", "#14181d", "#0b4a80"
LABEL_WIDTH = 20
MANY = 30
"""ROIs above which rows are drawn narrower."""
Entry = Mapping[str, Any]


def region_chart_png(report: Mapping[str, Any], metric: str = "correlation") -> bytes:
    """Return a PNG, 1200 pixels wide, of every target's score from each ROI.

    One line of panels a target. Left, the score of the ROI's voxels alone with its 95 % interval, best first, beside
    chance (dashed), the shuffled brain (dotted) and all voxels together (a line with its interval as a band). Right,
    what is lost when all voxels but the ROI's are decoded from: the score of all less that of the others. Bars are dark
    where the interval excludes chance or no loss.

    Parameters
    ----------
    report : dict
        What `regions.json` holds: ``{"regions": {ROI: {"voxels": {subject: count}}}, "targets": {role: {"target",
        "rows": {"all_voxels", "shuffled_brain"}, "regions": {ROI: {"alone", "lost"}}}}}``. Values that are null are
        written as a dash and not drawn.
    metric : str
        Which of its metrics, without the space.

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
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


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
    removed = ", training mean removed" if is_centred(name.rpartition(".")[0]) else ""
    _prepare(alone, order, f"ROI alone: {METRIC_WORDS.get(metric, metric)}{removed}")
    _prepare(lost, order, "lost without it: all voxels less all others")
    labels = [_label(roi, report["regions"][roi]) for roi in order]
    alone.set_yticks(range(len(order)), labels, fontsize=_size(order))
    _write_head(alone)
    _draw_references(alone, target["rows"]["all_voxels"][name], target["rows"].get(SHUFFLED, {}).get(name))
    lost.axvline(0, color=NULL, linestyle=(0, (4, 3)), linewidth=1, zorder=4)
    write_at_foot(lost, 0, "nothing lost", NULL)
    chance = target["rows"]["all_voxels"][name]["chance"] or 0.0
    for place, roi in enumerate(order):
        one = target["regions"][roi]
        _draw_bar(alone, place, one["alone"][name], chance, number, _size(order))
        _draw_bar(lost, place, one["lost"] and one["lost"][name], 0.0, finer, _size(order))
    for axes in (alone, lost):
        axes.margins(x=0.05)
        axes.locator_params(axis="x", nbins=6)


def _size(order: list[str]) -> int:
    return 9 if len(order) <= MANY else 8


def _metric_name(target: Mapping[str, Any], metric: str) -> str:
    names = [name for name in target["rows"]["all_voxels"] if name.rpartition(".")[2] == metric]
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


def _prepare(axes: Any, order: list[str], title: str) -> None:
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_yticks(range(len(order)), [""] * len(order))
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, loc="left", pad=22)


def _write_head(axes: Any) -> None:
    """Write above the labels what they are."""
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


def _draw_bar(
    axes: Any, place: int, entry: Entry | None, null: float, written: Callable[[float | None], str], size: int
) -> None:
    """Draw a bar from chance with its interval, and write both at the panel's right."""
    if entry is None or entry["value"] is None:
        write_beside(axes, place, "no other voxels" if entry is None else "–", color=CONTROL, fontsize=size - 1)
        return
    value, (low, high) = entry["value"], entry["ci95"]
    has_interval = low is not None and high is not None
    clear = has_interval and not low <= null <= high
    axes.barh(place, value - null, left=null, height=0.72, color=CLEAR if clear else UNCLEAR, zorder=3)
    text = written(value)
    if has_interval:
        axes.plot([low, high], [place, place], color=WHISKER, linewidth=1.2, solid_capstyle="butt", zorder=5)
        text += f"  [{written(low)}, {written(high)}]"
    write_beside(axes, place, text, color=WRITTEN if clear else CONTROL, fontsize=size - 1)


def finer(value: float | None) -> str:
    """Write a figure with three decimals, as differences of a few thousandths need it: .012, −.003."""
    if value is None:
        return number(value)
    text = f"{abs(value):.3f}"
    return ("−" if value < 0 and float(text) else "") + text.removeprefix("0")
