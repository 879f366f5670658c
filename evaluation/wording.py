"""How figures, metrics and rows are worded wherever people read them."""

import math
from collections.abc import Iterable

from evaluation.metrics import metric, metric_names
from evaluation.scores import ROWS

ROW_LABELS = {
    "reconstruction": "reconstruction",
    "mean_predictor": "mean predictor",
    "shuffled_brain": "shuffled brain",
    "oracle": "oracle",
}
SPACES = ("pixels", "frames", "latents", "text")
FIRST = ("two_way", "two_way_within_class", "correlation", "ssim", "psnr")


def number(value: float | None) -> str:
    """Write a figure as papers do: .93, −.12, 1.00, 18.4, and – for none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{abs(value):.2f}" if abs(value) < 9.995 else f"{abs(value):.1f}"
    sign = "−" if value < 0 and float(text) != 0 else ""
    return sign + (text[1:] if text.startswith("0.") else text)


def row_label(row: str) -> str:
    """Return a row's name in words."""
    return ROW_LABELS.get(row, row.replace("_", " "))


def metric_label(name: str) -> str:
    """Return a `space.metric` name in words, the variant included: "pixels, two-way identification"."""
    space, _, short = name.rpartition(".")
    words = metric(name).label if short in metric_names() else short.replace("_", " ")
    return f"{space}, {words}" if space else words


def short_label(name: str) -> str:
    """Return a `space.metric` name in few words, for a small place: "pixels two-way"."""
    return metric_label(name).split(" (")[0].replace(" identification", "").replace(",", "")


def ordered_rows(rows: Iterable[str]) -> list[str]:
    """Put rows in the order in which they are shown: the four of every report, then others by name."""
    return sorted(rows, key=lambda row: (ROWS.index(row) if row in ROWS else len(ROWS), row))


def ordered_metrics(names: Iterable[str]) -> list[str]:
    """Put `space.metric` names in the order in which they are shown: by space, identification first."""
    known = [*FIRST, *metric_names()]

    def place(name: str) -> tuple[int, str, int, str]:
        space, _, short = name.rpartition(".")
        of_space = SPACES.index(space) if space in SPACES else len(SPACES)
        return of_space, space, known.index(short) if short in known else len(known), short

    return sorted(set(names), key=place)
