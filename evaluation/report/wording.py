"""Scores in words: figures, names of metrics, spaces and rows, p-values, and how a comparison came out."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from evaluation.metrics import metric, metric_names
from evaluation.statistics.scores import (
    CEILINGS,
    MEAN,
    NEAREST,
    NOISE_CEILING,
    ORACLE,
    PRIOR,
    RECONSTRUCTION,
    REFERENCES,
    SHUFFLED,
)
from evaluation.statistics.spaces import is_centred, is_residual, plain

CEILING = "the true targets with the noise of the test responses, at the strength of the model's predictions"
"""What the row `noise_ceiling` is, in every table; see `evaluation.statistics.ceilings`."""
SPACE_LABELS = {
    "pixels": "pixels",
    "frames": "frames",
    "latents": "latents",
    "clip": "CLIP",
    "clip_frames": "CLIP",
    "blip": "BLIP",
    "video_attributes": "video",
    "video_classes": "video classes",
    "frame_classes": "frame classes",
    "text": "caption embedding",
    "caption_attributes": "caption",
    "captions": "captions",
    "caption_clip": "captions",
}
"""Spaces in words, in the order in which they are shown."""
CENTRED_MEANS = "Centred: less the training mean, so that what all clips have in common earns nothing."
"""What `space_label` means by "centred"."""
RESIDUAL_MEANS = (
    "Beyond low-level features: less what luminance, contrast and motion of the same clip explain, by a regression on "
    "training clips."
)
"""What `space_label` means by these words, of spaces that are `is_residual`."""
ROW_LABELS = {
    "category": "true category",
    "still": "still frame",
    "caption_only": "caption alone",
    "z_only": "z alone",
    "time_only": "time alone",
    "nuisance": "nuisance signals",
}
"""Rows whose label is not their name with spaces."""
ROW_MEANINGS = {
    RECONSTRUCTION: "made from the brain's responses to the test clips",
    NEAREST: "the training clip most like the prediction: the result of recalling a training clip",
    PRIOR: "what the generator makes from noise alone, without a caption",
    MEAN: "rendered from the mean of the training targets. It is scored as a clip, which is not that mean any more: "
    "R², which is measured from the mean, may be below 0 here and is exactly 0 in the table of a training",
    SHUFFLED: "the same models on responses in random order",
    "category": "the mean of the training targets of the true class, or without classes of the true target's cluster: "
    "the result of knowing the kind of clip and nothing else",
    "still": "the same reconstruction, its middle frame held: the result without motion",
    "shuffled_frames": "the same reconstruction, its frames in random order: the result without the order of time",
    "caption_only": "the decoded caption with the training mean in place of z: the result of the caption's half",
    "z_only": "the decoded z under an empty caption: the result of the other half",
    "time_only": "targets predicted from the run and the onset of the trials, without the brain",
    "nuisance": "targets predicted from the global signal and, where it is known, the head's motion",
    "other_brain": "another subject's models on this subject's responses",
    NOISE_CEILING: f"{CEILING}: an estimated upper bound",
    ORACLE: "the true targets through the same generator: an upper bound",
}
"""What each row of a reconstruction's report is, in the order in which rows are shown."""
MEANINGS_IN_TRAINING = {
    SHUFFLED: "the registered route on responses in random order",
    MEAN: "the mean of the training targets itself, not rendered. R² is measured from it, so its own R² is 0 by "
    "definition",
    NOISE_CEILING: f"{CEILING}, not rendered; a reconstruction renders the same",
}
"""The same for the table of a training, where the row is another thing than in a reconstruction's."""
FOLDED = ("shuffled_frames", "caption_only", "z_only", "time_only", "nuisance", "other_brain")
"""Controls that tables show in a second part; see `folded`."""
ALPHA = 0.05
"""Two rows differ below this p, adjusted, where the interval of their difference excludes 0 too."""
Entry = Mapping[str, Any]
Outcome = Literal["better", "worse", "open"]
"""How a paired comparison came out; `open` where it shows no difference."""
Group = Literal["model", "control", "ceiling"]


