"""Principal components of all rows, labelled or not: the linear use of recordings without a stimulus."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from models.encoders.config import PcaConfig, StandardiseConfig
from models.encoders.rows import BrainRows
from models.encoders.standardise import Standardise
from models.training.context import Context
from models.weights import Tensors, common, prefixed

Array = NDArray[Any]


@dataclass(frozen=True)
class Pca:
    """Standardised voxels projected onto the leading components of everything recorded from a subject.

    Attributes
    ----------
    standardise : Standardise
        Fitted on the training trials alone.
    vectors : per subject, (kept voxel, component) float32, orthonormal
    explained : per subject, (component,) float32, share of the rows' variance in each
    """

    standardise: Standardise
    vectors: dict[str, Array]
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
        vectors, explained = {}, {}
        for subject, one in rows.items():
            parts = [standardise.encode(subject, part) for part in (one.responses, one.unlabelled) if part is not None]
            vectors[subject], explained[subject] = _components(np.concatenate(parts), config.components)
        return cls(standardise, vectors, explained)

    def encode(self, subject: str, responses: Array) -> NDArray[np.float32]:
        """Return features (trial, component) float32; raises as `Standardise.encode` does."""
        features: NDArray[np.float32] = self.standardise.encode(subject, responses) @ self.vectors[subject]
        return features

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.save_weights`."""
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
    def from_state(cls, config: dict[str, Any], tensors: Tensors) -> "Pca":
        """Return the encoder that `state` described."""
        standardise = Standardise.from_state(config["standardise"], prefixed(tensors, "standardise"))
        of = {name: {s: tensors[f"{s}.{name}"] for s in config["subjects"]} for name in ("vectors", "explained")}
        return cls(standardise, of["vectors"], of["explained"])


def _components(rows: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return vectors (voxel, component) and shares of variance, from the smaller of the two Gram matrices."""
    centred = rows - rows.mean(axis=0)
    wide = centred.shape[1] > centred.shape[0]
    gram = (centred @ centred.T if wide else centred.T @ centred).astype(np.float64)
    kept = min(count, centred.shape[0] - 1, centred.shape[1])
    values, found = scipy.linalg.eigh(gram, subset_by_index=(len(gram) - kept, len(gram) - 1))
    values, found = values[::-1].clip(1e-12), found[:, ::-1]
    vectors = centred.T @ (found / np.sqrt(values)).astype(np.float32) if wide else found
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)])
    return (vectors * signs).astype(np.float32), (values / np.trace(gram)).astype(np.float32)
