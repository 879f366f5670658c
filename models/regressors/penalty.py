r"""What each candidate penalty of a ridge would cost on stimuli that it was not fitted on.

With the centred features' Gram matrix :math:`U s U^T` and the targets rotated once, :math:`R = U^T Y_c`, the hat matrix
H (intercept included) leaves :math:`A = I - H = U \frac{\lambda}{s + \lambda} U^T - \frac{1}{n} 1 1^T`.

``leave_one_stimulus_out``: the error of its rows g, predicted from all others, is
:math:`e_g = A_{gg}^{-1} (A Y_c)_g`, exactly (the block form of the PRESS identity, Cook & Weisberg 1982). Leaving
single trials out would leak over repetitions. Per target it takes one (row, row) by (row, target) product for each
penalty; summed over targets it needs them only through :math:`R R^T`, however many they are.

Generalised cross-validation (``gcv``, Golub, Heath & Wahba 1979) replaces every :math:`A_{gg}` by the mean of A's
diagonal. Then all penalties and targets together are one (penalty, row) by (row, target) product with the squares of R.
It knows of no repetitions, so it is for stimuli that have one row each.

`Centred` holds what a subject's features alone decide, computed once for all that is predicted from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from models.decoders.rows import LeftOut
from models.regressors.basis import blocks

Array = NDArray[Any]
Criterion = Literal["leave_one_stimulus_out", "gcv"]
PenaltyPer = Literal["role", "target"]


@dataclass(frozen=True)
class Spectrum:
    """The eigendecomposition of centred features' Gram matrix.

    Attributes
    ----------
    values : (row,) float64, not below 0
    vectors : (row, row) float64, one eigenvector a column
    """

    values: Array
    vectors: Array

    @classmethod
    def of(cls, rows: Array) -> "Spectrum":
        """Return the spectrum of centred features (row, feature)."""
        gram = (rows @ rows.T).astype(np.float64)
        # The intercept's direction must have the eigenvalue 0: rounding in float32 would let A keep some of it.
        gram -= gram.mean(axis=0)
        gram -= gram.mean(axis=1, keepdims=True)
        values, vectors = scipy.linalg.eigh(gram, driver="evd")
        return cls(values.clip(0), vectors)

    def rotate(self, targets: Array, offset: Array, dtype: Any = np.float32) -> Array:
        """Return ``Uᵀ (targets - offset)`` (row, target), computed in float32 by default."""
        rotated = np.empty(targets.shape, dtype)
        turned = np.ascontiguousarray(self.vectors.T, dtype)
        for part in blocks(targets.shape[1]):
            rotated[:, part] = turned @ (targets[:, part] - offset[part]).astype(dtype)
        return rotated

    def kept(self, penalty: float) -> Array:
        """Return the share ``λ / (s + λ)`` (row,) that a penalty leaves of each eigenvector in the residuals."""
        return np.asarray(penalty / (self.values + penalty))


def penalty_errors(
    spectrum: Spectrum,
    rotated: Array,
    stimuli: Sequence[str],
    penalties: Sequence[float],
    *,
    criterion: Criterion = "leave_one_stimulus_out",
    penalty_per: PenaltyPer = "role",
) -> Array:
    """Return each penalty's squared error on held-out stimuli over that of the targets' mean.

    Parameters
    ----------
    spectrum : of the centred features
    rotated : (row, target)
        Centred targets, rotated by the spectrum.
    stimuli : one per row
        Rows of the same stimulus are left out together; of a `LeftOut`, rows of the same label, with those beside it.
    penalties : absolute values of λ, above 0
    criterion, penalty_per : as in `RidgeConfig`

    Returns
    -------
    errors : (penalty,) over all targets, or (penalty, target)
    """
    if penalty_per == "target":
        spread = np.einsum("rt,rt->t", rotated, rotated)
        if criterion == "gcv":
            errors = np.empty((len(penalties), rotated.shape[1]), rotated.dtype)
            for part in blocks(rotated.shape[1]):
                errors[:, part] = gcv_errors(spectrum, rotated[:, part] ** 2, penalties)
        else:
            errors = left_out_errors_per_target(spectrum, rotated, stimuli, penalties)
    else:
        squares = np.einsum("rt,rt->r", rotated, rotated, dtype=np.float64)
        spread = squares.sum()
        if criterion == "gcv":
            errors = gcv_errors(spectrum, squares[:, None], penalties)[:, 0]
        else:
            errors = left_out_errors(spectrum, rotated @ rotated.T, stimuli, penalties)
    return np.asarray(errors / np.where(spread > 0, spread, 1))


def gcv_errors(spectrum: Spectrum, squares: Array, penalties: Sequence[float]) -> Array:
    """Return the generalised cross-validation error, summed over rows, (penalty, target); see `penalty_errors`.

    `squares` (row, target) are those of the rotated targets.
    """
    kept = np.array([spectrum.kept(penalty) for penalty in penalties])
    mean_diagonal = (kept.sum(axis=1, keepdims=True) - 1) / len(spectrum.values)
    return np.asarray(((kept / mean_diagonal) ** 2).astype(squares.dtype) @ squares)


def left_out_errors(spectrum: Spectrum, outer: Array, stimuli: Sequence[str], penalties: Sequence[float]) -> Array:
    """Return the leave-one-stimulus-out squared error, summed over rows and targets, (penalty,) float64.

    `outer` (row, row) is the Gram matrix ``R Rᵀ`` of the rotated targets; the others are as for `penalty_errors`.
    """
    groups, outer = _rows_by_size(stimuli), outer.astype(np.float64)
    return np.array([_left_out_error(spectrum, outer, groups, penalty) for penalty in penalties])


def left_out_errors_per_target(
    spectrum: Spectrum, rotated: Array, stimuli: Sequence[str], penalties: Sequence[float]
) -> Array:
    """Return the leave-one-stimulus-out squared error, summed over rows, (penalty, target); see `penalty_errors`."""
    errors = np.empty((len(penalties), rotated.shape[1]), rotated.dtype)
    for error, penalty in zip(errors, penalties, strict=True):
        residuals = left_out_residuals(spectrum, rotated, stimuli, penalty)
        np.einsum("rt,rt->t", residuals, residuals, out=error)
    return errors


def left_out_residuals(spectrum: Spectrum, rotated: Array, stimuli: Sequence[str], penalty: float) -> Array:
    """Return what is left of the targets when each row is predicted from all other stimuli's rows, (row, target).

    The residuals have the precision of `rotated`; see `penalty_errors` for the parameters.
    """
    shrunk = spectrum.vectors * spectrum.kept(penalty)
    inverses = [
        (rows[:, :scored], rows, np.linalg.inv(_own_blocks(spectrum, shrunk, rows))[:, :scored].astype(rotated.dtype))
        for rows, scored in _rows_by_size(stimuli)
    ]
    shrunk = shrunk.astype(rotated.dtype)
    residuals = np.empty_like(rotated)
    for part in blocks(rotated.shape[1]):
        fitted = shrunk @ rotated[:, part]
        for scored_rows, rows, inverse in inverses:
            residuals[scored_rows, part] = inverse @ fitted[rows]
    return residuals


def _left_out_error(spectrum: Spectrum, outer: Array, groups: "list[tuple[Array, int]]", penalty: float) -> float:
    shrunk = spectrum.vectors * spectrum.kept(penalty)
    half = shrunk @ outer
    total = 0.0
    for rows, scored in groups:
        squared = _products(half[rows], shrunk[rows])
        inverse = np.linalg.inv(_own_blocks(spectrum, shrunk, rows))[:, :scored]
        if rows.shape[1] < FEW:
            total += float(np.einsum("gij,gjk,gik->", inverse, squared, inverse))
        else:
            total += float(np.einsum("gik,gik->", inverse @ squared, inverse))
    return total


def _own_blocks(spectrum: Spectrum, shrunk: Array, rows: Array) -> Array:
    """Return each stimulus's block of A, (stimulus, row, row)."""
    return np.asarray(_products(shrunk[rows], spectrum.vectors[rows]) - 1 / len(shrunk))


