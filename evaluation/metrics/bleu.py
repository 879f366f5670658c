"""BLEU of decoded captions: runs of one to four words that a caption shares with its references."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from evaluation.metrics._inputs import OTHERS, Words, of_another, scored
from evaluation.metrics.registry import Array, PerStimulus, register

LONGEST = 4


def _bleu_4(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare captions by runs of words: sentence BLEU-4 of each caption against one or several references, 0 to 1.

    The geometric mean of the precisions of runs of 1 to 4 words, times exp(1 − r / c) where the caption's c words are
    fewer than the r of the reference nearest in length. A run counts as often as in one reference at the most. The
    first length of which no run is found has the precision 1 / (2 × runs), the next 1 / (4 × runs) and so on. Lower
    case; punctuation counts as words. Higher is better.

    Papineni et al. (ACL 2002), with NIST's exponential smoothing: `sentence_bleu` of sacrebleu (Post, WMT 2018) over
    100, in lower case and without effective order. The traps: a caption of fewer than four words earns 0, an empty one
    too; the mean over sentences is not corpus BLEU, which papers mostly report; captions of one mould share runs
    whatever they describe. So chance is a function of the truth, what a random other stimulus's first caption earns.
    """
    return scored(_score, prediction, truth)


def _score(said: Words, wanted: Sequence[Words]) -> float:
    runs, known = _runs(said), [_runs(one) for one in wanted]
    found = [0] * LONGEST
    for run, times in runs.items():
        found[len(run) - 1] += min(times, max(one.get(run, 0) for one in known))
    if not any(found) or len(said) < LONGEST:
        return 0.0
    logs, halvings = 0.0, 0
    for length, hits in enumerate(found, start=1):
        halvings += hits == 0
        logs += math.log((hits or 0.5**halvings) / (len(said) - length + 1))
    nearest = min((len(one) for one in wanted), key=lambda size: (abs(size - len(said)), size))
    return math.exp(logs / LONGEST + min(0.0, 1 - nearest / len(said)))


@lru_cache(maxsize=2**16)
def _runs(said: Words) -> Counter[Words]:
    """Return how often each run of one to four words occurs."""
    starts = ((length, start) for length in range(1, LONGEST + 1) for start in range(len(said) - length + 1))
    return Counter(said[start : start + length] for length, start in starts)


register("bleu_4", label="BLEU-4", chance=of_another(_bleu_4, most=OTHERS), span=(0.0, 1.0), view="words")(_bleu_4)
