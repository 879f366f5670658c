"""Principal components of targets: regressing onto a few of them keeps fits, and the files they go into, small.

A stimulus's target is the same at each repetition and for every subject, so the components are those of the stimuli,
each counted once. They come from the eigenvectors of the (stimulus, stimulus) Gram matrix (Sirovich 1987, the "method
of snapshots"), never from a covariance over target values, of which there may be tens of thousands.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from core.errors import ModelError
from models.decoders.rows import RegressorRows
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
    def fit_rows(cls, data: dict[str, RegressorRows], components: int | float) -> "Basis":
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
