"""When rows happened: the run or the movie that each lies in, and the seconds within it.

A *segment* is one run of a scanner, or one movie or episode: within it seconds count from one start, and nothing is
known of the time between two of them. Rows of one segment that lie close in time share noise, drifts and the tail of
the haemodynamic response, and clips of one movie resemble their neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

HRF_SPAN_S = 12.0
"""How long a response to one event overlaps others that matter, in seconds: the canonical haemodynamic response rises,
peaks near 5 s and is back at its baseline about 12 s after the event (Glover 1999, *NeuroImage* 9:416)."""
FOLD_S = 60.0
"""How long a block of time is that is held out as one: several times `HRF_SPAN_S`, so that purging its neighbours costs
a fraction of what it holds."""
ROUNDING_S = 1e-3
"""Times are equal within this; tables write milliseconds."""
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Times:
    """When rows happened.

    Attributes
    ----------
    segment : (row,) str, the run, movie or episode
    start_s : (row,) float64, seconds from the segment's start; NaN where it is not known
    duration_s : (row,) float64, how long the row lasts; 0 where it is not known
    purge_s : up to how many seconds apart rows depend on each other; see `evaluation.diagnoses.time.reach_s`
    """

    segment: NDArray[np.str_]
    start_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    purge_s: float = HRF_SPAN_S

    @classmethod
    def of(
        cls,
        segment: Sequence[str] | NDArray[np.str_],
        start_s: Sequence[float] | NDArray[Any],
        duration_s: Sequence[float] | NDArray[Any] | None = None,
    ) -> "Times":
        """Return the times of rows; a duration that is not known, NaN or absent, is 0."""
        start = np.asarray(start_s, np.float64)
        duration = np.zeros(len(start)) if duration_s is None else np.nan_to_num(np.asarray(duration_s, np.float64))
        return cls(np.asarray(segment, dtype=np.str_).reshape(len(start)), start, duration)

    def __len__(self) -> int:
        return len(self.start_s)

    def take(self, rows: Index | Mask) -> "Times":
        """Return some rows, by positions or a mask."""
        return replace(self, segment=self.segment[rows], start_s=self.start_s[rows], duration_s=self.duration_s[rows])

    @property
    def known(self) -> bool:
        """Whether the start of every row is known."""
        return bool(np.isfinite(self.start_s).all())

    def near(self, others: "Times", within_s: float) -> Mask:
        """Return whether each row lies within so many seconds of any other row of its segment, (row,).

        The distance is the time between the end of one and the start of the other, 0 where they overlap. Rows whose
        start is not known are near nothing.
        """
        near = np.zeros(len(self), dtype=bool)
        for segment in np.intersect1d(self.segment, others.segment):
            mine, theirs = np.flatnonzero(self.segment == segment), others.take(others.segment == segment)
            order = np.argsort(theirs.start_s, kind="stable")
            start, stop = theirs.start_s[order], (theirs.start_s + theirs.duration_s)[order]
            for part in np.array_split(mine, max(1, len(mine) * len(order) // 2**22)):
                begins, ends = self.start_s[part, None], (self.start_s + self.duration_s)[part, None]
                near[part] = (np.maximum(start - ends, begins - stop) <= within_s + ROUNDING_S).any(axis=1)
        return near

    def neighbours(self, within_s: float) -> tuple[Index, Index]:
        """Return all pairs of rows of one segment that lie within so many seconds, (pair,) and (pair,), i before j."""
        firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for segment in np.unique(self.segment):
            rows = np.flatnonzero((self.segment == segment) & np.isfinite(self.start_s))
            rows = rows[np.argsort(self.start_s[rows], kind="stable")]
            start, stop = self.start_s[rows], (self.start_s + self.duration_s)[rows]
            last = np.searchsorted(start, stop + within_s + ROUNDING_S, side="right")
            counts = (last - np.arange(len(rows)) - 1).clip(0)
            one = np.repeat(np.arange(len(rows)), counts)
            step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + 1
            firsts.append(rows[one])
            seconds.append(rows[one + step])
        return np.concatenate(firsts), np.concatenate(seconds)

    def blocks(self, length_s: float) -> Index:
        """Return a number for the block of time that each row begins in, (row,); no block reaches over two segments.

        Every segment is cut into blocks of one length, as near to `length_s` as fills it. A row whose start is not
        known is a block of its own.
        """
        blocks = np.empty(len(self), np.int64)
        first = 0
        for segment in np.unique(self.segment):
            rows = np.flatnonzero((self.segment == segment) & np.isfinite(self.start_s))
            begins, lasts = self._bounds(segment)
            count = max(1, round(lasts / length_s))
            place = (self.start_s[rows] - begins) / (lasts / count) if lasts else np.zeros(len(rows))
            blocks[rows] = first + np.floor(place + ROUNDING_S).astype(np.int64).clip(0, count - 1)
            first += count
        unknown = np.flatnonzero(~np.isfinite(self.start_s))
        blocks[unknown] = first + np.arange(len(unknown))
        return np.unique(blocks, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def _bounds(self, segment: str) -> tuple[float, float]:
        """Return when a segment's first row begins, and how long it is from there to its last row's end."""
        rows = (self.segment == segment) & np.isfinite(self.start_s)
        if not rows.any():
            return 0.0, 0.0
        start = self.start_s[rows]
        spacing = _spacing(start)  # the last row lasts about as long as the others
        stop = max(float((start + self.duration_s[rows]).max()), float(start.max()) + spacing)
        return float(start.min()), stop - float(start.min())


def _spacing(start_s: NDArray[np.float64]) -> float:
    """Return the median time from one start to the next, 0 where there is one alone."""
    steps = np.diff(np.unique(start_s))
    return float(np.median(steps)) if len(steps) else 0.0


def with_spacing(times: Times) -> Times:
    """Return times whose unknown durations, 0, are the least time between two starts of their segment.

    For clips of one movie, which follow each other; a row that is alone in its segment keeps 0.
    """
    duration = times.duration_s.copy()
    for segment in np.unique(times.segment):
        here = (times.segment == segment) & np.isfinite(times.start_s)
        steps = np.diff(np.unique(times.start_s[here]))
        steps = steps[steps > ROUNDING_S]
        if len(steps):
            duration[here & (duration == 0)] = steps.min()
    return replace(times, duration_s=duration)
