"""What encoders and regressors are fitted on, subject by subject, in memory or as views of files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from core.times import FOLD_S, ROUNDING_S, Times

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
    times : when each trial was shown, where stimuli are ordered in time: each was shown once, or has a place in a
        movie. What is held out are then blocks of time, without their neighbours; None where stimuli have no order
    targets : by role, a function that returns the targets (stimulus, …) of training stimuli, for encoders that select
        voxels by them
    """

    responses: Rows
    stimuli: list[str]
    rois: list[str] = field(default_factory=list)
    unlabelled: Rows | None = None
    align: dict[str, Array] = field(default_factory=dict)
    times: Times | None = None
    targets: Mapping[str, Callable[[list[str]], Array]] = field(default_factory=dict)


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


def split_stimuli(
    stimuli: list[str], share: float, rng: np.random.Generator, times: Times | None = None
) -> NDArray[np.bool_]:
    """Return which rows are held out: those of a share of the stimuli, at least one, never a trial without its others.

    Where rows have times, whole blocks of time are held out (see `fold_blocks`); what may be trained on then is
    `not_near`.

    Returns
    -------
    (row,) bool
    """
    names = sorted(set(stimuli))
    if times is None or len(names) < 2:
        held = {names[index] for index in rng.permutation(len(names))[: max(1, round(share * len(names)))]}
        return np.array([name in held for name in stimuli])
    blocks = fold_blocks(times, max(2, round(1 / share)))
    count = int(blocks.max()) + 1
    if count < 2:
        return split_stimuli(stimuli, share, rng)
    chosen = rng.permutation(count)[: min(count - 1, max(1, round(share * count)))]
    held = {name for name, block in zip(stimuli, blocks, strict=True) if block in chosen}
    return np.array([name in held for name in stimuli])


BLOCK_PURGES = 4
"""How many times as long as what is purged on either side a block is, so that more is held out than is purged."""

SHORTER = 0.8


def fold_blocks(times: Times, at_least: int) -> NDArray[np.int64]:
    """Return a number for the block of time that each row lies in, (row,).

    Blocks last about a minute (`core.times.FOLD_S`), more where rows depend on each other for longer (`BLOCK_PURGES`
    times `Times.purge_s`), and less where there would be fewer than so many of them; at last a block is one start.
    """
    length_s, starts = (
        max(FOLD_S, BLOCK_PURGES * times.purge_s),
        len(set(zip(times.segment, times.start_s, strict=True))),
    )
    blocks = times.blocks(length_s)
    while int(blocks.max()) + 1 < min(at_least, starts) and length_s > ROUNDING_S:
        length_s *= SHORTER
        blocks = times.blocks(length_s)
    return blocks


def not_near(held: NDArray[np.bool_], times: Times | None) -> NDArray[np.bool_]:
    """Return which rows may be trained on: those not held out and, where they have times, not too near to one that is.

    Where all of them are too near, as in a recording of less than a minute, none is purged.
    """
    rest = ~held
    if times is None:
        return rest
    kept = rest & ~times.near(times.take(held), times.purge_s)
    return kept if kept.any() else rest


def deal_folds(count: int, folds: int, rng: np.random.Generator, times: Times | None = None) -> NDArray[np.int64]:
    """Return the fold of each of so many stimuli, (stimulus,), dealt at random; by blocks where they have times."""
    fold_of = np.empty(count, np.int64)
    if times is None:
        fold_of[rng.permutation(count)] = np.arange(count) % folds
        return fold_of
    blocks = fold_blocks(times, folds)
    of_block = np.empty(int(blocks.max()) + 1, np.int64)
    of_block[rng.permutation(len(of_block))] = np.arange(len(of_block)) % folds
    return np.asarray(of_block[blocks])


class LeftOut(Sequence[str]):
    """What is left out together when penalties are chosen: a label for each row, and for each label what goes with it.

    Ridge leaves out the rows of one label at a time, and scores its predictions for them. A sequence of stimuli is the
    simple case; blocks of time also leave out the rows near them, which are not scored.

    Attributes
    ----------
    labels : one a row
    beside : by label, the positions of other rows that are left out with it
    """

    def __init__(self, labels: Sequence[str], beside: dict[str, NDArray[np.int64]]) -> None:
        self.labels, self.beside = list(labels), beside

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, row: int, /) -> str: ...
    @overload
    def __getitem__(self, row: slice, /) -> list[str]: ...
    def __getitem__(self, row: int | slice, /) -> str | list[str]:
        """Return the label of a row, or of some."""
        return self.labels[row]


MIN_BLOCKS = 5
"""Blocks of time that penalties are chosen over at least, made shorter than a minute for it."""


def leave_out(stimuli: list[str], times: Times | None) -> Sequence[str]:
    """Return what is left out together: each stimulus, or where rows have times each block with its neighbours.

    Neighbours are rows within `Times.purge_s` of a row of the block. Where that would leave some block less
    than half of the rows to be predicted from, neighbours stay; where there are fewer than three blocks, stimuli are
    left out.
    """
    if times is None:
        return stimuli
    blocks = fold_blocks(times, MIN_BLOCKS)
    if int(blocks.max()) < 2:
        return stimuli
    beside, fewest = {}, len(stimuli)
    for block in np.unique(blocks):
        held = blocks == block
        near = ~held & times.near(times.take(held), times.purge_s)
        beside[str(block)] = np.flatnonzero(near)
        fewest = min(fewest, len(stimuli) - int(held.sum()) - int(near.sum()))
    return LeftOut([str(block) for block in blocks], beside if 2 * fewest >= len(stimuli) else {})


@dataclass(frozen=True)
class RegressorRows:
    """What a regressor is fitted on, made at every access and not kept: of many subjects one is in memory at a time.

    Attributes
    ----------
    make_features, make_targets : return features and targets
    stimuli : the stimulus of each row
    shape : of one row's targets
    times : when each row was shown, where stimuli are ordered in time; see `BrainRows`
    """

    make_features: Callable[[], Array]
    make_targets: Callable[[], Array]
    stimuli: list[str]
    shape: tuple[int, ...]
    times: Times | None = None

    @property
    def left_out(self) -> Sequence[str]:
        """What is left out together when penalties are chosen; see `leave_out`."""
        return leave_out(self.stimuli, self.times)

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
