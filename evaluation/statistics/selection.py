"""Estimates without the winner's curse: what is chosen on some stimuli is reported on others.

The best of several equally good routes on some stimuli is the one that these stimuli happen to suit: its mean on the
same stimuli is too high, by more than a standard error among eight. Here the stimuli lie in two halves. What was chosen
on either half is scored on the other one, so that no stimulus helps to choose the route by which it is scored, and
every stimulus is scored once (cross-fitting).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for

Floats: TypeAlias = NDArray[np.float64]
Prefer: TypeAlias = Callable[[dict[str, Floats]], str]
"""Chooses among candidates by the values (n,) of each."""
MIN_HALF = 2
"""Stimuli of a half that something can be chosen on."""
WIDER = float(np.sqrt(2.0))
"""By how much an interval of cross-fitted values is wider than one of as many independent values."""


@dataclass(frozen=True)
class CrossFit:
    """What was chosen on either half of the stimuli.

    Attributes
    ----------
    half : (n,) 0 or 1, the half that every stimulus lies in
    chosen : by half, what scores it: the choice on the other half
    """

    half: NDArray[np.int64]
    chosen: tuple[str, str]

    def of(self, values: Mapping[str, NDArray[Any]]) -> Floats:
        """Return the values (n,) of what was chosen without the half that a stimulus lies in."""
        first, second = (np.asarray(values[name], np.float64) for name in self.chosen)
        return np.where(self.half == 0, first, second)


def cross_fit(
    values: Mapping[str, NDArray[Any]], prefer: Prefer, *, seed: int, blocks: NDArray[np.int64] | None = None
) -> CrossFit | None:
    """Choose on either half of the stimuli; None where a half is too small to choose on.

    Parameters
    ----------
    values : by candidate, (n,) values of the same stimuli
    prefer : chooses
    seed : of the halves
    blocks : (n,) labels of stimuli that are not independent, which lie in one half; each its own by default
    """
    n = len(next(iter(values.values())))
    half = halves(n, seed, blocks)
    if min(int((half == 0).sum()), int((half == 1).sum())) < MIN_HALF:
        return None
    without = [{name: np.asarray(own, np.float64)[half != side] for name, own in values.items()} for side in (0, 1)]
    return CrossFit(half, (prefer(without[0]), prefer(without[1])))


def halves(n: int, seed: int, blocks: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return 0 or 1 for each of n stimuli, (n,), at random; blocks stay whole and are dealt out by their sizes."""
    labels = np.arange(n) if blocks is None else np.asarray(blocks)
    names, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    side, filled = np.zeros(len(names), np.int64), [0, 0]
    for block in rng_for(seed, "halves").permutation(len(names)).tolist():
        side[block] = int(filled[1] < filled[0])
        filled[side[block]] += int(sizes[block])
    return np.asarray(side[inverse])


def widened(value: float, low: float, high: float) -> tuple[float, float]:
    """Return the interval of a mean of cross-fitted values, from the one of as many independent values.

    The mean is that of two halves' means. Each is free of the curse, but they depend on each other: where both halves
    happen to suit one route, it is chosen and scored well in both. The variance of the mean of two variables of one
    variance σ² is at most σ², that of a half, and σ² / 2 only where they are independent; so the interval is as wide as
    that of one half, which holds whatever the dependence.
    """
    return value - WIDER * (value - low), value + WIDER * (high - value)


def combined_p(p_of_halves: Sequence[float]) -> float:
    """Return the p-value of two halves' tests, whatever their dependence: twice their mean, at most 1.

    NaN where either is. Rüschendorf (1982, *Advances in Applied Probability* 14:623); Vovk and Wang (2020, *Biometrika*
    107:791).
    """
    total = float(sum(p_of_halves))
    return total if np.isnan(total) else min(1.0, total)
