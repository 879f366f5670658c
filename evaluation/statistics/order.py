"""Stimuli that are ordered in time: blocks of them, how long blocks must be, and shifts that keep autocorrelation.

Clips that follow each other in a run, an episode or a film resemble each other, and so do the brain's responses to
them. Values of neighbours are then not independent, so intervals and tests count blocks of stimuli, not stimuli, and
the shuffled brain is shifted in time instead of dealt at random: a random order destroys the autocorrelation that
makes unrelated series look alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for

Floats = NDArray[np.float64]
Index = NDArray[np.int64]
ROUNDED = 1e-20
"""Variance of values that are all equal but for rounding, as a share of their squares."""
QUIET_LAGS = 5
"""Lags in a row that must be near 0 for the autocorrelation to have ended."""
LONGER = 1.5
"""How much longer blocks are than would estimate a mean's variance best: tests and intervals then err less often."""
FOURTH = 4
"""No more than a fourth of all stimuli is a block, or is a shift that must be exceeded: half of all shifts are left."""


@dataclass(frozen=True)
class TimeOrder:
    """Where each of n test stimuli lies in time.

    Attributes
    ----------
    segment : (n,) label of the run, episode or film that a stimulus lies in
    start_s : (n,) seconds within the segment

    Raises
    ------
    ValueError
        The lengths differ, or a start is not finite.
    """

    segment: NDArray[np.str_]
    start_s: Floats

    def __post_init__(self) -> None:
        if self.segment.shape != self.start_s.shape or self.segment.ndim != 1:
            raise ValueError(
                f"order in time: {self.segment.shape} segments and {self.start_s.shape} starts; expected one of each "
                "for every stimulus"
            )
        if not np.isfinite(self.start_s).all():
            wrong = int(np.argmin(np.isfinite(self.start_s)))
            raise ValueError(f"order in time: stimulus {wrong} starts at {self.start_s[wrong]}; expected seconds")

    def __len__(self) -> int:
        """Return the number of stimuli."""
        return len(self.segment)

    def only(self, kept: NDArray[np.bool_]) -> "TimeOrder":
        """Return the order of some of the stimuli, in the order they have here."""
        return TimeOrder(self.segment[kept], self.start_s[kept])

    def rows(self) -> list[Index]:
        """Return the rows of each segment's stimuli from first to last; segments in the order of first appearance.

        Stimuli of one start keep their order.
        """
        _, first, inverse = np.unique(self.segment, return_index=True, return_inverse=True)
        inside = [np.flatnonzero(inverse == number) for number in np.argsort(first)]
        return [rows[np.argsort(self.start_s[rows], kind="stable")] for rows in inside]

    def blocks(self, length: int) -> Index:
        """Return a label for each stimulus, (n,) from 0: blocks of neighbours in time, none across segments.

        A segment is cut into as many blocks of `length` stimuli or more as fit, equal in size to within one; a segment
        that holds fewer is one block.

        Raises
        ------
        ValueError
            The length is below 1.
        """
        if length < 1:
            raise ValueError(f"blocks of {length} stimuli; expected 1 or more")
        labels, used = np.empty(len(self), np.int64), 0
        for rows in self.rows():
            for block in np.array_split(rows, max(1, len(rows) // length)):
                labels[block] = used
                used += 1
        return labels


def autocorrelation(values: Floats, order: TimeOrder, lags: int) -> Floats:
    """Return the correlation of values with those of the stimulus 0, 1, … `lags` places later, pooled over segments.

    Values less their mean over all stimuli, so that segments of another level count as correlated. A lag is a number
    of stimuli, not of seconds. The sum over pairs is divided by the number of stimuli, not of pairs: lags of few pairs
    count little, and the spectrum stays positive.

    Parameters
    ----------
    values : array, shape (n,) or (subject, n); subjects are pooled

    Returns
    -------
    array, shape (lags + 1,)
        1 at lag 0; zeros after it where the values are all equal.
    """
    deviations = np.atleast_2d(values) - np.atleast_2d(values).mean(axis=1, keepdims=True)
    sums = np.zeros(lags + 1)
    for rows in order.rows():
        series = deviations[:, rows]
        for lag in range(min(lags, len(rows) - 1) + 1):
            sums[lag] += (series[:, : len(rows) - lag] * series[:, lag:]).sum()
    size = float(np.square(values).sum())
    found = sums / sums[0] if sums[0] > ROUNDED * size else np.zeros(lags + 1)
    found[0] = 1.0
    return found


def block_length(values: Floats, order: TimeOrder) -> int:
    """Return how many neighbours in time make a block, from the autocorrelation of the values; 1 where there is none.

    Politis and White (2004, *Econometric Reviews* 23:53; corrected by Patton, Politis and White 2009, 28:372): the
    length that estimates the variance of a mean best, (2 G² / D n)^⅓ with G = Σ λ(k/M) |k| R(k) and
    D = 4/3 (Σ λ(k/M) R(k))², with the flat-top window λ and M twice the lag beyond which autocorrelations R are near 0
    (below 2 √(log10 n / n) for `QUIET_LAGS` lags in a row). It is taken `LONGER` times: fewer, longer blocks with
    Student's t find less where nothing is there (Lazarus et al. 2018, *Journal of Business & Economic Statistics*
    36:541). At most the longest segment, and a fourth of all stimuli: more cannot be measured.

    Parameters
    ----------
    values : array, shape (n,) or (subject, n)
        Of the stimuli in the order of `order`; a value that is not finite is set to the mean.

    Raises
    ------
    ValueError
        The numbers of stimuli differ.
    """
    rows = np.atleast_2d(np.asarray(values, np.float64))
    n = rows.shape[1]
    if n != len(order):
        raise ValueError(f"{n} values and an order of {len(order)} stimuli; expected one each")
    longest = max((len(segment) for segment in order.rows()), default=0)
    known = np.isfinite(rows)
    if longest < 3 or not known.any(axis=1).all():
        return 1
    means = np.where(known, rows, 0.0).sum(axis=1) / known.sum(axis=1)
    r = autocorrelation(np.where(known, rows, means[:, None]), order, longest - 1)
    reach = max(1, _last_lag(r, n))
    window = min(2 * reach, longest - 1)
    lags = np.arange(1, window + 1)
    weighted = np.clip(2 * (1 - lags / (2 * reach)), 0.0, 1.0) * r[1 : window + 1]
    spread = 1 + 2 * weighted.sum()
    if spread <= 0:
        return 1
    bias = 2 * (lags * weighted).sum()
    best = (1.5 * (bias / spread) ** 2 * n) ** (1 / 3)
    return int(np.clip(np.ceil(LONGER * best), 1, max(1, min(longest, n // FOURTH))))


def _last_lag(r: Floats, n: int) -> int:
    """Return the last lag before `QUIET_LAGS` in a row are near 0; the last one that is not near where none are."""
    loud = np.abs(r[1:]) >= 2 * np.sqrt(np.log10(n) / n)
    quiet = 0
    for lag, is_loud in enumerate(loud, start=1):
        quiet = 0 if is_loud else quiet + 1
        if quiet == QUIET_LAGS:
            return lag - QUIET_LAGS
    heard = np.flatnonzero(loud)
    return int(heard[-1]) + 1 if heard.size else 0


def shifts(order: TimeOrder, count: int, seed: int, *, length: int = 1) -> list[Index]:
    """Return orders of the stimuli, (n,) each, that shift every segment in time and join its ends.

    ``responses[shift]`` are the same series at other times: what a stimulus evoked is lost, and the autocorrelation,
    which free permutations destroy, is kept, but for the two ends that are joined (Chatfield 2003, *The Analysis of
    Time Series*; as a null for films, for instance Kauppi et al. 2010, *Frontiers in Neuroinformatics* 4:5). Segments
    of fewer than four times `length` are joined end to end, and shifted together.

    Parameters
    ----------
    count : how many; fewer where there are fewer different ones. The first ones are as random as all.
    length : stimuli that a segment is shifted by at least, either way: the block length
    """
    parts = _parts(order, length)
    rng = rng_for(seed, "shifts")
    allowed = [_allowed(len(part), length) for part in parts]
    if len(parts) == 1:
        return [_shifted(len(order), parts, [int(step)]) for step in rng.permutation(allowed[0])[:count]]
    drawn = dict.fromkeys(tuple(int(rng.choice(steps)) for steps in allowed) for _ in range(count))
    return [_shifted(len(order), parts, steps) for steps in drawn]


def _parts(order: TimeOrder, length: int) -> list[Index]:
    """Return the rows that are shifted together."""
    segments = order.rows()
    long = [rows for rows in segments if len(rows) >= FOURTH * length]
    short = [rows for rows in segments if len(rows) < FOURTH * length]
    return [*long, *([np.concatenate(short)] if short else [])]


def _allowed(size: int, length: int) -> Index:
    """Return the shifts of a part by `length` or more either way, or by a fourth of it where that is less."""
    least = max(1, min(length, size // FOURTH))
    return np.arange(least, size - least + 1) if size > 1 else np.zeros(1, np.int64)


def _shifted(n: int, parts: list[Index], steps: Sequence[int]) -> Index:
    order = np.empty(n, np.int64)
    for rows, step in zip(parts, steps, strict=True):
        order[rows] = np.roll(rows, step)
    return order
