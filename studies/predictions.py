"""What fitted models say about the test stimuli, beside the truth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import StoreError
from evaluation.controls import mean_prediction
from feature_store import Store
from models.parts import Encoder, Regressor
from models.predict import predict_stimuli

FEWEST = 2
"""Test stimuli below which nothing can be identified and nobody shuffled."""


@dataclass(frozen=True)
class Predictions:
    """One target's predictions for the test stimuli of one subject.

    Stimuli come in the order of the target's store, which is the source's, whatever the order they were shown in.

    Attributes
    ----------
    stimuli : list of str
    predicted, truth : (stimulus, …) float32; predictions are averaged over repetitions
    mean : (stimulus, …) the mean of the training targets, for every stimulus
    groups : the stimuli's classes, or None where the study has none
    dropped : response rows without a target, and targets without a response
    """

    stimuli: list[str]
    predicted: NDArray[Any]
    truth: NDArray[Any]
    mean: NDArray[Any]
    groups: list[str] | None
    dropped: dict[str, int]


def predict_test(
    store: Store, encoder: Encoder, regressor: Regressor, subject: str, rois: list[str] | None
) -> Predictions:
    """Predict a subject's test stimuli.

    Parameters
    ----------
    rois : list of str, optional
        The regions the encoder was trained on.

    Raises
    ------
    StoreError
        The subject saw fewer than two test stimuli.
    """
    pairs = store.pairs([subject], regressor.target, "test", rois=rois, repeats="single")[subject]
    responses = np.asarray(pairs.responses)
    shown, predicted = predict_stimuli(encoder, regressor, subject, responses, pairs.stimuli)
    if len(shown) < FEWEST:
        raise StoreError(f"{subject}: saw {len(shown)} test stimulus; at least {FEWEST} are needed to score anything")
    row_of = {name: row for row, name in enumerate(shown)}
    target = store.target(regressor.target)
    truth, names = target.values("test")
    rows = np.array([row for row, name in enumerate(names) if name in row_of])
    stimuli = [names[row] for row in rows]
    table = target.stimuli("test")
    return Predictions(
        stimuli=stimuli,
        predicted=predicted[[row_of[name] for name in stimuli]],
        truth=truth[rows].astype(np.float32),
        mean=mean_prediction(target.values("train")[0][:].astype(np.float32), len(stimuli)),
        groups=list(table["group"].iloc[rows]) if "group" in table else None,
        dropped=pairs.dropped,
    )


def common_stimuli(stimuli: dict[str, list[str]]) -> str:
    """Return the first subject, having made sure that all saw the same stimuli; averages are by stimulus.

    Raises
    ------
    StoreError
        Two subjects saw other stimuli.
    """
    first, *others = stimuli
    for other in others:
        if stimuli[other] != stimuli[first]:
            differing = sorted(set(stimuli[first]) ^ set(stimuli[other]))
            raise StoreError(
                f"{first} and {other} saw other test stimuli ({len(differing)} differ, such as '{differing[0]}'); "
                "scores are averaged over subjects who saw the same: name them in source.subjects"
            )
    return first
