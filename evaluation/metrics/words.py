"""Captions made ready for a metric: words, references, and what a random other caption earns."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from evaluation.metrics.registry import Array, PerStimulus

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
