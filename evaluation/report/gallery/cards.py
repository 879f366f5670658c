"""What a report's diagnoses say, in plain words and small tables: whether a reconstruction can be believed.

What the gallery shows of one clip: its previews, its captions with the right words marked, its scores and facts.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from core.clips import Clip
from evaluation.diagnoses.leaks import plain_words
from evaluation.report.gallery.media import preview
from evaluation.report.wording import metric_label, number, ordered_metrics, short_label, space_label
from evaluation.statistics.scores import Values, scores_of

PARTS = ("near", "middle", "far", "all")


def doubts(report: Mapping[str, Any], telling: Iterable[str]) -> dict[str, Any]:
    """Return the parts of the section "Can it be believed?"; a diagnosis that was not made is empty.

    Parameters
    ----------
    report : dict
        Its `diagnoses`; see `evaluation.diagnoses.dimension`, `evaluation.diagnoses.distance` and
        `evaluation.diagnoses.leaks`.
    telling : `space.metric` names
        The scores whose dependence on distance is shown first.
    """
    found = report.get("diagnoses") or {}
    return {
        "dimension": [_spread(space, one) for space, one in (found.get("dimension") or {}).items()],
        "distance": _distance(found.get("distance") or {}, set(telling)),
        "leaks": _leaks(found.get("leaks") or {}),
    }


def _spread(space: str, one: Mapping[str, Any]) -> dict[str, str]:
    components = one.get("components_90") or [None, None]
    return {
        "space": space_label(space),
        "prediction": _plain(one.get("prediction")),
        "target": _plain(one.get("target")),
        "ratio": number(one.get("ratio")),
        "components": " / ".join("–" if count is None else str(count) for count in components),
        "n": str(one.get("n", "–")),
    }


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _distance(found: Mapping[str, Any], telling: set[str]) -> dict[str, Any] | None:
    splits = found.get("metrics") or {}
    names = ordered_metrics(splits)
    if not names:
        return None
    parts = [
        name for name in PARTS if any(part["name"] == name for split in splits.values() for part in split["parts"])
    ]
    rows = [(name in telling, _split(name, splits[name], parts)) for name in names]
    return {
        "space": space_label(found.get("space", "")),
        "parts": [{"name": name, "range": _stretch(splits[names[0]], name)} for name in parts],
        "rows": [row for first, row in rows if first] or [row for _, row in rows],
        "more": [row for first, row in rows if not first] if any(first for first, _ in rows) else [],
    }


def _stretch(split: Mapping[str, Any], name: str) -> str:
    """Return a part's distances and size: ".12 to .31, 16 clips"."""
    part = next((part for part in split["parts"] if part["name"] == name), None)
    if part is None:
        return ""
    low, high = part["distance"]
    return f"{number(low)} to {number(high)}, {part['n']} clip{'' if part['n'] == 1 else 's'}"


def _split(name: str, split: Mapping[str, Any], parts: list[str]) -> dict[str, Any]:
    cells = {part["name"]: part for part in split["parts"]}
    chances = [part["chance"] for part in split["parts"] if part.get("chance") is not None]
    relation = split.get("rank_correlation") or {"value": None, "ci95": [None, None]}
    return {
        "label": metric_label(name),
        "cells": [interval_cell(cells.get(part)) for part in parts],
        "chance": number(chances[0]) if chances else "–",
        "relation": interval_cell(relation),
        "trend": _trend(*relation["ci95"]),
    }


