"""Metrics of decoded captions: BLEU and METEOR against true captions, CLIPScore against the frames that were seen."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from evaluation.metrics.frames import unit_vectors
from evaluation.metrics.registry import Array, PerStimulus, chance_of_others, register

Words: TypeAlias = tuple[str, ...]
Score: TypeAlias = Callable[[Words, Sequence[Words]], float]
"""A caption's words against those of one or several references."""
MAX_OTHERS = 100
"""Other stimuli whose captions the chance level deals to each stimulus, at most."""
NO_CAPTION = "has no true caption"
TOKEN = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['’-]\w+)*|[^\w\s]")
"""A number with its points, a word with its apostrophes and hyphens, or one sign."""


@lru_cache(maxsize=2**16)
def words(caption: str) -> Words:
    """Return a caption's words in lower case, each sign of punctuation a word of its own."""
    return tuple(TOKEN.findall(caption.lower()))


def references(truth: Array) -> list[list[Words]]:
    """Return the references' words of each stimulus of (n,) or (n, reference); empty ones are absent."""
    return [[words(caption) for caption in row if caption.strip()] for row in truth.reshape(len(truth), -1)]


def scored(score: Score, prediction: Array, truth: Array) -> PerStimulus:
    """Score each caption (n,) against its references (n,) or (n, reference); NaN where it is no text, or has none."""
    pairs = list(zip(prediction, references(truth), strict=True))
    known = [isinstance(caption, str) and bool(true) for caption, true in pairs]
    return np.array([score(words(pair[0]), pair[1]) if is_known else np.nan
                     for pair, is_known in zip(pairs, known, strict=True)])  # fmt: skip


LONGEST = 4


def _bleu_4(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare captions by runs of words: sentence BLEU-4 of each caption against one or several references, 0 to 1.

    The geometric mean of the precisions of runs of 1 to 4 words, times exp(1 − r / c) where the caption's c words are
    fewer than the r of the reference nearest in length. A run counts at most as often as in one reference. The first
    length without a match has the precision 1 / (2 × runs), the next 1 / (4 × runs) and so on. Lower case; punctuation
    counts as words. Higher is better.

    Papineni et al. (ACL 2002), with NIST's exponential smoothing: `sentence_bleu` of sacrebleu (Post, WMT 2018) over
    100, in lower case and without effective order. The traps: a caption of fewer than four words earns 0, an empty one
    too; the mean over sentences is not corpus BLEU, which papers mostly report; captions of one template share runs
    whatever they describe. So chance depends on the truth: it is what a random other stimulus's first caption earns.
    """
    return scored(_bleu_score, prediction, truth)


def _bleu_score(caption: Words, true: Sequence[Words]) -> float:
    runs, true_runs = _runs(caption), [_runs(reference) for reference in true]
    matches = [0] * LONGEST
    for run, times in runs.items():
        matches[len(run) - 1] += min(times, max(counts.get(run, 0) for counts in true_runs))
    if not any(matches) or len(caption) < LONGEST:
        return 0.0
    logs, halvings = 0.0, 0
    for length, hits in enumerate(matches, start=1):
        halvings += hits == 0
        logs += math.log((hits or 0.5**halvings) / (len(caption) - length + 1))
    nearest = min(map(len, true), key=lambda size: (abs(size - len(caption)), size))
    return math.exp(logs / LONGEST + min(0.0, 1 - nearest / len(caption)))


@lru_cache(maxsize=2**16)
def _runs(caption: Words) -> Counter[Words]:
    """Return how often each run of one to four words occurs."""
    starts = ((length, start) for length in range(1, LONGEST + 1) for start in range(len(caption) - length + 1))
    return Counter(caption[start : start + length] for length, start in starts)


register(
    "bleu_4",
    label="BLEU-4",
    chance=chance_of_others(_bleu_4, max_others=MAX_OTHERS),
    span=(0.0, 1.0),
    view="words",
    without_value=NO_CAPTION,
)(_bleu_4)


PRECISION_WEIGHT = 0.9
PENALTY = 0.5
STEEPNESS = 3


def _meteor(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare captions word by word, recall above precision: METEOR by exact matches, of the best reference, 0 to 1.

    With m matched words, precision P = m / words of the caption and recall R = m / words of the reference:
    P R / (.9 P + .1 R) × (1 − .5 (chunks / m)³), where a chunk is a run of matches adjacent in both. A word that occurs
    several times is matched from the end. Lower case, without punctuation. Higher is better; an empty caption earns 0.

    Banerjee and Lavie (ACL workshop 2005). The traps: stems and synonyms are not matched, so that it is mostly
    below what other tools report as METEOR, and METEOR 1.5 (2014) has other weights; short words such as "a" and "the"
    match everywhere. So chance depends on the truth: it is what a random other stimulus's first caption earns.
    """
    return scored(_meteor_score, prediction, truth)


def _meteor_score(caption: Words, true: Sequence[Words]) -> float:
    return max(_match(_without_signs(caption), _without_signs(reference)) for reference in true)


def _without_signs(caption: Words) -> Words:
    return tuple(word for word in caption if word[0].isalnum() or word[0] == "_")


def _match(caption: Words, reference: Words) -> float:
    places: dict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(reference):
        places[word].append(place)
    backwards = [(at, caption[at]) for at in range(len(caption) - 1, -1, -1)]
    matched = [(at, places[word].pop()) for at, word in backwards if places[word]]
    if not matched:
        return 0.0
    chunks = 1 + sum(one != (other[0] + 1, other[1] + 1) for one, other in pairwise(matched))
    precision, recall = len(matched) / len(caption), len(matched) / len(reference)
    mean = precision * recall / (PRECISION_WEIGHT * precision + (1 - PRECISION_WEIGHT) * recall)
    return mean * (1 - PENALTY * (chunks / len(matched)) ** STEEPNESS)


register(
    "meteor",
    label="METEOR (exact matches)",
    chance=chance_of_others(_meteor, max_others=MAX_OTHERS),
    span=(0.0, 1.0),
    view="words",
    without_value=NO_CAPTION,
)(_meteor)


WEIGHT = 2.5


@register("clip_score", label="CLIPScore of the caption", chance=None, span=(0.0, WEIGHT), view="caption_score")
def clip_score(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare a caption with the frames that were seen: 2.5 × max(cos(text, frame), 0), averaged over frames.

    The cosine is that of the decoded caption's CLIP text embedding (n, width) and the CLIP image embedding of each
    frame (n, frame, width); an empty caption, a zero vector, earns 0. At most 2.5, higher is better. Hessel et al.
    (EMNLP 2021), whose images are frames here; there each caption begins with "A photo depicts".

    The trap: texts and images lie in different regions of CLIP's space, so that the best caption stays far below 2.5
    and an unrelated one far above 0. Guessing earns no fixed value, and values of different CLIP models do not
    compare: compare it with the shuffled brain's and the mean predictor's rows.
    """
    cosines = np.einsum("nw,nfw->nf", unit_vectors(prediction), unit_vectors(truth))
    return np.asarray(WEIGHT * np.clip(cosines, 0.0, 1.0).mean(axis=1))
