"""Principal components of all rows, labelled or not: the linear use of recordings without a stimulus."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from models.decoders.rows import BrainRows, Rows, columns_of, row_blocks, voxel_blocks
from models.encoders.settings import PcaConfig, StandardiseConfig
from models.encoders.standardise import Standardise
from models.training.stage import Context
from models.weights.spill import LazyMapping, SpillingTensorStore
from models.weights.tensor_file import Stored, Tensors, common, prefixed

Array = NDArray[Any]
WHOLE_BYTES = 256 * 2**20
"""Rows of a subject up to this size are worked on as a whole."""


@dataclass(frozen=True)
class Pca:
    """Standardised voxels projected onto the leading components of everything recorded from a subject.

    Attributes
    ----------
    standardise : Standardise
        Fitted on the training trials alone.
    vectors : per subject, (kept voxel, component) float32, orthonormal; mapped when asked for where they lie on disk
    explained : per subject, (component,) float32, share of the rows' variance in each
    """

    standardise: Standardise
    vectors: Mapping[str, Array]
    explained: dict[str, Array]

    @property
    def subjects(self) -> list[str]:
        """The subjects that the encoder knows."""
        return list(self.vectors)

    @property
    def widths(self) -> tuple[int, int]:
        """Voxels that go in and features that come out; -1 where subjects differ."""
        return self.standardise.widths[0], common([vectors.shape[1] for vectors in self.vectors.values()])

    @classmethod
    def fit(cls, config: PcaConfig, rows: dict[str, BrainRows], context: Context | None = None) -> "Pca":
        """Fit on the training trials and, where there are some, the unlabelled rows."""
        standardise = Standardise.fit(StandardiseConfig(reliability=config.reliability), rows, context)
        shelf, explained = SpillingTensorStore(None if context is None else context.scratch), {}
        for subject, one in rows.items():
            vectors, explained[subject] = _components(
                _StandardisedVoxels.of(standardise, subject, one), config.components
            )
            shelf.put({f"{subject}.vectors": vectors})
        return cls(standardise, _vectors(shelf, list(rows)), explained)

    def encode(self, subject: str, responses: Array) -> NDArray[np.float32]:
        """Return features (trial, component) float32; raises as `Standardise.encode` does."""
        features: NDArray[np.float32] = self.standardise.encode(subject, responses) @ self.vectors[subject]
        return features

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.tensor_file.save_weights`."""
        inner, tensors = self.standardise.state()
        tensors = {f"standardise.{name}": value for name, value in tensors.items()}
        for subject in self.subjects:
            tensors |= {
                f"{subject}.vectors": self.vectors[subject],
                f"{subject}.explained": self.explained[subject],
            }
        total = {subject: float(values.sum(dtype=np.float64)) for subject, values in self.explained.items()}
        described = {"subjects": self.subjects, "standardise": inner, "explained_variance": total}
        return {"part": "encoder", "kind": "pca", **described}, tensors

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: Stored) -> "Pca":
        """Return the encoder that `state` described."""
        standardise = Standardise.from_state(config["standardise"], prefixed(tensors, "standardise"))
        explained = {subject: tensors[f"{subject}.explained"] for subject in config["subjects"]}
        return cls(standardise, _vectors(tensors, config["subjects"]), explained)


def _vectors(tensors: Stored, subjects: list[str]) -> LazyMapping[Array]:
    return LazyMapping(subjects, lambda subject: tensors[f"{subject}.vectors"])


@dataclass(frozen=True)
class _StandardisedVoxels:
    """A subject's standardised rows, labelled and not, less their mean: all voxels at once, or some after others.

    Attributes
    ----------
    shape : (rows, kept voxels)
    blocks : returns blocks of the voxels, (row, voxel) each
    """

    shape: tuple[int, int]
    blocks: Callable[[], Iterator[Array]]

    @classmethod
    def of(cls, standardise: Standardise, subject: str, one: BrainRows) -> "_StandardisedVoxels":
        parts = [part for part in (one.responses, one.unlabelled) if part is not None]
        shape = sum(map(len, parts)), int(standardise.kept[subject].sum())
        if shape[0] >= shape[1] or 4 * math.prod(shape) <= WHOLE_BYTES:
            whole = _whole(standardise, subject, parts, shape)
            return cls(shape, lambda: iter([whole]))
        return cls(shape, lambda: _by_voxels(standardise, subject, parts))


def _whole(standardise: Standardise, subject: str, parts: list[Rows], shape: tuple[int, int]) -> Array:
    rows, end = np.empty(0, np.float32), 0
    for part in parts:
        for block in row_blocks(part):
            features = standardise.encode(subject, part[block])
            rows = rows if end else np.empty_like(features, shape=shape)  # in the encoder's order of values
            rows[end : end + len(features)] = features
            end += len(features)
    rows -= rows.mean(axis=0)
    return rows


def _by_voxels(standardise: Standardise, subject: str, parts: list[Rows]) -> Iterator[Array]:
    for voxels in voxel_blocks(*parts):
        rows = np.concatenate([standardise.encode_part(subject, columns_of(part, voxels), voxels) for part in parts])
        yield rows - rows.mean(axis=0)


def _components(rows: _StandardisedVoxels, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return vectors (voxel, component) and shares of variance, from the smaller of the two Gram matrices."""
    wide = rows.shape[1] > rows.shape[0]
    gram = np.zeros(())
    for block in rows.blocks():
        gram = gram + (block @ block.T if wide else block.T @ block).astype(np.float64)
    kept = min(count, rows.shape[0] - 1, rows.shape[1])
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(len(gram) - kept, len(gram) - 1))
    values, vectors = values[::-1].clip(1e-12), vectors[:, ::-1]
    if wide:
        vectors = np.concatenate([block.T @ (vectors / np.sqrt(values)).astype(np.float32) for block in rows.blocks()])
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)])
    return (vectors * signs).astype(np.float32), (values / np.trace(gram)).astype(np.float32)
