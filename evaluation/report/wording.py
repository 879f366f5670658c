"""Scores in words: figures, names of metrics, spaces and rows, and the one-sentence verdict."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from evaluation.metrics import metric, metric_names
from evaluation.statistics.scores import CONTROLS, MEAN, ORACLE, RECONSTRUCTION, REFERENCES, SHUFFLED
from evaluation.statistics.spaces import is_centred, plain

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
ALPHA = 0.05
"""A reconstruction counts as above a control below this p."""
ALWAYS = (SHUFFLED, MEAN)
"""Controls whose absence the verdict reports."""
Entry = Mapping[str, Any]


def number(value: float | None, digits: int = 2) -> str:
    """Write a figure as papers do: .93, −.12, 1.00, 18.4, and – for none; `digits` decimals below 10."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{abs(value):.{digits}f}" if abs(value) < 10 - 0.5 * 10**-digits else f"{abs(value):.1f}"
    sign = "−" if value < 0 and float(text) != 0 else ""
    return sign + (text[1:] if text.startswith("0.") else text)


def row_label(row: str) -> str:
    """Return a row's name in words."""
    return row.replace("_", " ")


def space_label(space: str) -> str:
    """Return a space's name in words: "latents", and "centred latents" where the training mean is subtracted."""
    name = SPACE_LABELS.get(plain(space), plain(space))
    return f"centred {name}" if is_centred(space) else name


def metric_label(name: str) -> str:
    """Return a `space.metric` name in words, the variant included: "pixels, two-way identification"."""
    space, _, short = name.rpartition(".")
    words = metric(name).label if short in metric_names() else short.replace("_", " ")
    return f"{space_label(space)}, {words}" if space else words


def short_label(name: str) -> str:
    """Return a `space.metric` name in few words: "pixels two-way"."""
    return metric_label(name).split(" (")[0].replace(" identification", "").replace(",", "")


def ordered_rows(rows: Iterable[str]) -> list[str]:
    """Sort rows as they are shown: reconstruction, other models in the given order, `REFERENCES`."""

    def place(row: str) -> int:
        if row in REFERENCES:
            return 2 + REFERENCES.index(row)
        return 0 if row == RECONSTRUCTION else 1

    return sorted(rows, key=place)


def ordered_metrics(names: Iterable[str]) -> list[str]:
    """Sort `space.metric` names as they are shown: by space, plain before centred, then as registered."""
    spaces, known = list(SPACE_LABELS), metric_names()

    def place(name: str) -> tuple[int, str, bool, int, str]:
        space, _, short = name.rpartition(".")
        of_space = spaces.index(plain(space)) if plain(space) in spaces else len(spaces)
        of_metric = known.index(short) if short in known else len(known)
        return of_space, plain(space), is_centred(space), of_metric, short

    return sorted(set(names), key=place)


def headline(rows: Mapping[str, Mapping[str, Entry]]) -> str | None:
    """Return the metric that is shown first: two-way identification of pixels, else of any space, else any metric."""
    names = ordered_metrics(rows.get(RECONSTRUCTION, {}))
    return next((name for name in names if name.endswith(".two_way")), names[0] if names else None)


def is_above(one: Entry, other: Entry) -> bool | None:
    """Return whether one's interval lies wholly on the better side of the other's; None where either has none."""
    bounds = [*one["ci95"], *other["ci95"]]
    if any(bound is None for bound in bounds):
        return None
    low, high, other_low, other_high = bounds
    return bool(low > other_high) if one["higher_is_better"] else bool(high < other_low)


def verdict(report: Mapping[str, Any], name: str | None = None) -> str:
    """Return one sentence on what a report shows.

    A reconstruction is above a control where it is better and the paired permutation test over test clips is
    significant (two-sided p < .05); in a report without comparisons, where the two intervals do not overlap. One that
    is not above the shuffled brain may come from the generator's prior alone, and the sentence begins with that.

    Parameters
    ----------
    report : the content of `metrics.json`
    name : a `space.metric`, by default `headline`

    Returns
    -------
    str
        For example "Reconstructions are identified .93 of the time (pixels, two-way; chance .50): above the shuffled
        brain and the mean predictor (p < .001), below the oracle's .99."
    """
    rows = report["rows"]
    name = name or headline(rows)
    entry = rows.get(RECONSTRUCTION, {}).get(name)
    if name is None or entry is None:
        return "Nothing was reconstructed, so there is nothing to judge."
    if entry["value"] is None:
        return f"Reconstructions have no score ({metric_label(name)}): {_why_none(entry)}."
    tests = {control: tested[name] for control, tested in report.get("comparisons", {}).items() if name in tested}
    shuffled = tests.get(SHUFFLED, {}).get("p")
    if shuffled is not None and not _is_better(tests[SHUFFLED]):
        return _not_above_the_prior(rows, name, entry, shuffled)
    clauses = [*_against_controls(rows, name, entry, tests), *_against_oracle(rows, name, entry)]
    return f"Reconstructions {_score(name, entry)}{': ' if clauses else ''}{', '.join(clauses)}."


