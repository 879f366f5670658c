"""What an encoder is fitted on: one subject's training trials, and what else its brain was recorded doing.

What a regressor is fitted on: one subject's features with the targets of the stimuli they belong to.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK_BYTES = 64 * 2**20
"""How much of a subject's rows is worked on at a time, in float64."""


class Rows(Protocol):
    """An array, or a view of one on disk: indexed along its first axis, and read by that."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(row, voxel) or (row, time, voxel)."""
        ...

    @property
    def ndim(self) -> int:
        """Number of axes."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Array:
        """Return rows, by a slice, positions or a mask."""
        ...


@dataclass(frozen=True)
class BrainRows:
    """Training responses of one subject.

    Attributes
    ----------
    responses : (trial, voxel) or (trial, time, voxel); both it and `unlabelled` may be views of files
    stimuli : the stimulus of each trial
    rois : the ROI of each voxel, or none where the dataset has no regions
    unlabelled : (row, voxel) or (row, time, voxel), recordings without a stimulus; None where there are none
    align : by target, (trial, width): what the contrastive stage aligns each trial with
    """

    responses: Rows
    stimuli: list[str]
    rois: list[str] = field(default_factory=list)
    unlabelled: Rows | None = None
    align: dict[str, Array] = field(default_factory=dict)


def in_memory(one: BrainRows) -> BrainRows:
    """Return the same with all rows in memory."""
    return replace(one, responses=one.responses[:], unlabelled=None if one.unlabelled is None else one.unlabelled[:])


def array_of(rows: Rows) -> Array:
    """Return all rows, which are read where they are a view."""
    return rows if isinstance(rows, np.ndarray) else rows[:]


def row_blocks(rows: Rows, most: int | None = None) -> Iterator[slice]:
    """Return slices that cover rows, of which a block takes about `BLOCK_BYTES` in float64, and one at least.

    Parameters
    ----------
    rows : Rows
    most : int, optional
        Rows that a block has at most, however small they are.
    """
    step = max(1, BLOCK_BYTES // (8 * max(1, prod(rows.shape[1:]))))
    step = step if most is None else min(step, most)
    return (slice(start, min(start + step, len(rows))) for start in range(0, len(rows), step))


def voxel_blocks(*rows: Rows) -> Iterator[slice]:
    """Return slices that cover the voxels, of which a block takes about `BLOCK_BYTES` in float64, and two at least.

    Parameters
    ----------
    *rows : Rows
        All with the same voxels.
    """
    step = max(2, BLOCK_BYTES // (8 * sum(prod(one.shape[:-1]) for one in rows)))
    voxels = rows[0].shape[-1]
    return (slice(start, min(start + step, voxels)) for start in range(0, voxels, step))


def columns_of(rows: Rows, columns: slice) -> Array:
    """Return some voxels of all rows; nothing else of a view is read."""
    if isinstance(rows, np.ndarray):
        return np.asarray(rows[..., columns])
    return np.asarray(rows.narrow(columns)[:])  # type: ignore[attr-defined]


def split_stimuli(stimuli: list[str], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which rows are held out: those of a share of the stimuli, at least one, never a trial without its others.

    Returns
    -------
    (row,) bool
    """
    names = sorted(set(stimuli))
    held = {names[index] for index in rng.permutation(len(names))[: max(1, round(share * len(names)))]}
    return np.array([name in held for name in stimuli])


@dataclass(frozen=True)
class TrainingRows:
    """Rows of one subject.

    Attributes
    ----------
    features : (row, feature)
    targets : (row, …)
    stimuli : the stimulus of each row
    """

    features: Array
    targets: Array
    stimuli: list[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row's targets."""
        return self.targets.shape[1:]

    @property
    def flat_targets(self) -> NDArray[np.float32]:
        """Targets as (row, value) float32."""
        targets = self.targets
        return targets.reshape(len(targets), -1).astype(np.float32)


class LazyRows(TrainingRows):
    """Rows that are made whenever they are asked for and not kept: of many subjects only the one at hand is in memory.

    Parameters
    ----------
    features, targets : return what `TrainingRows` holds
    stimuli : the stimulus of each row
    shape : of one row's targets
    """

    def __init__(
        self,
        features: Callable[[], Array],
        targets: Callable[[], Array],
        stimuli: list[str],
        shape: tuple[int, ...],
    ) -> None:
        given = {"_features": features, "_targets": targets, "stimuli": stimuli, "_shape": shape}
        for name, value in given.items():
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row's targets, which need not be made for it."""
        shape: tuple[int, ...] = self.__dict__["_shape"]
        return shape

    @property
    def features(self) -> Array:
        """Features, (row, feature)."""
        made: Array = self.__dict__["_features"]()
        return made

    @property
    def targets(self) -> Array:
        """Targets, (row, …)."""
        made: Array = self.__dict__["_targets"]()
        return made


Roles = dict[str, tuple[str, dict[str, TrainingRows]]]
"""By role: the target's name, and the training rows of every subject."""
