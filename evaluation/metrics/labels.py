"""Attributes read from a reconstruction or named by a caption: how many of the words are right."""

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics._inputs import of_another
from evaluation.metrics.registry import Array, PerStimulus, register


def _right(prediction: Array, truth: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many attributes are right and how many are asked, each (n,); NaN for a prediction not finite."""
    asked = truth >= 0
    right = ((prediction == truth) & asked).sum(axis=1).astype(np.float64)
    right[~np.isfinite(prediction.astype(np.float64)).all(axis=1)] = np.nan
    count = asked.sum(axis=1).astype(np.float64)
    return right, np.where(count == 0, np.nan, count)


def _attribute_accuracy(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Count the attributes whose word is right: the part of a stimulus's attributes on which both agree, 0 to 1.

    Words are compared by index; −1 in the prediction names none and is wrong, −1 in the truth does not apply to the
    stimulus and is not counted. A stimulus to which no attribute applies has no value. Higher is better.

    Chance is the accuracy of a guess as good as the words' shares: the truths of other stimuli dealt at random, that
    is the mean, over stimuli and their attributes, of the probability that another stimulus has the same word. The
    traps: a guess of the commonest words may earn more than that, and a judge who reads words from clips errs on real
    clips too; the mean predictor's and the oracle's rows say how much. Scikit-learn's `accuracy_score` by stimulus.
    """
    right, count = _right(prediction, truth)
    return right / count


def _all_attributes(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Ask whether every attribute is right: 1 where prediction and truth agree on all that apply, else 0.

    −1 in the prediction names none and is wrong, −1 in the truth does not apply to the stimulus and is not counted; a
    stimulus to which no attribute applies has no value. Higher is better. Known as subset accuracy in scikit-learn.

    Chance is the probability that another stimulus agrees on all of them. The trap: where no two test stimuli are
    alike this is 0, and a single hit already exceeds it: look at its interval and at the controls.
    """
    right, count = _right(prediction, truth)
    return np.where(np.isnan(right + count), np.nan, right == count)


register(
    "attribute_accuracy",
    label="attributes right",
    chance=of_another(_attribute_accuracy),
    span=(0.0, 1.0),
    view="labels",
)(_attribute_accuracy)
register(
    "all_attributes",
    label="all attributes right",
    chance=of_another(_all_attributes),
    span=(0.0, 1.0),
    view="labels",
)(_all_attributes)
