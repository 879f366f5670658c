"""Clips made ready for a metric that looks at frames: from 0 to 1, or as bytes, several at a time.

Rows made ready for a metric: unit vectors, of which products are correlations.

Captions made ready for a metric: words, references, and what a random other caption earns.

What another stimulus's truth earns: the chance level of metrics whose guesses are as good as the words in use.
"""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, Function, PerStimulus

cv2.setNumThreads(1)
"""Clips are shared out among threads; within one of them OpenCV's own would only stand in the way."""


def unit_clip(clip: NDArray[Any]) -> NDArray[np.float64]:
    """Return one clip as floats from 0 to 1; uint8 is divided by 255.

    Raises
    ------
    ValueError
        A float clip leaves the range from 0 to 1 (NaN may stand in it).
    """
    if clip.dtype == np.uint8:
        return np.asarray(clip / 255.0)
    scaled = clip.astype(np.float64)
    if (scaled < 0.0).any() or (scaled > 1.0).any():
        raise ValueError(
            f"clip of {clip.dtype} reaches from {np.nanmin(scaled):g} to {np.nanmax(scaled):g}; "
            "expected uint8, or floats from 0 to 1"
        )
    return scaled


def bytes_clip(clip: NDArray[Any]) -> NDArray[np.uint8]:
    """Return one clip as bytes; floats from 0 to 1 are rounded. Raises as `unit_clip` does."""
    return clip if clip.dtype == np.uint8 else np.rint(255.0 * unit_clip(clip)).astype(np.uint8)


def by_clip(score: Callable[[NDArray[Any], NDArray[Any]], float], prediction: Array, truth: Array) -> PerStimulus:
    """Score every pair of clips, several at a time where there are several cores; the values do not depend on that."""
    with ThreadPoolExecutor(max_workers=threads()) as workers:
        return np.array(list(workers.map(score, prediction, truth)), np.float64)


def threads() -> int:
    """Return how many clips are scored at once: as many as OpenMP may have threads, else as there are cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else os.cpu_count() or 1


def unit_rows(array: NDArray[Any]) -> NDArray[np.float64]:
    """Flatten each stimulus, subtract its mean and divide by its length, so that products are Pearson correlations.

    Parameters
    ----------
    array : shape (n, ...)

    Returns
    -------
    array, shape (n, features), float64
        A constant row becomes zeros: it correlates 0 with everything. A row that is not finite becomes NaN.
    """
    rows = np.array(array.reshape(len(array), -1), dtype=np.float64)
    finite = np.isfinite(rows).all(axis=1)
    rows[~finite] = 0.0
    # Asked of the values themselves: a constant minus its rounded mean may leave a residue that looks like a pattern.
    constant = rows.max(axis=1) == rows.min(axis=1)
    rows -= rows.mean(axis=1, keepdims=True)
    rows[constant] = 0.0
    rows /= or_one(np.abs(rows).max(axis=1))[:, None]  # so that squaring tiny values does not underflow
    rows /= or_one(np.sqrt(np.einsum("nf,nf->n", rows, rows)))[:, None]
    rows[~finite] = np.nan
    return rows


def or_one(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lengths to divide by: 1 in place of 0."""
    return np.where(lengths == 0.0, 1.0, lengths)


Words: TypeAlias = tuple[str, ...]
Score: TypeAlias = Callable[[Words, Sequence[Words]], float]
"""A caption's words against those of one or several references."""
OTHERS = 100
"""How many other stimuli's captions the chance level deals each stimulus, at the most."""
TOKEN = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['’-]\w+)*|[^\w\s]")
"""A number with its points, a word with its apostrophes and hyphens, or one sign."""


@lru_cache(maxsize=2**16)
def words(caption: str) -> Words:
    """Return a caption's words in lower case, each sign of punctuation a word of its own."""
    return tuple(TOKEN.findall(caption.lower()))


def references(truth: Array) -> list[list[Words]]:
    """Return the references' words of each stimulus; empty ones are absent.

    Parameters
    ----------
    truth : array of str, shape (n,) or (n, reference)

    Raises
    ------
    ValueError
        A stimulus has none.
    """
    found = [[words(one) for one in several if one.strip()] for several in truth.reshape(len(truth), -1)]
    missing = [row for row, several in enumerate(found) if not several]
    if missing:
        raise ValueError(f"captions: truth row {missing[0]} holds none; expected one reference or more")
    return found


def scored(score: Score, prediction: Array, truth: Array) -> PerStimulus:
    """Score each caption (n,) against its references (n,) or (n, reference); NaN where it is no text."""
    pairs = zip(prediction, references(truth), strict=True)
    return np.array([score(words(said), wanted) if isinstance(said, str) else np.nan for said, wanted in pairs])


def of_another(function: Function, *, most: int | None = None) -> Callable[[Array], float]:
    """Return a chance level: a metric's mean where each stimulus's prediction is the truth of another one.

    Parameters
    ----------
    function : the metric
    most : int, optional
        How many others each stimulus is asked of, at the most; all without. They stand evenly spaced in the stimuli's
        order, so nothing is drawn.

    Returns
    -------
    function
        Of a truth (n, ...), where words have one or several references: the first of them is what is dealt. NaN below
        two stimuli. A stimulus without a value is left out.
    """

    def chance(truth: Array) -> float:
        dealt = truth[:, 0] if truth.dtype.kind in "OU" and truth.ndim == 2 else truth
        asked = min(len(truth) - 1, most or len(truth))
        steps = 1 + np.arange(max(asked, 0)) * (len(truth) - 1) // max(asked, 1)
        values = np.array([function(np.roll(dealt, step, axis=0), truth, None) for step in steps])
        known = values[np.isfinite(values)]
        return float(known.mean()) if known.size else float("nan")

    return chance
