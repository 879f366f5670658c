"""Where simulated voxels lie: a small MNI volume of two hemispheres, with regions as clusters of cells.

Cells on the volume's faces may be missing from a subject; the regions lie among the inner cells, which all subjects
share, so that they lie in the group's mask as the published ones do.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for
from feature_store.sources.bold_moments.layout import GENERAL, ROIS
from simulation.config import SimulationConfig

VOXEL_MM = 3.0
MISSING = 0.1
"""Part of the cells on the faces that a subject's mask lacks."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Volume:
    """The volume that all subjects of a simulation share.

    Attributes
    ----------
    depth : int
        Cells across one hemisphere in each direction.
    """

    depth: int

    @classmethod
    def of(cls, config: SimulationConfig) -> "Volume":
        """Return the smallest volume whose inner cells hold a hemisphere's regions and some voxels more."""
        needed = 0.55 * config.voxels + len(ROIS) + config.voxels / 8
        depth = 3
        while (depth - 1) * (depth - 2) ** 2 < needed:
            depth += 1
        return cls(depth)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells along x (left to right), y and z."""
        return 2 * self.depth, self.depth, self.depth

    @property
    def affine(self) -> NDArray[np.float64]:
        """From cells to mm, (4, 4); the hemispheres meet at x = 0."""
        affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1])
        affine[:3, 3] = [-VOXEL_MM * (size - 1) / 2 for size in self.shape]
        return affine

    @cached_property
    def inner(self) -> NDArray[np.bool_]:
        """Cells that do not lie on a face."""
        inner = np.zeros(self.shape, dtype=bool)
        inner[1:-1, 1:-1, 1:-1] = True
        return inner

    def mask(self, config: SimulationConfig, number: int) -> NDArray[np.bool_]:
        """Return the cells that one subject has."""
        lost = rng_for(config.seed, "mask", number).random(self.shape) < MISSING
        return np.asarray(self.inner | ~lost)

    def group_mask(self, config: SimulationConfig) -> NDArray[np.bool_]:
        """Return the cells that all subjects have."""
        masks = [self.mask(config, number) for number in range(1, config.subjects + 1)]
        return np.asarray(np.logical_and.reduce(masks))


@dataclass(frozen=True)
class Anatomy:
    """One subject's voxels in the volume.

    Attributes
    ----------
    mask : the subject's cells; its voxels are these in C order
    regions : per region, the positions of its voxels among the subject's, ascending
    """

    volume: Volume
    mask: NDArray[np.bool_]
    regions: dict[str, Indices]

    @cached_property
    def flat(self) -> Indices:
        """Each voxel's index in the flattened volume."""
        return np.flatnonzero(self.mask)

    @property
    def ijk(self) -> Indices:
        """Each voxel's cell, (voxel, 3)."""
        return np.stack(np.unravel_index(self.flat, self.mask.shape), axis=1)

    def hemisphere(self, side: str) -> Indices:
        """Return the positions of the voxels of one side, ``"l"`` or ``"r"``."""
        left = self.ijk[:, 0] < self.volume.depth
        return np.flatnonzero(left if side == "l" else ~left)

    @property
    def unassigned(self) -> Indices:
        """Positions of the voxels in no region (`GENERAL` is none here)."""
        assigned = np.concatenate([self.regions[roi] for roi in ROIS])
        return np.setdiff1d(np.arange(len(self.flat)), assigned)


def place_regions(config: SimulationConfig, number: int, sizes: dict[str, int]) -> Anatomy:
    """Place one subject's regions: each takes the free inner cells of its side that are nearest to a random centre.

    Parameters
    ----------
    config : SimulationConfig
    number : int
        The subject's number, from 1.
    sizes : voxels per region, in the order of `ROIS`
    """
    volume = Volume.of(config)
    rng = rng_for(config.seed, "anatomy", number)
    free, flat = volume.inner.copy(), dict[str, Indices]()
    for roi, size in sizes.items():
        cells = np.argwhere(free)
        cells = cells[(cells[:, 0] < volume.depth) == (roi[0] == "l")]
        distance = ((cells - cells[rng.integers(len(cells))]) ** 2).sum(axis=1)
        taken = cells[np.argsort(distance, kind="stable")[:size]]
        free[tuple(taken.T)] = False
        flat[roi] = np.sort(np.ravel_multi_index(tuple(taken.T), volume.shape))
    mask = volume.mask(config, number)
    spare = rng.choice(np.flatnonzero(free & volume.inner), size=max(1, config.voxels // 20), replace=False)
    chosen = np.concatenate([cells[rng.random(len(cells)) < 0.5] for cells in flat.values()])
    flat[GENERAL] = np.sort(np.concatenate([chosen, spare]))
    at = np.flatnonzero(mask)
    return Anatomy(volume, mask, {roi: np.searchsorted(at, cells) for roi, cells in flat.items()})
