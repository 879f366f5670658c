"""METEOR of decoded captions: words shared with a reference, and whether they stand in the same order."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from evaluation.metrics._inputs import OTHERS, Words, of_another, scored
from evaluation.metrics.registry import Array, PerStimulus, register

PRECISION_WEIGHT = 0.9
PENALTY = 0.5
STEEPNESS = 3


def _meteor(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare captions word by word, recall above precision: METEOR by exact matches, of the best reference, 0 to 1.

    With m matched words, precision P = m / words of the caption and recall R = m / words of the reference:
    P R / (.9 P + .1 R) × (1 − .5 (chunks / m)³), where a chunk is a run of matches adjacent in both. A word that occurs
    several times is matched from the end. Lower case, punctuation left out. Higher is better; an empty caption earns 0.

    Banerjee and Lavie (ACL workshop 2005). The traps: the stages that match stems and synonyms are left out, so that it
    is mostly below what other tools report as METEOR, and METEOR 1.5 (2014) weights otherwise; short words such as "a"
    and "the" match everywhere. So chance is a function of the truth: what a random other stimulus's first caption
    earns.
    """
    return scored(_score, prediction, truth)


def _score(said: Words, wanted: Sequence[Words]) -> float:
    return max(_against(_spoken(said), _spoken(one)) for one in wanted)


def _spoken(said: Words) -> Words:
    """Return the words without punctuation."""
    return tuple(word for word in said if word[0].isalnum() or word[0] == "_")


def _against(said: Words, wanted: Words) -> float:
    places: dict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(wanted):
        places[word].append(place)
    backwards = [(at, said[at]) for at in range(len(said) - 1, -1, -1)]
    matched = [(at, places[word].pop()) for at, word in backwards if places[word]]
    if not matched:
        return 0.0
    chunks = 1 + sum(one != (other[0] + 1, other[1] + 1) for one, other in pairwise(matched))
    precision, recall = len(matched) / len(said), len(matched) / len(wanted)
    mean = precision * recall / (PRECISION_WEIGHT * precision + (1 - PRECISION_WEIGHT) * recall)
    return mean * (1 - PENALTY * (chunks / len(matched)) ** STEEPNESS)


register(
    "meteor",
    label="METEOR (exact matches)",
    chance=of_another(_meteor, most=OTHERS),
    span=(0.0, 1.0),
    view="words",
)(_meteor)
