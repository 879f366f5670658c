"""Captions for predicted conditioning states or image tokens: the nearest training stimulus's words."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError

TINY = 1e-12
BLOCK_VALUES = 2**24
"""Values of training states that are looked at together."""


class NearestCaption:
    """Answers a prediction with the caption of the training stimulus whose states correlate with it best.

    States and predictions are centred by the training mean first: what all captions share does not tell them apart. The
    states are read block by block, so that those of a whole dataset need not fit in memory.

    Parameters
    ----------
    states : ndarray or feature_store's rows, shape (n, ...)
        Conditioning states or image tokens of the training stimuli.
    captions : list of n strings

    Raises
    ------
    ModelError
        No stimulus, one of them without a caption, or states that are not finite.
    """

    def __init__(self, states: Any, captions: list[str]) -> None:
        if not captions or len(states) != len(captions):
            raise ModelError(
                f"captioner: found {len(captions)} captions for {len(states)} training stimuli; give one for each, "
                "and at least one"
            )
        self.captions = list(captions)
        self.shape: tuple[int, ...] = tuple(states.shape[1:])
        self._states = states
        self.mean = sum(rows.sum(axis=0) for rows in self._blocks()) / len(captions)

    def caption(self, predicted: NDArray[Any]) -> list[str]:
        """Return one caption a prediction; the first of the training set where several are equally near.

        Parameters
        ----------
        predicted : ndarray, shape (m, ...)
            Predicted conditioning states, of the training states' shape.

        Raises
        ------
        ModelError
            Predictions of another shape, or not finite.
        """
        return [self.captions[index] for index in self.nearest(predicted)]

    def nearest(self, predicted: NDArray[Any]) -> NDArray[np.intp]:
        """Return the index of the nearest training stimulus of each prediction, shape (m,)."""
        rows = _directions(_rows(predicted, self.shape) - self.mean)
        near = [rows @ _directions(block - self.mean).T for block in self._blocks()]
        return np.asarray(np.argmax(np.concatenate(near, axis=1), axis=1), dtype=np.intp)

    def _blocks(self) -> Iterator[NDArray[np.float64]]:
        step = max(1, BLOCK_VALUES // max(1, math.prod(self.shape)))
        for start in range(0, len(self.captions), step):
            yield _rows(np.asarray(self._states[start : start + step]), self.shape)


def _rows(states: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    if states.shape[1:] != shape:
        raise ModelError(f"captioner: expected states of shape (m, {', '.join(map(str, shape))}), found {states.shape}")
    rows = np.asarray(states, dtype=np.float64).reshape(len(states), -1)
    if not np.isfinite(rows).all():
        raise ModelError(
            "captioner: the conditioning states hold NaN or infinity; check the regressor that predicted them"
        )
    return rows


def _directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows without their own mean and of unit length, so that a product of two is their correlation."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY))
