r"""How well a ridge's held-out predictions would identify their own stimulus: a criterion for its settings.

Squared error and identification prefer different penalties: the error falls as predictions shrink towards the mean,
identification depends on their pattern alone. So where a study is judged by identification, its penalty may be chosen
by it.

With the notation of `models.regressors.penalty`, the held-out predictions are the targets less their left-out
residuals :math:`e_g = A_{gg}^{-1} (A Y_c)_g`, so nothing is fitted again. They are identified less the mean of the
*other* stimuli's targets,

.. math:: \hat Y_g - \bar Y_{-g} = Y_{c,g} - e_g + \frac{1}{n - n_g} \sum_{j \in g} Y_{c,j}

with n rows, :math:`n_g` of them left out with g: those of the stimulus, or of a block of time with its neighbours.
(Less the mean of all, the prediction of a constant model would hold :math:`-y_g / (n - 1)`, which identifies a stimulus
less often than chance.) Correlations over target values follow from inner products, so the targets are first turned
into no more values than there are rows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from models.decoders.rows import LeftOut
from models.regressors.basis import RANK, first_rows
from models.regressors.penalty import Spectrum, left_out_residuals

Array = NDArray[Any]
TIE = 1e-9
"""Correlations closer than this are equal."""
CONSTANT = 1e-12
"""A row whose values vary by less than this share of its square is constant."""
SMALL = 1e-9
"""Weight of the squared error beside identification: it decides between penalties that identify equally often."""


def mean_direction(vectors: Array | None, values: int) -> NDArray[np.float64]:
    """Return the direction d, (value,) or (component,), along which targets have their mean over values.

    A row's mean over its values, times the root of their number, is its inner product with d; Pearson's correlation of
    two rows is that of what they have outside of d.

    Parameters
    ----------
    vectors : (component, value) orthonormal, where rows are coefficients of these; None where they are values
    values : number of target values
    """
    if vectors is None:
        return np.full(values, values**-0.5)
    return np.asarray(vectors.sum(axis=1, dtype=np.float64) * values**-0.5)


def identification_errors(
    spectrum: Spectrum,
    rotated: Array,
    left_out: Sequence[str],
    penalties: Sequence[float],
    *,
    direction: Array,
    stimuli: Sequence[str] | None = None,
    exponent: float = 0.0,
) -> NDArray[np.float64]:
    """Return one minus the two-way identification of left-out stimuli for each penalty, (penalty,).

    Predictions are those of each stimulus from all others, averaged over its rows; they and the targets are less their
    training mean. The score is the mean over pairs of different stimuli (i, j) of whether prediction i correlates more
    with target i than with target j, ties one half (chance .50): the two-way identification of the reports. Where
    penalties identify equally often, the smaller leave-one-stimulus-out squared error decides.

    Parameters
    ----------
    spectrum : of the centred features
    rotated : (row, target) centred targets, rotated by the spectrum
    left_out : one per row
        Rows of the same label are left out together, of a `models.decoders.rows.LeftOut` with those beside it.
    penalties : absolute values of λ, above 0
    direction : (target,), see `mean_direction`
    stimuli : one per row, where it is not the label
    exponent : of variance matching, with the gains that each penalty's own held-out predictions give
    """
    rotated = rotated.astype(np.float64)
    if not exponent:
        rotated, direction = fewer_values(rotated, direction)
    stimuli = left_out if stimuli is None else stimuli
    targets, first = spectrum.vectors @ rotated, first_rows(stimuli)
    spread, others = max(float(np.square(rotated).sum()), 1e-300), _other_means(targets, left_out)
    errors = np.empty(len(penalties))
    for index, penalty in enumerate(penalties):
        residuals = left_out_residuals(spectrum, rotated, left_out, penalty)
        predicted = _mean_by_stimulus(targets - residuals - others, stimuli)
        if exponent:
            predicted *= variance_gains(targets, targets - residuals, exponent)
        missed = 1 - two_way(correlations(predicted, targets[first], direction))
        errors[index] = missed + SMALL * float(np.square(residuals).sum()) / spread
    return errors


def variance_gains(targets: Array, left_out: Array, exponent: float) -> NDArray[np.float64]:
    """Return what variance matching multiplies each predicted component by, (component,).

    Parameters
    ----------
    targets : (row, component)
    left_out : (row, component) leave-one-stimulus-out predictions of the same rows
    exponent : e of (sd of the targets / sd of the predictions)^e; a component whose predictions do not vary has gain 1
    """
    wanted, reached = targets.std(axis=0, dtype=np.float64), left_out.std(axis=0, dtype=np.float64)
    known = (wanted > 0) & (reached > 0)
    return np.where(known, np.where(known, wanted, 1) / np.where(known, reached, 1), 1.0) ** exponent


def fewer_values(rows: Array, direction: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows (n, at most n) with the inner products and means over values of rows (n, value); and their direction.

    These are the coefficients of the rows' own principal directions (see `models.regressors.basis`). Rows that have no
    more values than there are rows are returned as they are.

    Parameters
    ----------
    rows : (n, value), less their mean
    direction : (value,), see `mean_direction`
    """
    exact = rows.astype(np.float64, copy=False)
    if rows.shape[1] <= len(rows):
        return exact, np.asarray(direction)
    values, vectors = scipy.linalg.eigh(exact @ exact.T, driver="evd")
    kept = values > RANK * values[-1]
    values, vectors = np.sqrt(values[kept]), vectors[:, kept]
    return vectors * values, (vectors.T @ (exact @ direction)) / values


