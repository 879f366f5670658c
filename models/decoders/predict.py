"""From a subject's trials to one prediction per stimulus: encoder, then regressor, averaged over repetitions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.decoders.build import Encoder, Regressor
from models.decoders.rows import Rows, row_blocks

TRIALS = 256
"""Trials predicted at once, fewer of whole brains: large targets need not all be held for every repetition."""


def encode_trials(encoder: Encoder, subject: str, responses: Rows) -> NDArray[np.float32]:
    """Return features (trial, feature) float32, a few trials at a time, so that `responses` may be a view of files."""
    features = np.empty((0, 0), np.float32)
    for block in row_blocks(responses, TRIALS):
        made = encoder.encode(subject, responses[block])
        if not block.start:
            features = np.empty_like(made, shape=(len(responses), made.shape[1]))
        features[block] = made
    return features


def predict_stimuli(
    encoder: Encoder, regressor: Regressor, subject: str, responses: Rows, stimuli: Sequence[str]
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the stimuli in the order of first appearance, and the mean of their trials' predictions.

    Parameters
    ----------
    responses : (trial, voxel) or (trial, time, voxel), in memory or a view of files
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
    for block in row_blocks(responses, TRIALS):
        features = encoder.encode(subject, responses[block])
        np.add.at(total, rows[block], regressor.predict(subject, features))
    counts = np.bincount(rows).astype(np.float32)
    return names, total / counts.reshape(-1, *(1 for _ in regressor.shape))