FEW = 16
"""Rows that are left out together, from which on products are left to BLAS, which a block of time needs."""


def _products(left: Array, right: Array) -> Array:
    """Return the products of every group's rows, (group, row, row), of (group, row, k) each."""
    if left.shape[1] < FEW:
        return np.asarray(np.einsum("gik,gjk->gij", left, right))
    return np.asarray(left @ right.transpose(0, 2, 1))


def _rows_by_size(stimuli: Sequence[str]) -> list[tuple[Array, int]]:
    """Return the rows of each stimulus, stacked as (stimulus, row) for stimuli with equally many rows.

    The first so many rows of each are scored, the others only left out with them: see `LeftOut`.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(stimuli):
        rows.setdefault(name, []).append(row)
    beside = stimuli.beside if isinstance(stimuli, LeftOut) else {}
    groups = [(len(own), [*own, *beside.get(name, ())]) for name, own in rows.items()]
    sizes = sorted({(len(together), scored) for scored, together in groups})
    return [
        (np.array([together for count, together in groups if (len(together), count) == (size, scored)]), scored)
        for size, scored in sizes
    ]


PROJECTED = 2**25
"""Values of the features, up to which they are projected onto the eigenvectors in float64."""


@dataclass(frozen=True)
class Centred:
    """Centred features.

    Attributes
    ----------
    centre : (feature,) float64
    rows : (row, feature) float32
    spectrum : of the Gram matrix of `rows`
    """

    centre: Array
    rows: Array
    spectrum: Spectrum

    @classmethod
    def of(cls, features: Array) -> "Centred":
        """Centre features (row, feature)."""
        centre = features.mean(axis=0, dtype=np.float64)
        rows = np.empty_like(features, np.float32)
        np.subtract(features, centre, out=rows, casting="same_kind")  # in float64, of which nothing is kept
        return cls(centre, rows, Spectrum.of(rows))

    def dual(self, rotated: Array, penalties: Array) -> NDArray[np.float32]:
        """Return the weights of rows, (row, target), for rotated targets and absolute λ, (1,) or (target,)."""
        return self._weights(self.spectrum.vectors, rotated, penalties)

    def primal(self, rotated: Array, penalties: Array) -> NDArray[np.float32]:
        """Return the weights of features, (feature, target); see `dual`."""
        if self.rows.size <= PROJECTED:
            return self._weights(self.rows.T @ self.spectrum.vectors, rotated, penalties)
        return np.asarray(self.rows.T @ self.dual(rotated, penalties))  # no (feature, row) in float64

    def _weights(self, vectors: Array, rotated: Array, penalties: Array) -> NDArray[np.float32]:
        """Return ``vectors diag(1 / (s + λ)) rotated`` (…, target), λ of each target its own or one for all."""
        left, values = vectors.astype(np.float32), self.spectrum.values.astype(np.float32)[:, None]
        weights = np.empty((len(left), rotated.shape[1]), np.float32)
        each = np.broadcast_to(penalties.astype(np.float32), rotated.shape[1:])
        for part in blocks(rotated.shape[1]):
            weights[:, part] = left @ (rotated[:, part] / (values + each[part]))
        return weights
