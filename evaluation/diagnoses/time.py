"""Test trials that lie so near to training trials in time that decoding cannot be told from autocorrelation.

A response still holds the tail of the one before, and both share drifts and slow noise; where the stimuli follow each
other in time as well, as clips of one movie do, a model identifies a test stimulus by the company that its response
keeps: brains and targets that know nothing of each other (independent AR(1), ρ = .9, random clips of one run for test)
are identified .99 of the time.

Both are needed. Where the order of stimuli is random, as in rapid event-related designs that deal test stimuli among
training ones, the targets of neighbours are no more alike than those of any two stimuli, and what responses share
with their neighbours says nothing of a target. So trials are *dense* in time where both hold:

- a tenth or more of the test trials of a subject lie within `core.times.HRF_SPAN_S` of a training trial of the same
  run, or of a training clip of the same movie; or half or more lie within the time for which both responses and
  targets stay correlated (`reach_s`), where that is longer;
- the order of the targets is not random: over pairs of neighbours, the mean correlation of their targets differs from
  that over all pairs by `EXCESS` or more, in either direction, and by more than in all but few permutations of the
  stimuli over their places.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for
from core.times import HRF_SPAN_S, Times

DENSE_SHARE = 0.1
"""The share of a subject's test trials near to a training trial, from which on trials may count as dense."""
REACH_SHARE = 0.5
"""The same within `reach_s`: the edges of a block that is held out reach far where autocorrelation does."""
SHARED = 0.05
"""Responses and targets no longer depend on each other over a lag where the product of their autocorrelations is below
this: what a decoder can learn from neighbours is what both have in common with theirs."""
MAX_ROWS, MAX_COLUMNS = 600, 1024
"""Trials, the first in time, and values of each that autocorrelations are measured on."""
EXCESS = 0.02
"""How much the targets of neighbours differ in correlation from those of other pairs, at least."""
P = 0.005
PERMUTATIONS = 999
MAX_PAIRS = 20_000
"""Pairs of neighbours that are looked at, at most."""
Array = NDArray[Any]


@dataclass(frozen=True)
class Timing:
    """When some trials were shown: by run and onset, and by the place of their stimulus in a movie.

    Attributes
    ----------
    runs, places : one row a trial; None where they are not known
    """

    runs: Times | None
    places: Times | None = None

    @property
    def known(self) -> bool:
        """Whether anything is known."""
        return self.runs is not None or self.places is not None

    def near(self, others: "Timing", within_s: float) -> NDArray[np.bool_] | None:
        """Return which trials lie within so many seconds of any of others, (trial,); None where it is not known."""
        found = []
        if self.runs is not None and others.runs is not None:
            found.append(self.runs.near(others.runs, within_s))
        if self.places is not None and others.places is not None:
            found.append(self.places.near(others.places, within_s))
        return np.logical_or.reduce(found) if found else None


@dataclass(frozen=True)
class Neighbours:
    """How much the targets of neighbours in time are alike.

    Attributes
    ----------
    excess : the mean correlation of their targets less that of all pairs of stimuli
    p : the share of permutations of stimuli over places in which the excess is as far from 0, two-sided
    """

    excess: float
    p: float

    @property
    def ordered(self) -> bool:
        """Whether the stimuli's order in time is not random."""
        return abs(self.excess) >= EXCESS and self.p <= P


def alike(
    values: Array, stimulus: NDArray[np.int64], times: Times, within_s: float = HRF_SPAN_S, *, seed: int = 0
) -> Neighbours | None:
    """Return how much the targets of stimuli that were shown close to each other are alike.

    Parameters
    ----------
    values : (stimulus, …) targets
    stimulus : (trial,) the row of `values` that each trial showed
    times : when each trial was shown

    Returns
    -------
    None where no two different stimuli were shown so close.
    """
    one, other = (stimulus[rows] for rows in times.neighbours(within_s))
    differ = one != other
    one, other = one[differ], other[differ]
    if not len(one):
        return None
    chosen = np.unique(np.linspace(0, len(one) - 1, min(len(one), MAX_PAIRS)).astype(np.int64))
    used, places = np.unique(np.concatenate([one[chosen], other[chosen]]), return_inverse=True)
    one, other = places.reshape(2, -1)
    if len(used) < 3:
        return None
    rows = values[used].reshape(len(used), -1).astype(np.float64)
    rows -= rows.mean(axis=0)
    rows /= np.where((norm := np.linalg.norm(rows, axis=1, keepdims=True)) > 0, norm, 1)
    r = rows @ rows.T
    whole = float((r.sum() - np.trace(r)) / (len(r) * (len(r) - 1)))
    excess = float(r[one, other].mean()) - whole
    rng, extreme = rng_for(seed, "order of stimuli"), 1
    for _ in range(PERMUTATIONS):
        order = rng.permutation(len(r))
        extreme += abs(float(r[order[one], order[other]].mean()) - whole) >= abs(excess)
    return Neighbours(excess, extreme / (PERMUTATIONS + 1))


def first_in_time(times: Times) -> NDArray[np.int64]:
    """Return the first `MAX_ROWS` rows in time, in the order of their segments and starts."""
    return np.lexsort((times.start_s, times.segment))[:MAX_ROWS].astype(np.int64)


