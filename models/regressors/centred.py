"""A subject's features less their mean, and the weights of a ridge on them in either of its forms.

What the features alone decide is worked out once for all that is predicted from them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.regressors.basis import blocks
from models.regressors.penalty import Spectrum

Array = NDArray[Any]
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
        """Return the weights of rows, (row, target).

        Parameters
        ----------
        rotated : (row, target)
            Centred targets, rotated by the spectrum.
        penalties : (1,) or (target,) absolute values of λ
        """
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
