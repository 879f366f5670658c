"""What an encoder is fitted on: one subject's training trials, and what else its brain was recorded doing."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class BrainRows:
    """Training responses of one subject.

    Attributes
    ----------
    responses : (trial, voxel) or (trial, time, voxel)
    stimuli : the stimulus of each trial
    rois : the ROI of each voxel, or none where the dataset has no regions
    unlabelled : (row, voxel) or (row, time, voxel), recordings without a stimulus; None where there are none
    align : by target, (trial, width): what the contrastive stage aligns each trial with
    """

    responses: Array
    stimuli: list[str]
    rois: list[str] = field(default_factory=list)
    unlabelled: Array | None = None
    align: dict[str, Array] = field(default_factory=dict)


def split_stimuli(stimuli: list[str], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which rows are held out: those of a share of the stimuli, at least one, never a trial without its others.

    Returns
    -------
    (row,) bool
    """
    names = sorted(set(stimuli))
    held = {names[index] for index in rng.permutation(len(names))[: max(1, round(share * len(names)))]}
    return np.array([name in held for name in stimuli])
