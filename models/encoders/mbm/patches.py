"""Voxels in ROI order, cut into patches: what a token of a brain is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.errors import ModelError


@dataclass(frozen=True)
class Patches:
    """How one subject's voxels become patches.

    Attributes
    ----------
    voxels : int
    size : int
        Voxels a patch.
    shares : (patch, roi) float32
        Which part of each patch's voxels lies in each ROI; a patch across a border lies in both.
    """

    voxels: int
    size: int
    shares: NDArray[np.float32]

    @classmethod
    def of(cls, rois: list[str], voxels: int, size: int, names: list[str]) -> "Patches":
        """Cut voxels, in their order, into patches.

        Parameters
        ----------
        rois : one per voxel, or none
        names : the ROIs of all subjects
        """
        patches = -(-voxels // size)
        shares = np.zeros((patches, max(1, len(names))), np.float32)
        if not rois:
            shares[:] = 1 / shares.shape[1]
            return cls(voxels, size, shares)
        position = {name: column for column, name in enumerate(names)}
        np.add.at(shares, (np.arange(voxels) // size, np.array([position[roi] for roi in rois])), 1)
        return cls(voxels, size, shares / shares.sum(axis=1, keepdims=True))

    @property
    def padding(self) -> int:
        """Zeros that the last patch is filled up with: none where the voxels divide evenly."""
        return -self.voxels % self.size

    @property
    def count(self) -> int:
        """Number of patches."""
        return len(self.shares)

    @property
    def main_roi(self) -> NDArray[np.int64]:
        """The ROI that most of each patch's voxels lie in, (patch,)."""
        return np.asarray(self.shares.argmax(axis=1))

    def cut(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (…, patch, size) for rows (…, voxel)."""
        padded = torch.nn.functional.pad(rows, (0, self.padding))
        return padded.reshape(*rows.shape[:-1], self.count, self.size)

    def join(self, patches: torch.Tensor) -> torch.Tensor:
        """Return (…, voxel) for patches (…, patch, size)."""
        return patches.flatten(-2)[..., : self.voxels]

    def filled(self) -> NDArray[np.float32]:
        """Return which entries of the patches are voxels, (patch, size): 1, and 0 for the padding."""
        flat = np.arange(self.count * self.size) < self.voxels
        return flat.reshape(self.count, self.size).astype(np.float32)


def kept_of(patches: Patches, masked: float) -> int:
    """Return how many patches stay visible: at least one, and never all.

    Raises
    ------
    ModelError
        There is one patch, which cannot be both.
    """
    if patches.count < 2:
        raise ModelError(
            f"mbm: {patches.voxels} voxels are one patch of {patches.size}, and nothing can be told of it from others; "
            "make the encoder's patch smaller"
        )
    return min(max(1, round((1 - masked) * patches.count)), patches.count - 1)


def draw_visible(
    patches: Patches, rows: int, masked: float, rng: np.random.Generator, whole_rois: float = 0.0
) -> NDArray[np.int64]:
    """Draw, afresh for every row, which patches stay visible, (row, kept).

    Parameters
    ----------
    masked : float
        Part of the patches that is masked.
    whole_rois : float
        Part of the rows in which regions are kept or masked as wholes: all but one, which the number of visible patches
        may divide.
    """
    kept = kept_of(patches, masked)
    noise = rng.random((rows, patches.count))
    if whole_rois:
        rank = rng.random((rows, patches.shares.shape[1])).argsort(axis=1)
        noise += np.where(rng.random((rows, 1)) < whole_rois, rank[:, patches.main_roi], 0)
    return np.argpartition(noise, kept - 1, axis=1)[:, :kept].astype(np.int64)


def positions(count: int, width: int) -> torch.Tensor:
    """Return fixed sine and cosine codes, (count, width), after Vaswani et al. 2017 as ViTMAE lays them out."""
    rates = 1.0 / 10000 ** (np.arange(width // 2) / (width / 2))
    angles = np.arange(count)[:, None] * rates[None]
    return torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32))


def rois_of(rows: dict[str, Any]) -> list[str]:
    """Return the ROIs of all subjects, in alphabetical order."""
    return sorted({roi for one in rows.values() for roi in one.rois})
