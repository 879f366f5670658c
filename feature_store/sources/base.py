"""What a source of recordings is: a dataset on disk, read as stimuli, responses and, where it has them, clips."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.clips import Clip, ClipConfig

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

STIMULUS_COLUMNS = ("stimulus", "split", "caption")
TRIAL_COLUMNS = ("stimulus", "repetition")
ROI_SEPARATOR = "+"
"""Between the names of a voxel's regions, where it lies in several: ``"lLOC+lEBA"``."""
NO_ROI = "none"
"""The ROI of a voxel that lies in no region."""


class Rows(Protocol):
    """Rows read in slices, so that a recording may be larger than memory; numpy arrays and memmaps are such."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(trial, voxel) for betas, (trial, time, voxel) for BOLD windows."""
        ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """Return some trials."""
        ...


@dataclass(frozen=True)
class Recording:
    """One subject's responses, raw: normalisation happens at training, from the training rows.

    Attributes
    ----------
    subject : str
        For example ``"sub-01"``.
    values : responses per split, rows in the order of `trials`; large ones are read when they are first asked for, and
        the caller that writes them drops a split's rows from this dictionary before it asks for the next
    trials : table per split with the columns `TRIAL_COLUMNS` (repetition counts from 0) and optionally session, run
    voxels : table with one row per voxel in the order of the values' last axis, ROI by ROI; column ``roi`` at least
        (see `ROI_SEPARATOR` and `NO_ROI`), and what the dataset knows of these: ``hemisphere`` ("l", "r" or ""), ``i``,
        ``j``, ``k`` (voxel indices), ``x``, ``y``, ``z`` (mm), ``ncsnr_train_published``, ``ncsnr_test_published``
    attributes : what else is known of the recording, JSON without absolute paths: ``space``, ``tr_s``, ``affine``, …
    unlabelled : (row, voxel), or (row, time, voxel) where `values` have time: responses without a stimulus, of rest or
        other studies; the same voxels in the same order, or None
    """

    subject: str
    values: dict[Split, Rows]
    trials: dict[Split, pd.DataFrame]
    voxels: pd.DataFrame
    attributes: dict[str, Any] = field(default_factory=dict)
    unlabelled: Rows | None = None


@dataclass(frozen=True)
class RecordingShape:
    """What one subject's `Recording` holds, without its values.

    Attributes
    ----------
    subject : for example ``"sub-01"``
    trials : table per split, one row a trial
    voxels : how many
    table : what is known of the voxels, without what ingest measures
    times : volumes of a trial's window, None for betas
    unlabelled : rows without a stimulus
    """

    subject: str
    trials: dict[Split, pd.DataFrame]
    voxels: int
    table: pd.DataFrame
    times: int | None = None
    unlabelled: int = 0

    @classmethod
    def of(cls, recording: Recording) -> "RecordingShape":
        """Return the shape of a recording; its values are not read where they are lazy."""
        shape = recording.values["train"].shape
        rows = 0 if recording.unlabelled is None else recording.unlabelled.shape[0]
        times = shape[1] if len(shape) == 3 else None
        return cls(recording.subject, recording.trials, shape[-1], recording.voxels, times, rows)

    @classmethod
    def declared(
        cls, subject: str, trials: dict[Split, pd.DataFrame], voxels: int, times: int | None = None, unlabelled: int = 0
    ) -> "RecordingShape":
        """Return a shape whose voxels are known by number alone, with a table of the columns that most have."""
        roi = pd.Series(["lIPS1-2-3"] * voxels, dtype=object)
        table = pd.DataFrame({"roi": roi, "hemisphere": "l", "index": np.arange(voxels)})
        return cls(subject, trials, voxels, table, times, unlabelled)

    def rows(self, split: Split) -> int:
        """Trials of a split."""
        return len(self.trials[split])


@dataclass(frozen=True)
class Declared:
    """What a dataset declares of itself, so that it is known before it is here.

    Attributes
    ----------
    subjects : those that the config names, or all
    stimuli : as `Source.stimuli` returns them; captions are as long as the longest
    """

    subjects: tuple[RecordingShape, ...]
    stimuli: pd.DataFrame


def declared_trials(stimuli: list[str], repeats: int) -> pd.DataFrame:
    """Return the trials of stimuli that were each shown so often."""
    names, repetitions = np.repeat(stimuli, repeats).astype(object), np.tile(np.arange(repeats), len(stimuli))
    return pd.DataFrame({"stimulus": names, "repetition": repetitions})


class Source(Protocol):
    """A dataset on disk; reading raises `SourceError` where it differs from what the source declares."""

    @property
    def subjects(self) -> list[str]:
        """The subjects that the config names, or all that are there."""
        ...

    def stimuli(self) -> pd.DataFrame:
        """Return the stimuli: columns `STIMULUS_COLUMNS`, and ``group`` where stimuli belong to classes.

        ``caption`` holds a list of strings, empty where there is none.
        """
        ...

    def responses(self, subject: str) -> Recording:
        """Return one subject's responses."""
        ...

    def response_files(self, subject: str) -> list[Path]:
        """Return every file that `responses` reads for a subject; a store's fingerprint covers them."""
        ...

    def stimulus_files(self) -> list[Path]:
        """Return every file that `stimuli` and `clip` read; a store's fingerprint covers them."""
        ...

    def clip(self, stimulus: str, config: ClipConfig) -> Clip | None:
        """Return what was shown, or None where the dataset has no clip for this stimulus."""
        ...

    def target(self, name: str) -> NDArray[Any] | None:
        """Return embeddings made elsewhere, rows in the order of `stimuli`, or None where that name has none."""
        ...