def reach_s(targets: Array, responses: Array, times: Times) -> float:
    """Return for how long responses and targets of neighbours in time both stay correlated, in seconds.

    Autocorrelations are mean correlations of rows so many seconds apart, in steps of the median time from one row to
    the next, less that of all pairs. The reach is the first lag at which their product is below `SHARED`; 0 where
    neighbours already are, and half of the longest segment at most.

    Parameters
    ----------
    targets, responses : (row, …), what each row showed and what it evoked
    times : when each row was
    """
    apart = np.abs(times.start_s[:, None] - times.start_s)
    pairs = (times.segment[:, None] == times.segment) & np.isfinite(apart)
    steps = np.concatenate(
        [np.diff(np.unique(times.start_s[times.segment == one])) for one in np.unique(times.segment)]
    )
    steps = steps[np.isfinite(steps) & (steps > 0)]
    if not len(steps):
        return 0.0
    step = float(np.median(steps))
    alike_targets, alike_responses = _excess(targets), _excess(responses)
    lag_of, count = np.where(pairs, np.round(apart / step), -1), int(apart[pairs].max() / step / 2)
    for lag in range(1, count + 1):
        here = lag_of == lag
        if here.any() and abs(float(alike_targets[here].mean()) * float(alike_responses[here].mean())) < SHARED:
            return (lag - 1) * step if lag == 1 else lag * step
    return count * step


def _excess(rows: Array) -> Array:
    """Return the correlation of every two rows (row, …) less the mean over all pairs, (row, row)."""
    flat = rows.reshape(len(rows), -1)
    flat = np.nan_to_num(flat[:, :: max(1, flat.shape[1] // MAX_COLUMNS)].astype(np.float64))
    spread = flat.std(axis=0)
    flat = (flat - flat.mean(axis=0)) / np.where(spread > 0, spread, 1)
    flat /= np.where((norm := np.linalg.norm(flat, axis=1, keepdims=True)) > 0, norm, 1)
    r = flat @ flat.T
    return np.asarray(r - (r.sum() - np.trace(r)) / max(1, len(r) * (len(r) - 1)))


def time_report(
    test: Mapping[str, Timing],
    train: Mapping[str, Timing],
    neighbours: Sequence[Neighbours],
    *,
    allowed: bool,
    purged: int = 0,
    reach: float = 0.0,
) -> dict[str, Any]:
    """Return how near the test trials are to training trials in time, and whether that leaves anything to be told.

    Parameters
    ----------
    test, train : by subject, when the trials were shown
    neighbours : what `alike` returned for each target
    allowed : whether the study allows trials that are dense in time
    purged : training trials that were dropped when the split was made
    reach : see `reach_s`

    Returns
    -------
    dict
        ``{"count", "of", "within_s", "reach_s", "dense", "allowed", "purged", "neighbours": {"excess", "p"} or None,
        "note"}``: test trials within `within_s` of a training trial, of all subjects together; null where runs, onsets
        and places are not known. `within_s` is the span of a haemodynamic response, or `reach` where that alone makes
        the trials dense. `allowed` is true where trials are dense and the study allows it.
    """
    within_s, counts = near_counts_of(test, train, reach)
    found = next((one for one in neighbours if one.ordered), next(iter(neighbours), None))
    of = sum(total for _, total in counts.values())
    report: dict[str, Any] = {
        "count": sum(near for near, _ in counts.values()) if counts else None,
        "of": of,
        "within_s": within_s,
        "reach_s": reach,
        "dense": many_near(counts, within_s) and found is not None and found.ordered,
        "purged": purged,
        "neighbours": None if found is None else {"excess": found.excess, "p": found.p},
    }
    return {**report, "allowed": bool(report["dense"] and allowed), "note": _note(report, counts, found)}


def near_counts(
    test: Mapping[str, Timing], train: Mapping[str, Timing], within_s: float = HRF_SPAN_S
) -> dict[str, tuple[int, int]]:
    """Return by subject how many test trials lie near to a training trial, of how many; only where times are known."""
    near = {subject: own.near(train[subject], within_s) for subject, own in test.items()}
    return {subject: (int(rows.sum()), len(rows)) for subject, rows in near.items() if rows is not None}


def near_counts_of(
    test: Mapping[str, Timing], train: Mapping[str, Timing], reach: float
) -> tuple[float, dict[str, tuple[int, int]]]:
    """Return how many test trials are near, and within how many seconds: those of a response, or of the reach.

    The reach counts where few trials are near within `core.times.HRF_SPAN_S` and many within the reach.
    """
    counts = near_counts(test, train)
    if reach > HRF_SPAN_S and not many_near(counts):
        further = near_counts(test, train, reach)
        if many_near(further, reach):
            return reach, further
    return HRF_SPAN_S, counts


def many_near(counts: Mapping[str, tuple[int, int]], within_s: float = HRF_SPAN_S) -> bool:
    """Return whether of any subject so many test trials are near to a training trial that their order matters."""
    share = DENSE_SHARE if within_s <= HRF_SPAN_S else REACH_SHARE
    return any(near and near >= share * of for near, of in counts.values())


def _note(report: Mapping[str, Any], counts: Mapping[str, tuple[int, int]], found: Neighbours | None) -> str:
    count, of, within = report["count"], report["of"], report["within_s"]
    if count is None:
        return "runs and onsets of trials are not known, so nothing is known of how near test and training are in time"
    where = f"test trials lie within {within:g} s of a training trial of the same run or movie"
    near = f"{count} of {of} {where}" if count else f"none of {of} {where}"
    if report["purged"]:
        near += f"; {report['purged']} training trials were purged"
    if count and report["reach_s"] > within:
        near += (
            f"; responses and targets stay correlated for {report['reach_s']:.0f} s: set source.split.purge_s to that"
        )
    if not many_near(counts, within) or found is None:
        return near
    words = (
        f"the correlation of neighbours' targets differs by {found.excess:+.2f} from that of others, p = {found.p:.3f}"
    )
    if found.ordered:
        return f"{near}, and stimuli follow each other in time ({words}): decoding cannot be told from autocorrelation"
    return f"{near}; the order of stimuli is random ({words})"
