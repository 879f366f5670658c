"""Two-way identification: whether a prediction is closer to its own stimulus than to another."""

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, PerStimulus
from evaluation.metrics.similarity import TIE, leads, register_of_similarity


def wins(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return who wins each comparison, shape (n, n), of correlations as `similarity.similarity` returns them.

    Entry (i, j) is 1 where ``corr(prediction i, truth i) > corr(prediction i, truth j)``, 0 where it is less, one half
    where the two are equal, and NaN along the row of a prediction that is not finite.
    """
    lead = leads(r)
    won = np.where(np.abs(lead) <= TIE, 0.5, (lead > 0).astype(np.float64))
    return np.where(np.isnan(lead), np.nan, won)


@register_of_similarity("two_way", label="two-way identification", chance=0.5, span=(0.0, 1.0))
def two_way(r: NDArray[np.float64], groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Identify each prediction among two: the mean over j ≠ i of [corr(p_i, t_i) > corr(p_i, t_j)], ties one half.

    Pearson correlation over all features of a stimulus. Chance is .50 exactly: one prediction for all, or constant
    rows, earn .50 on average. With a single stimulus there is no other, and the value is NaN.

    After the pairwise identification of Ozcelik and VanRullen (2023, *Scientific Reports* 13:15666) and Takagi and
    Nishimoto (CVPR 2023); there is no random draw, every ordered pair is asked.
    """
    won = wins(r)
    n = len(won)
    if n < 2:
        return np.full(n, np.nan)
    return np.asarray((won.sum(axis=1) - np.diag(won)) / (n - 1))
