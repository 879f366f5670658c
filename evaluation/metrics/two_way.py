"""Two-way identification: whether a prediction is closer to its own stimulus than to another.

Two-way identification among stimuli of one class: what is left once the category is given.
"""

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


@register_of_similarity(
    "two_way_within_class",
    label="two-way identification within class",
    chance=0.5,
    span=(0.0, 1.0),
    needs_groups=True,
)
def two_way_within_class(r: NDArray[np.float64], groups: Array | None = None) -> PerStimulus:
    """Identify each prediction between its own stimulus and another of the same class; ties one half, chance .50.

    As `two_way` with j restricted to i's class. A model that decodes the category and nothing else earns .50 here: the
    question of Shirakawa et al. (arXiv 2405.10078). A stimulus alone in its class has the value NaN and is not counted
    (`Metric.counted`).
    """
    if groups is None:
        raise ValueError("two_way_within_class: groups are missing; expected one class a stimulus")
    same = (groups[:, None] == groups[None, :]) & ~np.eye(len(groups), dtype=bool)
    others = same.sum(axis=1)
    won = np.where(same, wins(r), 0.0).sum(axis=1)
    return np.where(others > 0, won / np.maximum(others, 1), np.nan)