def _trend(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "cannot be said"
    return "better the farther" if low > 0 else "worse the farther" if high < 0 else "no clear trend"


def interval_cell(entry: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return a table cell's value, interval and remark, or None for what a row does not have."""
    if entry is None:
        return None
    low, high = entry["ci95"]
    remarks = [f"n = {entry['n']}"] if "n" in entry and "distance" not in entry else []
    remarks += [f"{entry['undefined']} undefined"] if "undefined" in entry else []
    return {
        "value": number(entry["value"]),
        "interval": "" if low is None or high is None else f"{number(low)} to {number(high)}",
        "remark": ", ".join(remarks),
    }


def _leaks(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    said = {"stimuli": _by_name, "clips": _by_look, "captions": _by_words}
    return [
        {"found": bool(found[key]["count"]), **say(found[key])} if found[key]["count"] is not None else _unasked(key)
        for key, say in said.items()
        if found.get(key)
    ]


def _unasked(key: str) -> dict[str, Any]:
    """Return what is said where there was nothing to compare."""
    return {"found": False, "text": f"There were no {key} to compare.", "examples": []}


def _by_name(one: Mapping[str, Any]) -> dict[str, Any]:
    text = "No test stimulus has the name of a training stimulus."
    if one["count"]:
        text = f"{_are(one['count'], 'test stimulus', 'test stimuli')} also in training, by name."
    return {"text": text, "examples": [str(name) for name in one.get("examples", [])]}


def _by_look(one: Mapping[str, Any]) -> dict[str, Any]:
    limit, nearest = number(one.get("threshold")), one.get("nearest")
    alike = "there were no clips to compare" if nearest is None else f"the two most alike are {number(nearest)} apart"
    text = f"No test clip is a training clip in another file ({alike}; up to {limit} would count)."
    if one["count"]:
        are = _are(one["count"], "test clip", "test clips")
        text = f"{are} as good as a training clip in another file (up to {limit} apart): look at the pairs."
    pairs = [f"{pair['test']} ~ {pair['train']} ({number(pair['distance'])} apart)" for pair in one.get("examples", [])]
    return {"text": text, "examples": pairs}


def _by_words(one: Mapping[str, Any]) -> dict[str, Any]:
    text = "No test clip shares a caption with a training clip."
    if one["count"]:
        share = "test clip shares" if one["count"] == 1 else "test clips share"
        text = f"{one['count']} {share} a caption with a training clip: scores of captions are partly recall."
    return {"text": text, "examples": [f"“{caption}”" for caption in one.get("examples", [])]}


def _are(count: int, one: str, many: str) -> str:
    return f"{count} {one} is" if count == 1 else f"{count} {many} are"


@dataclass(frozen=True)
class GalleryItem:
    """One test stimulus: what was seen, what was made of the brain's response, and how close the two are."""

    stimulus: str
    seen: Clip
    """(frame, height, width, 3) uint8."""
    reconstructed: Clip
    seen_file: str | None = None
    """Where the whole video lies, relative to the page."""
    reconstructed_file: str | None = None
    true_caption: str | None = None
    decoded_caption: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """By `space.metric`, NaN where there is none; see `evaluation.statistics.scores.scores_of`."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Where this one clip comes from: "nearest training clip", "seed", "models"."""


def gallery_items(
    stimuli: Sequence[str],
    seen: Sequence[Clip] | NDArray[np.uint8],
    reconstructed: Sequence[Clip] | NDArray[np.uint8],
    values: Values,
    *,
    folders: tuple[str, str],
    true_captions: Sequence[str] | None,
    decoded_captions: Sequence[str] | None,
    facts: Sequence[Mapping[str, str]],
) -> list[GalleryItem]:
    """Return the items of a run's gallery, one a stimulus.

    Parameters
    ----------
    values : every row's scores of each stimulus
    folders : of the run, in which ``<stimulus>.mp4`` shows what was seen, and what was reconstructed
    true_captions, decoded_captions : one a stimulus, empty where there is none
    """
    return [
        GalleryItem(
            stimulus=stimulus,
            seen=seen[index],
            reconstructed=reconstructed[index],
            seen_file=f"{folders[0]}/{stimulus}.mp4",
            reconstructed_file=f"{folders[1]}/{stimulus}.mp4",
            true_caption=(true_captions[index] or None) if true_captions else None,
            decoded_caption=(decoded_captions[index] or None) if decoded_captions else None,
            scores=scores_of(values, index),
            facts=facts[index],
        )
        for index, stimulus in enumerate(stimuli)
    ]


@dataclass(frozen=True)
class Word:
    """A word of a decoded caption, as it was written, and whether the true caption has it."""

    text: str
    right: bool


def marked_words(decoded: str, true: str) -> list[Word]:
    """Mark the words of a decoded caption that the true one has, each as often as it is there.

    Case and punctuation do not count, and neither does the order.
    """
    left = Counter(plain_words(word) for word in true.split())
    marked = []
    for word in decoded.split():
        key = plain_words(word)
        right = bool(key) and left[key] > 0
        left[key] -= right
        marked.append(Word(word, right))
    return marked


def card(item: GalleryItem, names: Sequence[str], fps: float) -> dict[str, Any]:
    """Return what the page shows of a clip, `names` being the scores in their order."""
    values = [item.scores.get(name, math.nan) for name in names]
    previews = [preview(item.seen, fps), preview(item.reconstructed, fps)]
    return {
        "item": item,
        "screens": [
            {"kind": "Seen", "preview": previews[0], "file": _link(item.seen_file)},
            {"kind": "Reconstructed", "preview": previews[1], "file": _link(item.reconstructed_file)},
        ],
        "media": json.dumps([one.video for one in previews]) if any(one.video for one in previews) else "",
        "sort_values": json.dumps([value if math.isfinite(value) else None for value in values]),
        "words": plain_words(" ".join([item.stimulus, item.true_caption or "", item.decoded_caption or ""])),
        "caption": _caption(item),
        "scores": {name: _score(name, k, value) for k, (name, value) in enumerate(zip(names, values, strict=True))},
    }


def _link(file: str | None) -> str | None:
    return None if file is None else quote(file)


def _score(name: str, index: int, value: float) -> dict[str, Any]:
    text = number(value) if math.isfinite(value) else ""
    return {"index": index, "label": metric_label(name), "short": short_label(name), "text": text}


def _caption(item: GalleryItem) -> dict[str, Any] | None:
    """Return the decoded caption's words, how many of them are right, and the same for those who do not see marks."""
    if not item.decoded_caption:
        return None
    if not item.true_caption:
        return {"words": [Word(word, False) for word in item.decoded_caption.split()], "count": "", "described": ""}
    words = marked_words(item.decoded_caption, item.true_caption)
    counted = [word for word in words if plain_words(word.text)]
    right, wrong = ([word.text for word in counted if word.right is which] for which in (True, False))
    described = f"Right words: {', '.join(right) or 'none'}. Other words: {', '.join(wrong) or 'none'}."
    return {"words": words, "count": f"{len(right)} of {len(counted)} words right", "described": described}
