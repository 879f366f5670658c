"""Retrieval among many: whether a prediction is closer to its own stimulus than to all of some random others."""

from math import comb

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, OfSimilarity, PerStimulus
from evaluation.metrics.similarity import TIE, leads, register_of_similarity

WAYS = (10, 50)


def retrieval(ways: int) -> OfSimilarity:
    """Return the metric that retrieves each stimulus from among `ways` candidates; chance is 1 / `ways`."""

    def retrieve(r: NDArray[np.float64], groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
        """Retrieve each prediction's own stimulus from among w: the chance that corr(p_i, t_i) beats all w − 1 others.

        The w − 1 others are other test stimuli, drawn without replacement. Nothing is drawn here: a value is the
        expectation over all draws, C(L, w − 1) / C(n − 1, w − 1) where L of the n − 1 other stimuli correlate less
        with the prediction than its own does; n counts the stimuli. Others that tie with the own one share the
        first place with it. Pearson correlation over all features of a stimulus, in spaces less
        their training mean; the value falls with w, so it compares with figures of the same w alone.

        Chance is 1 / w exactly: one prediction for all, or constant rows, earn it on average. After the identification
        among sets of growing size of Kay et al. (2008, *Nature* 452:352); it is not the n-way top-1 accuracy of
        MinD-Vis and MinD-Video, whose candidates are a classifier's labels.
        """
        return np.array([_success(one, ways) for one in leads(r)])

    return retrieve


def _success(lead: NDArray[np.float64], ways: int) -> float:
    """Return the chance that a stimulus leads over `ways` - 1 others drawn, ties shared fairly.

    `lead` (n,) is one row of `leads`: L others lose, T tie. With t of these drawn, which happens with the chance
    C(T, t) C(L, w - 1 - t) / C(n - 1, w - 1), the own stimulus is first with 1 / (t + 1). As
    C(T, t) / (t + 1) = C(T + 1, t + 1) / (T + 1), Vandermonde's identity gives the sum over t in closed form. The
    integers are exact, whatever their size, and are divided once.
    """
    if np.isnan(lead).any():
        return float("nan")
    losers, equals = int((lead > TIE).sum()), int((np.abs(lead) <= TIE).sum())  # T + 1 equals: one is itself
    return (comb(losers + equals, ways) - comb(losers, ways)) / (equals * comb(len(lead) - 1, ways - 1))


for _ways in WAYS:
    register_of_similarity(
        f"retrieval_{_ways}",
        label=f"{_ways}-way retrieval",
        chance=1 / _ways,
        span=(0.0, 1.0),
        view="centred",
        fewest=_ways,
    )(retrieval(_ways))