def correlations(predicted: Array, targets: Array, direction: Array) -> NDArray[np.float64]:
    """Return Pearson's r over values of every prediction with every target, (prediction, target); 0 for a constant one.

    Parameters
    ----------
    predicted, targets : (n, value) or (n, component)
    direction : see `mean_direction`
    """
    ours, theirs = (np.asarray(rows, np.float64) for rows in (predicted, targets))
    products = ours @ theirs.T - np.outer(ours @ direction, theirs @ direction)
    return np.asarray(products / _lengths(ours, direction)[:, None] / _lengths(theirs, direction))


def _lengths(rows: Array, direction: Array) -> Array:
    """Return the lengths of rows less their mean over values, (n,); infinite for constant ones."""
    whole = np.einsum("nv,nv->n", rows, rows)
    squares = whole - (rows @ direction) ** 2
    return np.sqrt(np.where(squares > CONSTANT * whole, squares, np.inf))


def two_way(similarities: Array) -> float:
    """Return how often row i of (stimulus, stimulus) is largest on the diagonal among two; ties count one half."""
    lead = np.diag(similarities)[:, None] - similarities
    won = np.where(np.abs(lead) <= TIE, 0.5, lead > 0)
    count = len(won)
    return float((won.sum() - 0.5 * count) / (count * (count - 1)))


def _other_means(targets: Array, left_out: Sequence[str]) -> Array:
    """Return for each row of centred targets (row, value) the mean of the rows that are not left out with it."""
    beside = left_out.beside if isinstance(left_out, LeftOut) else {}
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(left_out):
        rows.setdefault(label, []).append(row)
    means = np.empty_like(targets)
    for label, own in rows.items():
        together = [*own, *beside.get(label, ())]
        means[own] = -targets[together].sum(axis=0) / (len(targets) - len(together))
    return means


def _mean_by_stimulus(rows: Array, stimuli: Sequence[str]) -> Array:
    """Return the mean of each stimulus's rows, (stimulus, value), in the order of their first appearance."""
    order, counts, _ = _grouped(stimuli)
    return np.asarray(np.add.reduceat(rows[order], np.cumsum(counts) - counts, axis=0) / counts[:, None])


def _grouped(stimuli: Sequence[str]) -> tuple[Array, Array, list[str]]:
    """Return the order of rows that brings stimuli together, the number of rows of each, and their names."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(stimuli):
        rows.setdefault(name, []).append(row)
    return np.concatenate(list(rows.values())), np.array([len(own) for own in rows.values()]), list(rows)
