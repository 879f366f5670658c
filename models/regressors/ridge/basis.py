r"""Principal components of targets: regressing onto a few of them keeps fits, and the files they go into, small.

A stimulus's target is the same at each repetition and for every subject, so the components are those of the stimuli,
each counted once. They come from the eigenvectors of the (stimulus, stimulus) Gram matrix (Sirovich 1987, the "method
of snapshots"), never from a covariance over target values, of which there may be tens of thousands.

Ridge on some of the features, for fits that are repeated with other columns of the same rows.

The same estimate and the same choice of penalty as `models.regressors.ridge.ridge` where one penalty is shared by all
target values and every stimulus has one row, from the thin decomposition :math:`X_c = U \sqrt{s} V^T`: with
:math:`w = s / (s + \lambda)` a row's residual, were it left out, is

.. math:: e_i = \frac{(Y_c - U w U^T Y_c)_i}{1 - 1/n - \sum_k w_k U_{ik}^2}

(PRESS, Allen 1974), so a penalty costs a (row, rank) by (rank, target) product: little for regions of few voxels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from core.errors import ModelError
from models.decoders.rows import TrainingRows
from models.regressors.ridge.penalty import Spectrum
from models.regressors.ridge.ridge import RidgeFit, fit_ridge
from models.regressors.settings import RidgeConfig
from models.weights.tensor_file import Stored, Tensors

Array = NDArray[Any]

BLOCK = 4096
RANK = 1e-10  # components with less than this share of the first one's variance are rounding


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Return slices that cover `count` columns, so that temporary arrays stay small."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def first_rows(stimuli: Sequence[str]) -> list[int]:
    """Return the first row of each stimulus, in order of appearance."""
    first: dict[str, int] = {}
    for row, name in enumerate(stimuli):
        first.setdefault(name, row)
    return list(first.values())


@dataclass(frozen=True)
class Basis:
    """The principal components of a set of targets.

    Attributes
    ----------
    mean : (value,) float32, mean of the targets
    vectors : (component, value) float32, orthonormal, by falling variance
    explained : (component,) float32, share of the targets' variance in each
    """

    mean: Array
    vectors: Array
    explained: Array

    @classmethod
    def fit(cls, targets: Array, components: int | float) -> "Basis":
        """Return the leading components of targets (row, value), one row per stimulus.

        Parameters
        ----------
        targets : (row, value)
        components : int, or float up to 1
            How many, or the share of variance that they must reach together. No more are returned than the targets
            have: at most one fewer than the rows.

        Raises
        ------
        ModelError
            Targets that are not finite, or that do not vary.
        """
        mean = targets.mean(axis=0, dtype=np.float64)
        gram = np.zeros((len(targets), len(targets)))
        for part in blocks(len(mean)):
            centred = targets[:, part] - mean[part]
            gram += centred @ centred.T
        if not np.isfinite(gram).all():
            raise ModelError("components: the targets hold NaN or infinity; extract them again")
        if (targets == targets[:1]).all():
            raise ModelError(
                f"components: the targets of all {len(targets)} training stimuli are the same; expected at least 2 "
                "that differ; add stimuli, or leave components out"
            )
        values, rotation = scipy.linalg.eigh(gram, driver="evd")
        values, rotation = values[::-1], rotation[:, ::-1]
        kept = _count(values, components)
        rotation = rotation[:, :kept] * _signs(rotation[:, :kept]) / np.sqrt(values[:kept])
        vectors = np.empty((kept, len(mean)), np.float32)
        for part in blocks(len(mean)):
            vectors[:, part] = rotation.T @ (targets[:, part] - mean[part])
        explained = values[:kept] / values.clip(0).sum()
        return cls(mean.astype(np.float32), vectors, explained.astype(np.float32))

    @classmethod
    def fit_rows(cls, data: dict[str, TrainingRows], components: int | float) -> "Basis":
        """Return the components of all subjects' training targets, each stimulus counted once.

        Parameters
        ----------
        data : training rows per subject
        components : as in `fit`
        """
        seen: set[str] = set()
        parts = []
        for rows in data.values():
            new = [row for row in first_rows(rows.stimuli) if rows.stimuli[row] not in seen]
            seen.update(rows.stimuli)
            if new:
                parts.append(rows.targets[new].reshape(len(new), -1).astype(np.float32))
        return cls.fit(parts[0] if len(parts) == 1 else np.concatenate(parts), components)

    @property
    def explained_variance(self) -> float:
        """The share of the targets' variance that the components hold together."""
        return float(self.explained.sum(dtype=np.float64))

    def project(self, targets: Array) -> NDArray[np.float32]:
        """Return coefficients (row, component) float32 of targets (row, value)."""
        coefficients = np.zeros((len(targets), len(self.vectors)), np.float32)
        for part in blocks(len(self.mean)):
            coefficients += (targets[:, part] - self.mean[part]).astype(np.float32) @ self.vectors[:, part].T
        return coefficients

    def expand(self, coefficients: Array) -> NDArray[np.float32]:
        """Return targets (row, value) float32 of coefficients (row, component)."""
        targets: NDArray[np.float32] = np.asarray(coefficients, dtype=np.float32) @ self.vectors
        targets += self.mean
        return targets

    def state(self, prefix: str = "basis") -> Tensors:
        """Return tensors for `models.weights.tensor_file.save_weights`, their names led by a prefix."""
        return {f"{prefix}.{name}": getattr(self, name) for name in ("mean", "vectors", "explained")}

    @classmethod
    def from_state(cls, tensors: Stored, prefix: str = "basis") -> "Basis":
        """Return the basis whose `state` had this prefix."""
        return cls(*(tensors[f"{prefix}.{name}"] for name in ("mean", "vectors", "explained")))


