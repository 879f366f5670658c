"""Predictions of fitted models for the test stimuli, beside the truth."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import StoreError
from core.seeds import seed_for
from core.subjects import is_group, members_of
from evaluation.statistics import scores
from evaluation.statistics.ceilings import RepeatedPredictions, RepeatNoise
from evaluation.statistics.controls import mean_prediction, shuffle_stimuli
from evaluation.statistics.order import TimeOrder, block_length, shifts
from feature_store import Store
from models.decoders.build import Encoder, Regressor, predict_stimuli, predict_trials
from models.decoders.rows import Rows
from studies.decoding.order import order_of
from studies.decoding.training_data import seen_in_training, training_stimuli

Array = NDArray[Any]

MIN_STIMULI = 2
"""Test stimuli that scores need at least: fewer can be neither told apart nor shuffled."""


@dataclass(frozen=True)
class Predictions:
    """One target's predictions for the test stimuli of one subject.

    Stimuli come in the order of the target's store, which is the source's, whatever the order they were shown in.

    Attributes
    ----------
    predicted, truth : (stimulus, …) float32; predictions are averaged over repetitions
    mean : (stimulus, …) the mean of the training targets, for every stimulus
    groups : the stimuli's classes, or None where the study has none
    dropped : response rows without a target, and targets without a response
    noise : of the predictions, known from repetitions; None where it was not asked for, or too few were repeated
    order : of the stimuli in time, or None where they are exchangeable
    """

    stimuli: list[str]
    predicted: NDArray[Any]
    truth: NDArray[Any]
    mean: NDArray[Any]
    groups: list[str] | None
    dropped: dict[str, int]
    noise: RepeatNoise | None
    order: TimeOrder | None = None


def predict_test(
    store: Store,
    encoder: Encoder,
    regressor: Regressor,
    subject: str,
    rois: list[str] | None,
    trained_on: Collection[str],
    *,
    noise: bool = False,
    dense: bool = False,
) -> Predictions:
    """Predict a subject's test stimuli.

    Raises `StoreError` where the subject saw fewer than two test stimuli.

    Parameters
    ----------
    rois : the regions the encoder was trained on
    trained_on : the training stimuli whose targets' mean is the control; see `stimuli_trained_on`
    noise : whether to estimate the noise of the predictions, by predicting from every repetition once more
    dense : whether trials are dense in time; see `studies.decoding.order.order_of`
    """
    pairs = store.pairs([subject], regressor.target, "test", rois=rois, repeats="single")[subject]
    responses = pairs.responses
    shown, predicted = predict_stimuli(encoder, regressor, subject, responses, pairs.stimuli)
    if len(shown) < MIN_STIMULI:
        raise StoreError(
            f"{subject}: saw {len(shown)} test stimulus; at least {MIN_STIMULI} are needed to score anything"
        )
    row_of = {name: row for row, name in enumerate(shown)}
    target = store.target(regressor.target)
    truth, names = target.values("test")
    rows = np.array([row for row, name in enumerate(names) if name in row_of])
    stimuli = [names[row] for row in rows]
    in_order = [row_of[name] for name in stimuli]
    table = target.stimuli("test")
    found = _noise(encoder, regressor, subject, responses, pairs.stimuli, shown, predicted) if noise else None
    values, known = target.values("train")
    seen = values[np.array([name in trained_on for name in known])].astype(np.float32)
    return Predictions(
        stimuli=stimuli,
        predicted=predicted[in_order],
        truth=truth[rows].astype(np.float32),
        mean=mean_prediction(seen, len(stimuli)),
        groups=list(table["group"].iloc[rows]) if "group" in table else None,
        dropped=pairs.dropped,
        noise=found.take(in_order) if found is not None else None,
        order=order_of(store, subject, regressor.target, stimuli, dense=dense),
    )


def predict_test_roles(
    store: Store,
    encoder: Encoder,
    regressors: dict[str, Regressor],
    subject: str,
    rois: list[str] | None,
    trained_on: Collection[str],
    *,
    noise: bool = False,
    dense: bool = False,
) -> dict[str, Predictions]:
    """Predict every role of a subject's test stimuli, the same stimuli for all; see `predict_test`, also for errors."""
    predictions = {
        role: predict_test(store, encoder, regressor, subject, rois, trained_on, noise=noise, dense=dense)
        for role, regressor in regressors.items()
    }
    common_stimuli({role: predicted.stimuli for role, predicted in predictions.items()})
    return predictions


