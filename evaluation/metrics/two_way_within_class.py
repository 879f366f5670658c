"""Two-way identification among stimuli of one class: what is left once the category is given."""

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, PerStimulus
from evaluation.metrics.similarity import register_of_similarity
from evaluation.metrics.two_way import wins


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
