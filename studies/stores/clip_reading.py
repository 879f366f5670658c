"""Reads the clips of a source: all at once, or ahead of what uses them."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from core.clips import Clip, ClipConfig
from core.errors import SourceError
from feature_store.sources.base import Source

READERS, AHEAD = 4, 8
"""Threads that read clips, and how many clips they may be ahead of their user."""


def read_clips(source: Source, stimuli: Sequence[str], config: ClipConfig) -> NDArray[np.uint8]:
    """Return the stimuli's clips, (stimulus, frame, height, width, 3) uint8.

    Raises `SourceError` where a stimulus has no clip, or its file cannot be decoded.
    """
    return np.stack([_read(source, stimulus, config) for stimulus in stimuli])


def read_ahead(source: Source, stimuli: Sequence[str], config: ClipConfig) -> Iterator[Clip]:
    """Yield the stimuli's clips in order; while one is used, the next are being read. Raises as `read_clips`."""
    waiting: deque[Future[Clip]] = deque()
    left = iter(stimuli)
    with ThreadPoolExecutor(max_workers=READERS) as readers:
        try:
            for stimulus in itertools.islice(left, AHEAD):
                waiting.append(readers.submit(_read, source, stimulus, config))
            while waiting:
                clip = waiting.popleft().result()
                if (after := next(left, None)) is not None:
                    waiting.append(readers.submit(_read, source, after, config))
                yield clip
        finally:
            for future in waiting:
                future.cancel()


def _read(source: Source, stimulus: str, config: ClipConfig) -> Clip:
    clip = source.clip(stimulus, config)
    if clip is None:
        raise SourceError(f"stimulus '{stimulus}' has no clip, which this target needs; add its file, or use 'given'")
    return clip
