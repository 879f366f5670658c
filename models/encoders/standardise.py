"""The simplest encoder: each voxel standardised with the mean and standard deviation of the training trials.

Voxels that are constant or not finite in training carry nothing and are left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.config import nearest
from core.errors import ModelError
from models.encoders.config import StandardiseConfig
from models.weights import Tensors, common

Array = NDArray[Any]


@dataclass(frozen=True)
class Standardise:
    """Standardisation per subject.

    Attributes
    ----------
    mean, scale : per subject, (voxel,) float32, over the training trials
    kept : per subject, (voxel,) bool, the voxels that vary and are finite in training
    """

    mean: dict[str, Array]
    scale: dict[str, Array]
    kept: dict[str, Array]

    @property
    def subjects(self) -> list[str]:
        """The subjects that the encoder knows."""
        return list(self.mean)

    @property
    def widths(self) -> tuple[int, int]:
        """Voxels that go in and features that come out; -1 where subjects differ."""
        return common([len(kept) for kept in self.kept.values()]), common([int(k.sum()) for k in self.kept.values()])

    @classmethod
    def fit(cls, config: StandardiseConfig, responses: dict[str, Array]) -> "Standardise":
        """Fit on training trials.

        Parameters
        ----------
        config : StandardiseConfig
            Which voxels are read is the caller's to heed; there is nothing else to set.
        responses : per subject, (trial, voxel) or (trial, time, voxel)
            A window's time points are averaged.
        """
        del config
        mean, scale, kept = {}, {}, {}
        for subject, values in responses.items():
            flat = _flatten(values).astype(np.float64)
            sd = flat.std(axis=0)
            keep = np.isfinite(sd) & (sd > 1e-8)
            if not keep.any():
                raise ModelError(f"{subject}: no voxel of {len(keep)} varies in training; check the source's responses")
            mean[subject] = np.where(keep, flat.mean(axis=0), 0).astype(np.float32)
            scale[subject] = np.where(keep, sd, 1).astype(np.float32)
            kept[subject] = keep
        return cls(mean, scale, kept)

    def encode(self, subject: str, responses: Array) -> Array:
        """Return features, (trial, kept voxel) float32.

        Raises
        ------
        ModelError
            An unknown subject, another number of voxels than in training, or a value that is not finite.
        """
        if subject not in self.mean:
            raise ModelError(f"the encoder does not know the subject '{subject}'{nearest(subject, self.subjects)}")
        flat = _flatten(responses)
        expected = len(self.mean[subject])
        if flat.shape[1] != expected:
            raise ModelError(
                f"{subject}: the responses have {flat.shape[1]} voxels and the encoder was trained on {expected}; "
                "give the same voxels in the same order"
            )
        keep = self.kept[subject]
        features = ((flat - self.mean[subject]) / self.scale[subject])[:, keep].astype(np.float32)
        if not np.isfinite(features).all():
            bad = int((~np.isfinite(features).all(axis=0)).sum())
            raise ModelError(f"{subject}: {bad} voxels hold NaN that had none in training; remove or fill them")
        return features

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.save_weights`."""
        tensors: Tensors = {}
        for subject in self.subjects:
            tensors |= {
                f"{subject}.mean": self.mean[subject],
                f"{subject}.scale": self.scale[subject],
                f"{subject}.kept": self.kept[subject].astype(np.uint8),
            }
        return {"part": "encoder", "kind": "standardise", "subjects": self.subjects}, tensors

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: Tensors) -> "Standardise":
        """Return the encoder that `state` described."""
        of = {name: {s: tensors[f"{s}.{name}"] for s in config["subjects"]} for name in ("mean", "scale", "kept")}
        return cls(of["mean"], of["scale"], {s: kept.astype(bool) for s, kept in of["kept"].items()})


def _flatten(responses: Array) -> Array:
    return responses if responses.ndim == 2 else responses.mean(axis=1)