def number(value: float | None, digits: int = 2) -> str:
    """Write a figure as papers do: .93, −.12, 1.00, 18.4, and – for none; `digits` decimals below 10.

    A share just below 1 has one decimal more, .996, so that it is not rounded to 1.
    """
    if value is None or not math.isfinite(value):
        return "–"
    digits = digits + 1 if 1 - 0.5 * 10**-digits <= abs(value) < 1 else digits
    text = f"{abs(value):.{digits}f}" if abs(value) < 10 - 0.5 * 10**-digits else f"{abs(value):.1f}"
    sign = "−" if value < 0 and float(text) != 0 else ""
    return sign + (text[1:] if text.startswith("0.") else text)


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign, +0.012 or -0.012; one that these decimals do not show has none: 0.000."""
    text = f"{value:+.{digits}f}"
    return text if not math.isfinite(value) or float(text) else text[1:]


NAMED = 3
"""How many stimuli or metrics a note names."""


def named(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are: "a, b, c and 2 more"."""
    every = list(names)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more


def row_label(row: str) -> str:
    """Return a row's name in words."""
    return ROW_LABELS.get(row, row.replace("_", " "))


def row_phrase(row: str) -> str:
    """Return a row's name as a sentence has it: "the shuffled brain", "z alone"."""
    return row_label(row) if row == "z_only" else f"the {row_label(row)}"


def row_meaning(row: str, *, in_training: bool = False) -> str:
    """Return one line on what a row is; of a row that is not known, that it is another model.

    `in_training` asks for what it is in the table of a training, where nothing is rendered.
    """
    training = MEANINGS_IN_TRAINING.get(row) if in_training else None
    return training or ROW_MEANINGS.get(row, "another model")


def row_group(row: str) -> Group:
    """Return whether a row is a model, a control that a model has to beat, or a ceiling that bounds it."""
    if row in CEILINGS:
        return "ceiling"
    return "control" if row in REFERENCES or (row in ROW_MEANINGS and row != RECONSTRUCTION) else "model"


def folded(row: str) -> bool:
    """Return whether tables show a row in their second part, so that many rows stay readable."""
    return row in FOLDED


def space_label(space: str) -> str:
    """Return a space's name in words: "latents", "centred latents", "latents beyond low-level features"."""
    base = plain(space)
    name = SPACE_LABELS.get(base, base)
    name = f"{name} beyond low-level features" if is_residual(space) else name
    return f"centred {name}" if is_centred(space) else name


def spaces_explained(names: Iterable[str]) -> list[str]:
    """Return what "centred" and the like mean, of those that occur among `space.metric` names."""
    spaces = {name.rpartition(".")[0] for name in names}
    meanings = {CENTRED_MEANS: is_centred, RESIDUAL_MEANS: is_residual}
    return [meaning for meaning, is_one in meanings.items() if any(is_one(space) for space in spaces)]


def metric_label(name: str) -> str:
    """Return a `space.metric` name in words, the variant included: "pixels, two-way identification"."""
    space, _, short = name.rpartition(".")
    words = metric(name).label if short in metric_names() else short.replace("_", " ")
    return f"{space_label(space)}, {words}" if space else words


def short_label(name: str) -> str:
    """Return a `space.metric` name in few words: "pixels two-way"."""
    return metric_label(name).split(" (")[0].replace(" identification", "").replace(",", "")


def ordered_rows(rows: Iterable[str]) -> list[str]:
    """Sort rows as they are shown: reconstruction, other models in the given order, controls, ceilings."""
    known = list(dict.fromkeys([*ROW_MEANINGS, *REFERENCES]))

    def place(row: str) -> tuple[int, int]:
        groups: dict[Group, int] = {"model": 1, "control": 2, "ceiling": 3}
        return (0, 0) if row == RECONSTRUCTION else (groups[row_group(row)], known.index(row) if row in known else 0)

    return sorted(rows, key=place)


def ordered_metrics(names: Iterable[str]) -> list[str]:
    """Sort `space.metric` names as they are shown: by space, plain before centred, then as registered."""
    spaces, known = list(SPACE_LABELS), metric_names()

    def place(name: str) -> tuple[int, str, bool, bool, int, str]:
        space, _, short = name.rpartition(".")
        base = plain(space)
        of_space = spaces.index(base) if base in spaces else len(spaces)
        of_metric = known.index(short) if short in known else len(known)
        return of_space, base, is_residual(space), is_centred(space), of_metric, short

    return sorted(set(names), key=place)


