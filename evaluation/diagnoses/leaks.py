"""Test stimuli that are in training: under the same name, as another file of the same clip, or with the same caption.

The checks run before anything is scored; their findings are counted and shown for a person to judge.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Clips = NDArray[np.uint8]
Floats = NDArray[np.float32]

EXAMPLES = 5
"""Findings that are shown, at most."""
INSTANTS, SIDE = 4, 16
"""A thumbnail's frames, and the height and width of each."""
WINDOWS = ((0.0, 1.0), (0.025, 0.975))
"""Parts of the height and of the width that thumbnails are made of: all of it, and all but a margin."""
FLAT = 0.02
"""Standard deviation, in parts of the full range, below which differences within a clip count as noise."""
THRESHOLD = 0.2
"""The distance up to which two clips count as one; see `near_duplicates` for how it was chosen."""


def shared_stimuli(test: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    """Count the test stimuli that are training stimuli by name.

    Returns
    -------
    dict
        ``{"count", "examples": [names]}``
    """
    known = set(train)
    return _count([name for name in dict.fromkeys(test) if name in known])


def shared_captions(test: Sequence[Sequence[str]], train: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Count the test stimuli that share a caption with a training stimulus; case, punctuation and spaces do not count.

    Short captions ("a man is talking") may be shared by different clips; either helps a model that writes captions.

    Parameters
    ----------
    test, train : sequences of captions, several of each stimulus; '' is none

    Returns
    -------
    dict
        ``{"count", "examples": [captions as the test has them]}``
    """
    known = {plain_words(caption) for captions in train for caption in captions} - {""}
    shared = ([caption for caption in captions if plain_words(caption) in known] for captions in test)
    return _count([captions[0] for captions in shared if captions])


def plain_words(caption: str) -> str:
    """Return a caption's words in lower case with one space between them: "A dog, running." is "a dog running"."""
    folded = unicodedata.normalize("NFKC", caption).casefold().replace("'", "").replace("’", "")
    return " ".join(re.sub(r"[\W_]+", " ", folded).split())


def _count(examples: list[str]) -> dict[str, Any]:
    return {"count": len(examples), "examples": list(dict.fromkeys(examples))[:EXAMPLES]}


def thumbnails(clips: Clips) -> Floats:
    """Return a short description of each clip that is nearly the same for another file of the clip.

    4 instants of 16 × 16 pixels, each an average over its area, so that compression, size and frame rate matter little.
    Every channel's mean is subtracted and the rest divided by its standard deviation, so that brightness, contrast and
    gamma matter little too; the means are kept beside it, since all plain clips would be equal without them. This is
    done twice, with and without a margin of 2.5 % on each side, to recognise cropped clips.

    Parameters
    ----------
    clips : uint8, shape (n, frame, height, width, 3)
        Of any size; 8 frames of 32 × 32 are enough.

    Returns
    -------
    float32, shape (n, window, features)
        `window` as in `WINDOWS`. The distance of two clips is the Euclidean one.
    """
    frames = _averaged(clips.astype(np.float32) / 255.0, 1, INSTANTS)
    return np.stack([_normalised(_averaged(_averaged(frames, 2, SIDE, one), 3, SIDE, one)) for one in WINDOWS], axis=1)


def _averaged(array: Floats, axis: int, count: int, window: tuple[float, float] = (0.0, 1.0)) -> Floats:
    """Average an axis over `count` equal stretches of a window on it; cells covered in part count in part."""
    size = array.shape[axis]
    edges = np.linspace(window[0] * size, window[1] * size, count + 1)[:, None]
    cells = np.arange(size)
    covered = (np.minimum(cells + 1, edges[1:]) - np.maximum(cells, edges[:-1])).clip(0.0)
    weights = (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)
    return np.moveaxis(np.tensordot(weights, array, axes=(1, axis)), 0, axis)


def _normalised(small: Floats) -> Floats:
    """Return (n, features) of thumbnails (n, instant, height, width, 3)."""
    means = small.mean(axis=(1, 2, 3))
    pattern = (small - means[:, None, None, None]).reshape(len(small), -1)
    deviation = pattern.std(axis=1, keepdims=True)
    pattern = pattern / np.maximum(deviation, FLAT) / np.sqrt(pattern.shape[1])
    return np.concatenate([pattern, means / np.sqrt(3)], axis=1).astype(np.float32)


def near_duplicates(
    test: Floats,
    train: Floats,
    *,
    test_names: Sequence[str],
    train_names: Sequence[str],
    threshold: float = THRESHOLD,
) -> dict[str, Any]:
    """Count the test clips that are a training clip in another file.

    Measured, with each clip read as 8 frames of 32 × 32, on 8 real clips of people and on the small world's. One clip
    in another file lies within .16: H.264 at crf 40, half or double the size, half or 1.5 times the frame rate, a frame
    earlier or later (at 8 fps), a GIF of 64 colours, 10 % brighter or darker, gamma .8 or 1.25, 5 % cropped about the
    centre. Six of these at once give .14 (real) and .24 (small world, median .16) at most. Distinct clips are .24 or
    more apart: signs by people before one wall, median .30; test clips of the small world from all its training clips,
    .26, median .58, though some differ in shape alone; handwritten digits, .37. The threshold lies between.

    Uncertain: clips of few pixels and strong, fine colours at crf 40 or in 64 colours, which came out at up to .21. Not
    found: a mirrored clip, a crop at one corner, another part of the same recording. Two parts of a recording in
    which nothing moves count as one clip.

    Parameters
    ----------
    test, train : float32, shapes (n, window, features) and (m, window, features)
        As `thumbnails` makes them.
    test_names, train_names : n and m names
    threshold : float

    Returns
    -------
    dict
        ``{"count", "threshold", "nearest", "examples": [{"test", "train", "distance"}]}``: `nearest` is the smallest
        distance of all (null where either side has no clip), examples come nearest first.
    """
    report: dict[str, Any] = {"count": 0, "threshold": threshold, "nearest": None, "examples": []}
    if not len(test) or not len(train):
        return report
    distances = clip_distances(test, train)
    nearest = distances.argmin(axis=1)
    smallest = distances[np.arange(len(test)), nearest]
    duplicates = [int(row) for row in np.argsort(smallest, kind="stable") if smallest[row] <= threshold]
    examples = [
        {"test": test_names[row], "train": train_names[nearest[row]], "distance": float(smallest[row])}
        for row in duplicates[:EXAMPLES]
    ]
    return {**report, "count": len(duplicates), "nearest": float(smallest.min()), "examples": examples}


def clip_distances(one: Floats, other: Floats) -> NDArray[np.float64]:
    """Return the distance of every clip to every other, (n, m): the least over either of them being cropped."""
    whole = _euclidean(one[:, 0], other[:, 0])
    for window in range(1, len(WINDOWS)):
        whole = np.minimum(whole, _euclidean(one[:, 0], other[:, window]))
        whole = np.minimum(whole, _euclidean(one[:, window], other[:, 0]))
    return whole


def _euclidean(one: Floats, other: Floats) -> NDArray[np.float64]:
    a, b = one.astype(np.float64), other.astype(np.float64)
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.sqrt(squares.clip(0.0)))
