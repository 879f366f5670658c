"""Clips made ready for a metric that looks at frames: from 0 to 1, or as bytes, several at a time."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, PerStimulus

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