def _count(values: Array, components: int | float) -> int:
    rank = int((values > RANK * values[0]).sum())
    if isinstance(components, int):
        return min(components, rank)
    shares = np.cumsum(values[:rank]) / values.clip(0).sum()
    return min(int(np.searchsorted(shares, components)) + 1, rank)


def _signs(rotation: Array) -> Array:
    """Return signs (component,) that make each one's largest coefficient positive: eigenvectors leave them open."""
    largest = np.abs(rotation).argmax(axis=0)
    return np.asarray(np.sign(rotation[largest, np.arange(rotation.shape[1])]))


"""Eigenvalues below this share of the largest are rounding."""


def fit_columns(features: Array, targets: Array, stimuli: Sequence[str], config: RidgeConfig) -> RidgeFit:
    """Fit what `fit_ridge` fits, faster where its settings and rows allow.

    Parameters
    ----------
    features : (row, feature)
    targets : (row, target)
        Best turned into few values first: see `models.regressors.ridge.basis`.
    stimuli : one per row
    config : RidgeConfig

    Raises
    ------
    ModelError
        As `fit_ridge` does.
    """
    shared = config.penalty_per == "role" and config.criterion == "loso" and len(set(stimuli)) == len(stimuli)
    finite = np.isfinite(features).all() and np.isfinite(targets).all()
    if not shared or not finite or len(stimuli) < 3 or (features == features[:1]).all():
        return fit_ridge(
            features, targets, stimuli, config.penalties, criterion=config.criterion, penalty_per=config.penalty_per
        )
    centre, offset = features.mean(axis=0, dtype=np.float64), targets.mean(axis=0, dtype=np.float64)
    rows = (features - centre).astype(np.float32)
    aimed = (targets - offset).astype(np.float32)
    values, vectors = _thin(rows)
    turned = vectors.T @ aimed
    candidates = np.asarray(config.penalties, dtype=np.float64)
    unit = values.sum() / len(rows)
    spread = float(np.square(aimed, dtype=np.float64).sum())
    errors = np.array([_left_out_error(values, vectors, aimed, turned, one * unit) for one in candidates])
    errors /= spread if spread > 0 else 1
    chosen = candidates[[errors.argmin()]]
    inner = turned / (values + chosen * unit).astype(np.float32)[:, None]
    return RidgeFit(
        centre=centre.astype(np.float32),
        rows=None,
        weights=np.asarray(rows.T @ (vectors @ inner)),
        offset=offset.astype(np.float32),
        penalties=chosen,
        errors=errors,
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


def _left_out_error(values: Array, vectors: Array, aimed: Array, turned: Array, penalty: float) -> float:
    """Return the squared error on rows that were left out one by one, summed over rows and target values."""
    shrunk = vectors * (values / (values + penalty)).astype(np.float32)
    own = 1 - 1 / len(aimed) - np.einsum("rk,rk->r", shrunk, vectors, dtype=np.float64)
    squares = np.square(aimed - shrunk @ turned).sum(axis=1, dtype=np.float64)
    return float((squares / own**2).sum())
