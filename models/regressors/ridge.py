r"""Dual ridge regression with an exact leave-one-stimulus-out choice of the penalty.

.. math:: \hat Y = \bar Y + (X - \bar X) X_c^T \alpha, \qquad \alpha = (X_c X_c^T + \lambda I)^{-1} Y_c

with ``X`` features (row, feature), ``Y`` targets (row, target), subscript c for centred over the training rows.

Leaving a stimulus out leaves out *all* its rows: leaving single trials out would leak over repetitions. With
``A = I - H`` (H the hat matrix, intercept included) the held-out error of a stimulus's rows g is
:math:`A_{gg}^{-1} (A Y)_g` (the block form of the PRESS identity, Cook & Weisberg 1982), so the squared error summed
over all targets needs the targets only through ``G = Y_c Y_c^T``: one penalty costs one (row, row) product, however
many targets there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from core.errors import ModelError
from models.regressors.config import RidgeConfig
from models.regressors.rows import TrainingRows
from models.weights import Tensors, common

Array = NDArray[Any]


def held_out_errors(gram: Array, outer: Array, stimuli: Sequence[str], penalties: Sequence[float]) -> Array:
    """Return the leave-one-stimulus-out squared error, summed over rows and targets, for each penalty.

    Parameters
    ----------
    gram : (row, row)
        Gram matrix of the centred features.
    outer : (row, row)
        Gram matrix of the centred targets.
    stimuli : one per row
        Rows of the same stimulus are left out together.
    penalties : absolute values of λ, above 0

    Returns
    -------
    errors : (penalty,) float64
    """
    values, vectors = scipy.linalg.eigh(gram)
    values = values.clip(0)
    rotated = vectors.T @ outer @ vectors
    groups = _rows_by_size(stimuli)
    return np.array([_held_out_error(values, vectors, rotated, groups, penalty) for penalty in penalties])


def _held_out_error(values: Array, vectors: Array, rotated: Array, groups: list[Array], penalty: float) -> float:
    shrunk = vectors * (penalty / (values + penalty))
    half = shrunk @ rotated
    total = 0.0
    for rows in groups:
        kept = np.einsum("gik,gjk->gij", shrunk[rows], vectors[rows]) - 1 / len(vectors)
        squared = np.einsum("gik,gjk->gij", half[rows], shrunk[rows])
        inverse = np.linalg.inv(kept)
        total += float(np.einsum("gij,gjk,gik->", inverse, squared, inverse))
    return total


def _rows_by_size(stimuli: Sequence[str]) -> list[Array]:
    """Return the rows of each stimulus, stacked as (stimulus, row) for stimuli with equally many rows."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(stimuli):
        rows.setdefault(name, []).append(row)
    sizes = sorted({len(r) for r in rows.values()})
    return [np.array([r for r in rows.values() if len(r) == size]) for size in sizes]


@dataclass(frozen=True)
class RidgeFit:
    """One subject's fitted ridge.

    Attributes
    ----------
    centre : (feature,) mean of the training features
    rows : (row, feature) centred training features
    dual : (row, target)
    offset : (target,) mean of the training targets
    penalty : chosen penalty, in units of the mean eigenvalue
    errors : (penalty,) leave-one-stimulus-out error over that of the training mean
    """

    centre: Array
    rows: Array
    dual: Array
    offset: Array
    penalty: float
    errors: Array

    def predict(self, features: Array) -> Array:
        """Return predictions (row, target) float32 for features (row, feature)."""
        return (features - self.centre) @ self.rows.T @ self.dual + self.offset


def fit_ridge(features: Array, targets: Array, stimuli: Sequence[str], penalties: Sequence[float]) -> RidgeFit:
    """Fit one ridge and choose its penalty over stimuli.

    Parameters
    ----------
    features : (row, feature)
    targets : (row, target)
    stimuli : one per row
    penalties : candidates, in units of the mean eigenvalue of the Gram matrix

    Raises
    ------
    ModelError
        Fewer than three stimuli, or targets that are not finite.
    """
    if len(set(stimuli)) < 3:
        raise ModelError(f"ridge: {len(set(stimuli))} training stimuli; at least 3 are needed to choose a penalty")
    if not np.isfinite(targets).all():
        raise ModelError("ridge: the targets hold NaN or infinity; extract them again")
    centre, offset = features.mean(axis=0, dtype=np.float64), targets.mean(axis=0, dtype=np.float64)
    rows = (features - centre).astype(np.float32)
    centred = (targets - offset).astype(np.float32)
    gram, outer = (rows @ rows.T).astype(np.float64), (centred @ centred.T).astype(np.float64)
    unit = np.trace(gram) / len(gram)
    if unit <= 0:
        raise ModelError("ridge: the features do not vary over the training stimuli; check the encoder")
    errors = held_out_errors(gram, outer, stimuli, [penalty * unit for penalty in penalties])
    best = penalties[int(np.argmin(errors))]
    regular = gram + np.eye(len(gram)) * best * unit
    dual = scipy.linalg.solve(regular, centred.astype(np.float64), assume_a="pos").astype(np.float32)
    spread = np.trace(outer) or 1.0
    return RidgeFit(centre.astype(np.float32), rows, dual, offset.astype(np.float32), float(best), errors / spread)


@dataclass(frozen=True)
class Ridge:
    """Ridge regressions of all subjects for one role.

    Attributes
    ----------
    target : name of the target it predicts, for example ``"latents"``
    shape : shape of one stimulus's target
    fits : per subject
    """

    target: str
    shape: tuple[int, ...]
    fits: dict[str, RidgeFit]

    @classmethod
    def fit(cls, config: RidgeConfig, target: str, data: dict[str, TrainingRows]) -> "Ridge":
        """Fit every subject's ridge; the targets' shape is that of their rows."""
        fits = {
            subject: fit_ridge(rows.features, rows.flat_targets, rows.stimuli, config.penalties)
            for subject, rows in data.items()
        }
        return cls(target, next(iter(data.values())).targets.shape[1:], fits)

    @property
    def widths(self) -> tuple[int, int]:
        """Features that go in and target values that come out; -1 where subjects differ."""
        return common([len(fit.centre) for fit in self.fits.values()]), int(np.prod(self.shape))

    @property
    def subjects(self) -> list[str]:
        """The subjects it knows."""
        return list(self.fits)

    def predict(self, subject: str, features: Array) -> Array:
        """Return predictions (row, *shape) float32."""
        return self.fits[subject].predict(features).reshape(len(features), *self.shape)

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.save_weights`."""
        tensors: Tensors = {}
        for subject, fit in self.fits.items():
            names = ("centre", "rows", "dual", "offset", "errors")
            tensors |= {f"{subject}.{name}": getattr(fit, name) for name in names}
        penalties = {subject: fit.penalty for subject, fit in self.fits.items()}
        config = {"part": "regressor", "kind": "ridge", "target": self.target, "shape": list(self.shape)}
        return {**config, "penalties": penalties}, tensors

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: Tensors) -> "Ridge":
        """Return the regressor that `state` described."""
        fits = {
            subject: RidgeFit(
                centre=tensors[f"{subject}.centre"],
                rows=tensors[f"{subject}.rows"],
                dual=tensors[f"{subject}.dual"],
                offset=tensors[f"{subject}.offset"],
                penalty=penalty,
                errors=tensors[f"{subject}.errors"],
            )
            for subject, penalty in config["penalties"].items()
        }
        return cls(config["target"], tuple(config["shape"]), fits)
