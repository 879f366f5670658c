"""What the gallery shows of one clip: its previews, its captions with the right words marked, its scores and facts."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from core.clips import Clip
from evaluation.gallery_media import preview
from evaluation.leaks import plain_words
from evaluation.wording import metric_label, number, short_label


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
    """By `space.metric`, NaN where there is none; see `evaluation.scores.scores_of`."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Where this one clip comes from: "nearest training clip", "seed", "models"."""


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