def predict_roles(
    encoder: Encoder, regressors: dict[str, Regressor], subject: str, responses: Array, names: list[str]
) -> tuple[list[str], dict[str, Array]]:
    """Predict every role from responses that need not be in a store.

    Parameters
    ----------
    responses : (trial, voxel) or (trial, time, voxel), the voxels that the encoder was trained on
    names : what each trial is of; trials of one name are averaged

    Returns
    -------
    names : list of str
        Each name once, in the order of first appearance.
    roles : role to (name, …) float32
    """
    predicted = {
        role: predict_stimuli(encoder, regressor, subject, responses, names)[1]
        for role, regressor in regressors.items()
    }
    return list(dict.fromkeys(names)), predicted


def stimuli_trained_on(store: Store, subjects: Sequence[str], count: int | None, seed: int) -> set[str]:
    """Return the stimuli that models were trained on: their subjects' training stimuli, or so many drawn of them.

    Subjects who are not in the store are passed over.
    """
    there = set(store.names("responses"))
    stored = [subject for subject in subjects if there.issuperset(members_of(subject))]
    drawn = set(training_stimuli(seen_in_training(store, stored), count, seed))
    groups = [subject for subject in stored if is_group(subject)]
    if groups == stored and groups:  # which saw the stimuli that all members have in common
        drawn &= {str(name) for group in groups for name in store.responses(group).trials("train")["stimulus"]}
    return drawn


def _noise(
    encoder: Encoder,
    regressor: Regressor,
    subject: str,
    responses: Rows,
    trials: list[str],
    shown: list[str],
    mean: Array,
) -> RepeatNoise | None:
    """Return the noise of the mean predictions of the stimuli shown, None where too few of them were repeated."""
    row_of = {name: row for row, name in enumerate(shown)}
    repeated = RepeatedPredictions(mean, np.array([row_of[name] for name in trials]))
    if not repeated.suffice:
        return None
    for block, predicted in predict_trials(encoder, regressor, subject, responses):
        repeated.add(block, predicted)
    return repeated.noise()


def shuffled_scores(
    score: Callable[[Array], scores.Values],
    predicted: Array,
    permutations: int,
    seed: int,
    order: TimeOrder | None = None,
) -> scores.Values:
    """Score one subject's predictions in shuffled orders: the mean over several, as one of few stimuli is noisy.

    Stimuli that are ordered in time are shifted in a circle instead, see `shuffled_orders`.
    """
    length = 1 if order is None else longest_block(score(predicted), order)
    orders = shuffled_orders(len(predicted), permutations, seed, order, length)
    return scores.average([score(predicted[own]) for own in orders])


def common_order(orders: Iterable[TimeOrder | None]) -> TimeOrder | None:
    """Return the first order in time that is known of several subjects who saw the same stimuli, None without one."""
    return next((order for order in orders if order is not None), None)


def longest_block(values: scores.Values, order: TimeOrder) -> int:
    """Return the longest block that the autocorrelation of any metric's values asks for, in stimuli."""
    found = [scores.influences_of(row, name) for row in values.values() for name in row]
    return max((block_length(one, order) for one in found), default=1)


def shuffled_orders(
    n: int, count: int, seed: int, order: TimeOrder | None = None, length: int = 1
) -> list[NDArray[np.int64]]:
    """Return orders of n stimuli for the shuffled brain: random, or circular shifts where they are ordered in time.

    Shifts keep the autocorrelation of predictions, which random orders destroy: what autocorrelation alone can score
    is in the scores of shifted predictions, and not in those of shuffled ones.

    Parameters
    ----------
    length : the least shift either way, in stimuli: the block length
    """
    if order is not None:
        return shifts(order, count, seed_for(seed, "shuffled brain"), length=length)
    return [shuffle_stimuli(n, seed_for(seed, "shuffled brain", index)) for index in range(count)]


def common_stimuli(stimuli: dict[str, list[str]]) -> str:
    """Return the first subject, and require that all saw the same stimuli: averages are taken by stimulus.

    Raises `StoreError` where two subjects saw different stimuli.
    """
    first, *others = stimuli
    for other in others:
        if stimuli[other] != stimuli[first]:
            differing = sorted(set(stimuli[first]) ^ set(stimuli[other]))
            raise StoreError(
                f"{first} and {other} saw different test stimuli ({len(differing)} differ, such as '{differing[0]}'); "
                "scores are averaged over subjects who saw the same: name them in source.subjects"
            )
    return first