WITHIN_CLASS, TWO_WAY = "two_way_within_class", "two_way"
MIN_WITHIN_CLASS = 2
"""Stimuli that share their class with another, from which on identification is judged within classes."""


def headline(rows: Mapping[str, Mapping[str, Entry]]) -> str | None:
    """Return the metric that a report is judged by: two-way identification of pixels, else of any space, else any.

    Where stimuli have classes it is identification within class: among all stimuli a model that decodes the class and
    nothing else is identified far above chance (K. Shirakawa et al., arXiv 2405.10078).
    """
    scored = rows.get(RECONSTRUCTION, {})
    names = ordered_metrics(scored)
    within = [name for name in names if name.endswith(f".{WITHIN_CLASS}")]
    within = [name for name in within if scored[name].get("n", MIN_WITHIN_CLASS) >= MIN_WITHIN_CLASS]
    among_all = [name for name in names if name.endswith(f".{TWO_WAY}")]
    return next(iter([*within, *among_all, *names]), None)


def is_above(one: Entry, other: Entry) -> bool | None:
    """Return whether one's interval lies wholly on the better side of the other's; None where either has none."""
    bounds = [*one["ci95"], *other["ci95"]]
    if any(bound is None for bound in bounds):
        return None
    low, high, other_low, other_high = bounds
    return bool(low > other_high) if one["higher_is_better"] else bool(high < other_low)


def adjusted_p(compared: Entry) -> float | None:
    """Return a comparison's adjusted p; as it is in a report that has no other."""
    p: float | None = compared.get("p_adjusted", compared.get("p"))
    return p


def outcome(compared: Entry | None) -> Outcome | None:
    """Return how a paired comparison of a report came out for the reconstruction; None where nothing was compared.

    It is better or worse only where two things agree: the 95 % interval of the paired difference excludes 0, and the
    adjusted p of the paired test is below `ALPHA`. Either alone may err, the one with few stimuli, the other with
    values that are far from normal; where they disagree, no difference is shown.

    Parameters
    ----------
    compared : ``{"value", "ci95", "higher_is_better", "p", "p_adjusted"}``, reconstruction less the other row
    """
    p, (low, high) = adjusted_p(compared or {}), (compared or {}).get("ci95", (None, None))
    if compared is None or p is None or low is None or high is None:
        return None
    if p >= ALPHA or low <= 0 <= high:
        return "open"
    return "better" if (low > 0) == compared["higher_is_better"] else "worse"


def comparisons_words(report: Mapping[str, Any]) -> str:
    """Return how many tests a report holds and how their p-values were adjusted; empty where it holds none.

    For example "177 paired tests against 7 rows; p is adjusted over the metrics of each row."
    """
    tested = (report.get("comparisons") or {}).values()
    counts = [sum(one.get("p") is not None for one in of_row.values()) for of_row in tested]
    counts = [count for count in counts if count]
    if not counts:
        return ""
    total, rows = sum(counts), len(counts)
    tests, against = "test" if total == 1 else "tests", "row" if rows == 1 else "rows"
    return f"{total} paired {tests} against {rows} {against}; p is adjusted over the metrics of each row."


SMALL = 0.1
"""Differences below this have three decimals."""


def difference(value: float | None, *, signed: bool = False) -> str:
    """Write a difference, with three decimals where it is small: .004, −.12; signed also +.004."""
    text = number(value, 2 if value is None or abs(value) >= SMALL else 3)
    is_positive = value is not None and value > 0 and any(sign in "123456789" for sign in text)
    return f"+{text}" if signed and is_positive else text


def interval_words(bounds: Iterable[float | None]) -> str:
    """Write an interval of a difference: " [−.012, .043]"; empty where there is none."""
    low, high = bounds
    return "" if low is None or high is None else f" [{difference(low)}, {difference(high)}]"


def p_words(p: float) -> str:
    """Write a p-value as papers do: "p < .001", "p = .012", "p = .43"."""
    if p < 0.001:
        return "p < .001"
    digits = 3 if p < 0.1 else 2
    return f"p = {f'{p:.{digits}f}'.removeprefix('0')}"


def trend_words(low: float, high: float) -> str:
    """Say what the interval of a score's rank correlation with distance shows."""
    return "better the farther" if low > 0 else "worse the farther" if high < 0 else "no clear trend"
