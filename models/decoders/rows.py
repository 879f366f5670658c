"""What encoders and regressors are fitted on, subject by subject, in memory or as views of files."""

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

    @property
    def ndim(self) -> int:
        """Number of axes."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Array:
        """Return rows, by a slice, positions or a mask."""


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


def in_memory(rows: BrainRows) -> BrainRows:
    """Return the same with all rows in memory."""
    unlabelled = None if rows.unlabelled is None else rows.unlabelled[:]
    return replace(rows, responses=rows.responses[:], unlabelled=unlabelled)


def array_of(rows: Rows) -> Array:
    """Return all rows, which are read where they are a view."""
    return rows if isinstance(rows, np.ndarray) else rows[:]


def row_blocks(rows: Rows, max_rows: int | None = None) -> Iterator[slice]:
    """Return slices that cover rows, of which a block takes about `BLOCK_BYTES` in float64, and one at least.

    Parameters
    ----------
    max_rows : rows that a block has at most, however small they are
    """
    step = max(1, BLOCK_BYTES // (8 * max(1, prod(rows.shape[1:]))))
    step = step if max_rows is None else min(step, max_rows)
    return (slice(start, min(start + step, len(rows))) for start in range(0, len(rows), step))


def voxel_blocks(*rows: Rows) -> Iterator[slice]:
    """Return slices that cover the voxels, of which a block takes about `BLOCK_BYTES` in float64, and two at least.

    Parameters
    ----------
    *rows : all with the same voxels
    """
    step = max(2, BLOCK_BYTES // (8 * sum(prod(array.shape[:-1]) for array in rows)))
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
class RegressorRows:
    """What a regressor is fitted on, made at every access and not kept: of many subjects one is in memory at a time.

    Attributes
    ----------
    make_features, make_targets : return features and targets
    stimuli : the stimulus of each row
    shape : of one row's targets
    """

    make_features: Callable[[], Array]
    make_targets: Callable[[], Array]
    stimuli: list[str]
    shape: tuple[int, ...]

    @property
    def features(self) -> Array:
        """Features, (row, feature)."""
        return self.make_features()

    @property
    def targets(self) -> Array:
        """Targets, (row, …)."""
        return self.make_targets()


def flat_targets(rows: RegressorRows) -> NDArray[np.float32]:
    """Return targets as (row, value) float32."""
    targets = rows.targets
    return targets.reshape(len(targets), -1).astype(np.float32)


RowsByRole = dict[str, tuple[str, dict[str, RegressorRows]]]
"""By role: the target's name, and the training rows of every subject."""

FEATURES_BYTES = 64 * 2**20
"""Features of so many bytes are kept, and in any case those of the subject asked for last."""


class FeatureCache:
    """Every subject's encoded features, the same for all roles; see `FEATURES_BYTES` for what is kept.

    Parameters
    ----------
    encode : returns one subject's features, (row, feature)
    """

    def __init__(self, encode: Callable[[str], Array]) -> None:
        self._encode = encode
        self._kept: dict[str, Array] = {}

    def features_of(self, subject: str) -> Array:
        """Return one subject's features, (row, feature)."""
        if subject not in self._kept:
            if sum(values.nbytes for values in self._kept.values()) > FEATURES_BYTES:
                self._kept.clear()
            self._kept[subject] = self._encode(subject)
        return self._kept[subject]
