"""What each diagnosis comes to, in one word with its threshold: fine, doubtful or bad; unknown where nothing was found.

The thresholds are conventions, for reading many reports alike. A word is no test: `fine` says that this check found
nothing, `doubtful` that a person has to look, `bad` that the scores may have another reason than the brain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Word = Literal["fine", "doubtful", "bad", "unknown"]
RATIO_FINE, RATIO_BAD = 0.3, 0.1
"""Ratio of the dimensions of predictions and of true targets from which it is fine, and below which it is bad."""


@dataclass(frozen=True)
class Grade:
    """The word that a diagnosis comes to, and by what."""

    word: Word
    threshold: str


def grade_leak(kind: str, leak: Mapping[str, Any]) -> Grade:
    """Return what test stimuli, clips or captions that training has seen come to; see `evaluation.diagnoses.leaks`."""
    found: Word = "doubtful" if kind == "captions" else "bad"
    threshold = f"{found} from one on"
    count = leak.get("count")
    return Grade("unknown" if count is None else found if count else "fine", threshold)


def grade_time(time: Mapping[str, Any]) -> Grade:
    """Return what the distance in time of test from training trials comes to; see `evaluation.diagnoses.time`."""
    threshold = "bad where many are near and the order of stimuli is not random"
    if time.get("dense"):
        return Grade("bad", threshold)
    return Grade("unknown" if time.get("count") is None else "fine", threshold)


def grade_dimension(spread: Mapping[str, Any]) -> Grade:
    """Return what the ratio of dimensions comes to; see `evaluation.diagnoses.recall.dimension_report`."""
    ratio, threshold = spread.get("ratio"), f"fine from {RATIO_FINE:g}, bad below {RATIO_BAD:g}"
    if ratio is None:
        return Grade("unknown", threshold)
    return Grade("fine" if ratio >= RATIO_FINE else "bad" if ratio < RATIO_BAD else "doubtful", threshold)


def grade_distance(split: Mapping[str, Any]) -> Grade:
    """Return what a score's dependence on the distance to training comes to; see `recall.split_by_distance`.

    It is bad where scores fall with the distance and the farthest clips are not above chance; where a metric has no
    chance level, it is doubtful.
    """
    threshold = "doubtful where it clearly gets worse the farther, bad where the far clips are not above chance either"
    low, high = (split.get("rank_correlation") or {"ci95": (None, None)})["ci95"]
    if low is None or high is None:
        return Grade("unknown", threshold)
    if high >= 0:
        return Grade("fine", threshold)
    far = next((part for part in split["parts"] if part["name"] == "far"), None)
    chance, bound = (None, None) if far is None else (far.get("chance"), far["ci95"][0])
    above = chance is not None and bound is not None and bound > chance
    return Grade("doubtful" if above or chance is None else "bad", threshold)


def worst(grades: list[Grade]) -> Word | None:
    """Return the worst word of some grades, of those that are known; None where there is none."""
    words: tuple[Word, ...] = ("bad", "doubtful", "fine", "unknown")
    return next((word for word in words if any(grade.word == word for grade in grades)), None)