def _is_better(test: Entry) -> bool | None:
    """Return whether a comparison's difference is the better way and significant; None where there is no p."""
    if test.get("p") is None:
        return None
    better = test["value"] > 0 if test.get("higher_is_better", True) else test["value"] < 0
    return bool(better and test["p"] < ALPHA)


def _not_above_the_prior(rows: Mapping[str, Mapping[str, Entry]], name: str, entry: Entry, p: float) -> str:
    other = number(rows[SHUFFLED][name]["value"])
    score = f"they {_score(name, entry)}, the shuffled brain {other} ({p_words(p)})"
    return f"Reconstructions are not above the generator's prior: {score}."


def p_words(p: float) -> str:
    """Write a p-value as papers do: "p < .001", "p = .012", "p = .43"."""
    if p < 0.001:
        return "p < .001"
    digits = 3 if p < 0.1 else 2
    return f"p = {f'{p:.{digits}f}'.removeprefix('0')}"


def trend_words(low: float, high: float) -> str:
    """Say what the interval of a score's rank correlation with distance shows."""
    return "better the farther" if low > 0 else "worse the farther" if high < 0 else "no clear trend"


def _why_none(entry: Entry) -> str:
    undefined = entry.get("undefined")
    return f"{undefined} of them are not finite or have nothing to be compared with" if undefined else "none was scored"


def _score(name: str, entry: Entry) -> str:
    space = space_label(name.rpartition(".")[0])
    chance = "" if entry["chance"] is None else f"; chance {number(entry['chance'])}"
    if name.endswith(".two_way"):
        return f"are identified {_share(entry['value'])} of the time ({space}, two-way{chance})"
    return f"score {number(entry['value'])} ({metric_label(name)}{chance})"


def _against_controls(
    rows: Mapping[str, Mapping[str, Entry]], name: str, entry: Entry, tests: Mapping[str, Entry]
) -> list[str]:
    """Return "above the A and the B", "not above the C", and the controls without a comparison."""
    controls: dict[bool | None, list[str]] = {}
    highest = -1.0
    for row in (row for row in CONTROLS if rows.get(row, {}).get(name) is not None):
        p = tests.get(row, {}).get("p")
        answer = is_above(entry, rows[row][name]) if row not in tests else _is_better(tests[row])
        controls.setdefault(answer, []).append(f"the {row_label(row)}")
        highest = max(highest, p) if answer and p is not None else highest
    wording = {True: "above", False: "not above", None: "with too few clips to compare with"}
    clauses = [
        f"{words} {_listed(controls[answer], answer)}" for answer, words in wording.items() if answer in controls
    ]
    if True in controls and highest >= 0:
        clauses[0] += f" ({p_words(highest)})"
    if True in controls and False in controls:
        clauses = [" but ".join(clauses[:2]), *clauses[2:]]
    return clauses + [f"no {row_label(row)} was run" for row in ALWAYS if name not in rows.get(row, {})]


def _listed(names: list[str], answer: bool | None) -> str:
    *first, last = names
    joined = ", ".join(first)
    return f"{joined} {'or' if answer is False else 'and'} {last}" if first else last


def _share(value: float) -> str:
    """Write a share; a share just below 1 has three digits, so that it is not rounded to 1."""
    return number(value, 3) if 0.995 <= value < 1 else number(value)


def _against_oracle(rows: Mapping[str, Mapping[str, Entry]], name: str, entry: Entry) -> list[str]:
    oracle = rows.get(ORACLE, {}).get(name)
    if oracle is None or oracle["value"] is None:
        return []
    below = is_above(oracle, entry)
    if below is None:
        return []
    return [f"{'below' if below else 'not clearly below'} the oracle's {number(oracle['value'])}"]
