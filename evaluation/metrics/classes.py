"""Metrics of what a classifier names: attributes that are right, and N-way identification of a clip's classes."""

from functools import lru_cache
from math import comb, prod

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.protocols import Protocol
from evaluation.metrics.registry import Array, Function, PerStimulus, chance_of_others, register

PUBLISHED_CLASSES = 3
PUBLISHED_WAYS = (2, 50)
TOP_OF_WAYS = ((1, 2), (1, 50), (5, 50))
MIND_VIDEO = Protocol(
    "MinD-Video (Chen et al. 2023)",
    "n-way top-1: success where any of the true clip's 3 top classes beats n − 1 others drawn without replacement from "
    "the rest, frames one by one and averaged",
    weights={
        "video_classes": "MCG-NJU/videomae-base-finetuned-kinetics",
        "frame_classes": "google/vit-base-patch16-224",
    },
    shown={"video_classes": 6},
    frames=6,
    apart=(
        "the expectation over all draws instead of 100 drawn trials, ties shared",
        "probabilities in single precision instead of half",
    ),
)


def _right(prediction: Array, truth: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many attributes are right and how many apply, each (n,); NaN where a prediction is not finite."""
    applies = truth >= 0
    right = ((prediction == truth) & applies).sum(axis=1).astype(np.float64)
    right[~np.isfinite(prediction.astype(np.float64)).all(axis=1)] = np.nan
    count = applies.sum(axis=1).astype(np.float64)
    return right, np.where(count == 0, np.nan, count)


def _attribute_accuracy(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Return the share of a stimulus's attributes that are right, 0 to 1.

    Words are compared by index; −1 in the prediction names none and is wrong, −1 in the truth does not apply to the
    stimulus and is not counted. A stimulus to which no attribute applies has no value. Higher is better.

    Chance is the accuracy of the truths of other stimuli dealt at random: the mean, over stimuli and their attributes,
    of the probability that another stimulus has the same word. The traps: a guess of the commonest words may earn more,
    and a classifier that reads attributes from clips errs on real clips too: see the mean predictor's and the oracle's
    rows. Scikit-learn's `accuracy_score` by stimulus.
    """
    right, count = _right(prediction, truth)
    return right / count


def _all_attributes(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Return 1 where prediction and truth agree on all attributes that apply, else 0.

    −1 in the prediction names none and is wrong, −1 in the truth does not apply to the stimulus and is not counted; a
    stimulus to which no attribute applies has no value. Higher is better. Known as subset accuracy in scikit-learn.

    Chance is the probability that another stimulus agrees on all of them. The trap: where no two test stimuli are
    alike this is 0, and a single hit exceeds it: see its interval and the controls.
    """
    right, count = _right(prediction, truth)
    return np.where(np.isnan(right + count), np.nan, right == count)


register(
    "attribute_accuracy",
    label="attributes right",
    chance=chance_of_others(_attribute_accuracy),
    span=(0.0, 1.0),
    view="labels",
    without_value="has none of the attributes",
)(_attribute_accuracy)
register(
    "all_attributes",
    label="all attributes right",
    chance=chance_of_others(_all_attributes),
    span=(0.0, 1.0),
    view="labels",
    without_value="has none of the attributes",
)(_all_attributes)


def published(ways: int) -> Function:
    """Return the n-way top-1 accuracy as MinD-Video computes it; chance is 3 / (`ways` + 2)."""

    def identify(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
        """Identify the true clip's classes as published: the chance that any of its top 3 beats n − 1 drawn others.

        The truth's 3 highest classes succeed where the best of them, in the prediction's scores, is above all of n − 1
        classes drawn without replacement from the remaining ones. Frames (n, frame, class) are scored one by one, each
        against its own true frame's classes, and averaged. Nothing is drawn here: a value is the expectation over all
        draws of the published trials (40 or 100), and classes that tie share the first place. Higher is better.

        The trap: chance is 3 / (n + 2), not 1 / n: .75 for 2-way and .058 for 50-way, and a classifier that favours
        some classes whatever it is shown lifts every row above it. Compare a value with the mean predictor's and the
        shuffled brain's, and see `top_1_of_2` and `top_1_of_50`. After MinD-Video (Chen et al., NeurIPS 2023) and the
        projects that reuse its code.
        """
        return _identified(prediction, truth, ways=ways, first=1, classes=PUBLISHED_CLASSES)

    return identify


def top_of(first: int, ways: int) -> Function:
    """Return the accuracy of the truth's one top class among the `first` of `ways`; chance is `first` / `ways`."""

    def identify(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
        """Identify the true clip's class: the chance that its single top class is among the first k of n classes.

        The n − 1 other classes are drawn without replacement from all others and ranked with it by the prediction's
        scores. Nothing is drawn here: a value is the expectation over all draws, and classes that tie share their
        places. Frames (n, frame, class) are scored one by one, each against its own true frame's class, and averaged.
        Higher is better; values of another k, n or classifier do not compare.

        Chance is k / n exactly where no class is favoured: constant scores earn it. The trap: a classifier that favours
        some classes whatever it is shown, on test clips that show these more often than others, lifts every row; the
        mean predictor's and the shuffled brain's rows show by how much. After the n-way top-k accuracy of MinD-Vis
        (Chen et al., CVPR 2023), which MinD-Video widened to the truth's top 3.
        """
        return _identified(prediction, truth, ways=ways, first=first, classes=1)

    return identify


def _identified(prediction: Array, truth: Array, *, ways: int, first: int, classes: int) -> PerStimulus:
    """Return, for each stimulus, the chance that the best of the truth's `classes` is among the `first` of `ways`."""
    count = truth.shape[-1]
    frames = prod(truth.shape[1:-1])
    scores = prediction.reshape(-1, count)
    own = np.argsort(-truth.reshape(-1, count), axis=1, kind="stable")[:, :classes]
    values = _expected(scores, own, _success(count - classes, ways - 1, first))
    values[~np.isfinite(scores).all(axis=1)] = np.nan
    return np.asarray(values.reshape(len(truth), frames).mean(axis=1))


def _expected(scores: Array, own: NDArray[np.intp], success: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chance of success of each row of scores (row, class), whose own classes are `own` (row, classes).

    Ties are broken by every order alike. Where s own classes and T others share the best own score, j of these others
    come before all s with the chance C(T - j + s - 1, s - 1) / C(T + s, s).
    """
    best = np.take_along_axis(scores, own, axis=1).max(axis=1, keepdims=True)
    above = (scores > best).sum(axis=1)
    own_equal = (np.take_along_axis(scores, own, axis=1) == best).sum(axis=1)
    equal = (scores == best).sum(axis=1) - own_equal
    values: NDArray[np.float64] = success[above]
    for row in np.flatnonzero(equal > 0):
        later = np.arange(equal[row], -1, -1.0)
        weights = np.prod([later + step for step in range(1, own_equal[row])], axis=0) * np.ones_like(later)
        values[row] = weights @ success[above[row] : above[row] + len(later)] / weights.sum()
    return values


@lru_cache(maxsize=32)
def _success(others: int, drawn: int, first: int) -> NDArray[np.float64]:
    """Return the chance that fewer than `first` of `drawn` others come before the own class, shape (others + 1,).

    Entry r is for r of the `others` before it: the sum over x < `first` of C(r, x) C(others - r, drawn - x) /
    C(others, drawn). Each term is `drawn` ratios and C(drawn, x), all positive, so that nothing cancels or overflows.
    """
    before = np.arange(others + 1.0)
    left = others - np.arange(float(drawn))
    total = np.zeros(others + 1)
    for x in range(min(first, drawn + 1)):
        taken = [before - step for step in range(x)] + [others - before - step for step in range(drawn - x)]
        ratios = np.maximum(np.array(taken), 0.0) / left[:, None]
        total += comb(drawn, x) * ratios.prod(axis=0)
    total.setflags(write=False)
    return total


for _first, _ways in TOP_OF_WAYS:
    register(
        f"top_{_first}_of_{_ways}",
        label=f"top {_first} of {_ways}",
        chance=_first / _ways,
        span=(0.0, 1.0),
        view="classes",
        min_classes=_ways,
    )(top_of(_first, _ways))
for _ways in PUBLISHED_WAYS:
    register(
        f"published_{_ways}_way",
        label=f"{_ways}-way, 3 true classes (MinD-Video)",
        chance=PUBLISHED_CLASSES / (_ways + PUBLISHED_CLASSES - 1),
        span=(0.0, 1.0),
        view="classes",
        min_classes=_ways + PUBLISHED_CLASSES - 1,
        follows=MIND_VIDEO,
    )(published(_ways))
