"""Ridge on few columns of the same rows, again and again, as the decoding from each region asks for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from models.decoders.rows import LeftOut
from models.regressors.penalty import Spectrum, search_penalties
from models.regressors.ridge import RANK, RidgeFit, fit_ridge
from models.regressors.settings import RidgeConfig

Array = NDArray[Any]


def fit_columns(features: Array, targets: Array, stimuli: Sequence[str], config: RidgeConfig) -> RidgeFit:
    r"""Fit what `fit_ridge` fits, faster for repeated fits on few of the same rows' columns, such as one region's.

    Where one penalty is shared by all target values and every stimulus has one row, the same estimate and the same
    choice of penalty come from the thin decomposition :math:`X_c = U \sqrt{s} V^T`: with :math:`w = s / (s + \lambda)`
    a row's residual, were it left out, is

    .. math:: e_i = \frac{(Y_c - U w U^T Y_c)_i}{1 - 1/n - \sum_k w_k U_{ik}^2}

    (PRESS, Allen 1974), so a penalty costs a (row, rank) by (rank, target) product. Otherwise `fit_ridge` is called.

    Parameters
    ----------
    features : (row, feature)
    targets : (row, target)
        Best turned into few values first: see `models.regressors.basis`.
    stimuli : one per row

    Raises
    ------
    ModelError
        As `fit_ridge` does.
    """
    shared = (
        config.penalty_per == "role"
        and config.criterion == "leave_one_stimulus_out"
        and len(set(stimuli)) == len(stimuli)
        and not isinstance(stimuli, LeftOut)  # whose neighbours are left out too
    )
    finite = np.isfinite(features).all() and np.isfinite(targets).all()
    if not shared or not finite or len(stimuli) < 3 or (features == features[:1]).all():
        return fit_ridge(
            features,
            targets,
            stimuli,
            config.alphas,
            criterion=config.criterion,
            penalty_per=config.penalty_per,
            grow=config.grow,
        )
    centre, offset = features.mean(axis=0, dtype=np.float64), targets.mean(axis=0, dtype=np.float64)
    rows = (features - centre).astype(np.float32)
    aimed = (targets - offset).astype(np.float32)
    values, vectors = _thin(rows)
    turned = vectors.T @ aimed
    unit = values.sum() / len(rows)
    spread = float(np.square(aimed, dtype=np.float64).sum()) or 1.0

    def errors(candidates: Array, _: Array | None) -> Array:
        return np.array([_press_error(values, vectors, aimed, turned, one * unit) for one in candidates]) / spread

    found = search_penalties(errors, config.alphas, grow=config.grow)
    inner = turned / (values + found.chosen * unit).astype(np.float32)[:, None]
    return RidgeFit(
        centre=centre.astype(np.float32),
        rows=None,
        weights=np.asarray(rows.T @ (vectors @ inner)),
        offset=offset.astype(np.float32),
        alphas=found.chosen,
        errors=found.errors,
        candidates=found.candidates,
        ends=found.ends,
    )


def _thin(rows: Array) -> tuple[Array, Array]:
    """Return the eigenvalues of ``rows rowsᵀ`` above 0, (rank,) float64, and their vectors (row, rank) float32."""
    if rows.shape[1] >= len(rows):
        spectrum = Spectrum.of(rows)
        kept = spectrum.values > RANK * spectrum.values[-1]
        return spectrum.values[kept], spectrum.vectors[:, kept].astype(np.float32)
    exact = rows.astype(np.float64)
    values, right = scipy.linalg.eigh(exact.T @ exact, driver="evd")
    kept = values > RANK * values[-1]
    return values[kept], ((exact @ right[:, kept]) / np.sqrt(values[kept])).astype(np.float32)


def _press_error(values: Array, vectors: Array, aimed: Array, turned: Array, penalty: float) -> float:
    """Return the squared error on rows that were left out one by one, summed over rows and target values."""
    shrunk = vectors * (values / (values + penalty)).astype(np.float32)
    own = 1 - 1 / len(aimed) - np.einsum("rk,rk->r", shrunk, vectors, dtype=np.float64)
    squares = np.square(aimed - shrunk @ turned).sum(axis=1, dtype=np.float64)
    return float((squares / own**2).sum())
