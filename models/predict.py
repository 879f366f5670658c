"""From a subject's trials to one prediction per stimulus: encoder, then regressor, averaged over repetitions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.parts import Encoder, Regressor

TRIALS = 256
"""Trials predicted at once, so that large targets need not all be held for every repetition."""


def encode_trials(encoder: Encoder, subject: str, responses: Any) -> NDArray[np.float32]:
    """Return features (trial, feature) float32, a few trials at a time, so that `responses` may be a view of files."""
    starts = range(0, len(responses), TRIALS)
    return np.concatenate([encoder.encode(subject, responses[at : at + TRIALS]) for at in starts])


def predict_stimuli(
    encoder: Encoder, regressor: Regressor, subject: str, responses: NDArray[Any], stimuli: Sequence[str]
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the stimuli in the order of first appearance, and the mean of their trials' predictions.

    Parameters
    ----------
    responses : (trial, voxel) or (trial, time, voxel)
    stimuli : the stimulus of each trial

    Returns
    -------
    names : list of str
    predictions : (stimulus, *target shape) float32
    """
    names = list(dict.fromkeys(stimuli))
    row_of = {name: row for row, name in enumerate(names)}
    rows = np.array([row_of[name] for name in stimuli])
    total = np.zeros((len(names), *regressor.shape), np.float32)
    for start in range(0, len(rows), TRIALS):
        features = encoder.encode(subject, responses[start : start + TRIALS])
        np.add.at(total, rows[start : start + TRIALS], regressor.predict(subject, features))
    counts = np.bincount(rows).astype(np.float32)
    return names, total / counts.reshape(-1, *(1 for _ in regressor.shape))
