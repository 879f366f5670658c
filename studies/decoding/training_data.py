"""What a study's models are trained on: every subject's training trials, joined with targets by stimulus.

Where they are large they stay in the store's files, and features are made of one subject at a time.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError, StoreError
from core.seeds import rng_for
from feature_store import Store
from feature_store.rows import group_by_name, mean_of_runs, select
from models.decoders.build import Encoder
from models.decoders.predict import TRIALS, encode_trials
from models.decoders.rows import BrainRows, LazyRows, Roles, in_memory, row_blocks
from models.regressors.settings import RegressorConfig
from studies.study import Study

Array = NDArray[Any]
RESPONSES_BYTES = 256 * 2**20
"""Responses of all subjects up to this size are read into memory, whatever memory there is: results depend on none."""
FEATURES_BYTES = 64 * 2**20
"""Features of so many bytes are kept, and in any case those of the subject asked for last."""


@dataclass(frozen=True)
class Target:
    """One target's values of the training stimuli.

    Attributes
    ----------
    values : (stimulus, …)
    row_of : the row of each stimulus
    """

    values: Array
    row_of: dict[str, int]

    @classmethod
    def of(cls, values: Array, stimuli: list[str]) -> "Target":
        """Return values (stimulus, …) by stimulus."""
        return cls(values, {name: row for row, name in enumerate(stimuli)})

    def of_trials(self, stimuli: list[str]) -> Array:
        """Return the values of each trial, (trial, …)."""
        return self.values[[self.row_of[name] for name in stimuli]]

    def vectors_of_trials(self, stimuli: list[str]) -> NDArray[np.float32]:
        """Return one vector a trial, (trial, width): tokens (…, token, width) are averaged."""
        rows = self.values.reshape(len(self.values), -1, self.values.shape[-1]).mean(axis=1, dtype=np.float32)
        return np.asarray(rows[[self.row_of[name] for name in stimuli]])

    def mean(self, stimuli: Collection[str]) -> NDArray[np.float32]:
        """Return the mean over some stimuli, each counted once."""
        rows = sorted(self.row_of[name] for name in set(stimuli))
        mean: NDArray[np.float32] = self.values[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


@dataclass(frozen=True)
class TrainingData:
    """Training trials of several subjects, and the targets of what they saw.

    Attributes
    ----------
    brains : per subject
    targets : by name
    """

    brains: dict[str, BrainRows]
    targets: dict[str, Target]

    @property
    def stimuli(self) -> list[str]:
        """Every stimulus that any subject saw, in alphabetical order."""
        return sorted({name for one in self.brains.values() for name in one.stimuli})

    def only(self, stimuli: Collection[str]) -> "TrainingData":
        """Return the trials of some stimuli alone; recordings without a stimulus stay."""
        wanted = set(stimuli)
        return replace(self, brains={subject: _only(one, wanted) for subject, one in self.brains.items()})

    def roles(self, config: RegressorConfig, encoder: Encoder, named: dict[str, str]) -> Roles:
        """Return what regressors are fitted on: trials' features, or their mean over a stimulus's repetitions.

        Features are made when they are asked for, the same for every role.

        Parameters
        ----------
        named : by role, the target's name
        """
        means = config.repeats == "mean"
        made = _Features(lambda subject: _features(encoder, subject, self.brains[subject], means=means))
        targets = {name: self.targets[name] for name in named.values()}
        seen = {s: list(dict.fromkeys(one.stimuli)) if means else one.stimuli for s, one in self.brains.items()}
        return {
            role: (
                target,
                {
                    subject: LazyRows(
                        partial(made.of, subject),
                        partial(targets[target].of_trials, stimuli),
                        stimuli,
                        targets[target].values.shape[1:],
                    )
                    for subject, stimuli in seen.items()
                },
            )
            for role, target in named.items()
        }


class _Features:
    """Every subject's features, made when they are asked for; see `FEATURES_BYTES`."""

    def __init__(self, make: Callable[[str], Array]) -> None:
        self._make = make
        self._kept: dict[str, Array] = {}

    def of(self, subject: str) -> Array:
        """Return one subject's features, (row, feature)."""
        if subject not in self._kept:
            if sum(values.nbytes for values in self._kept.values()) > FEATURES_BYTES:
                self._kept.clear()
            self._kept[subject] = self._make(subject)
        return self._kept[subject]


def _features(encoder: Encoder, subject: str, one: BrainRows, *, means: bool) -> Array:
    """Return the features of every trial, or their means over repetitions in the order of first presentation."""
    if not means:
        return encode_trials(encoder, subject, one.responses)
    order, counts, _ = group_by_name(one.stimuli)
    step, ends = max(1, next(row_blocks(one.responses, TRIALS)).stop // int(counts.max())), np.cumsum(counts)
    made = np.empty((0, 0), np.float32)
    for first in range(0, len(counts), step):
        few = counts[first : first + step]
        trials = order[ends[first] - few[0] : ends[first + len(few) - 1]]
        features = np.ascontiguousarray(encoder.encode(subject, one.responses[trials]))
        if not first:
            made = np.empty((len(counts), features.shape[1]), features.dtype)
        made[first : first + step] = mean_of_runs(features, few)
    return made


def _only(one: BrainRows, wanted: set[str]) -> BrainRows:
    kept = np.array([name in wanted for name in one.stimuli])
    return replace(
        one,
        responses=select(one.responses, kept),
        stimuli=[name for name in one.stimuli if name in wanted],
        align={target: values[kept] for target, values in one.align.items()},
    )


def training_stimuli(study: Study, names: list[str]) -> list[str]:
    """Return the training stimuli that a study uses, in the order of `names`.

    Raises
    ------
    ConfigError
        It asks for more than there are.
    """
    wanted = study.training.stimuli
    if wanted is None:
        return names
    if wanted > len(names):
        raise ConfigError(f"training.stimuli: {wanted} of {len(names)} training stimuli; ask for at most as many")
    drawn = rng_for(study.seed, "training stimuli").permutation(len(names))[:wanted]
    return [names[row] for row in sorted(drawn)]


def read_training_data(study: Study, store: Store, subjects: list[str]) -> TrainingData:
    """Read what a study's routes are trained on; responses stay in their files where all together are large.

    Raises
    ------
    StoreError
        A subject saw a training stimulus that a target lacks: both must come from the same stimuli.
    """
    named = [*study.roles.regressed().values(), *study.training.baselines, *study.roles.align]
    targets = {}
    for name in dict.fromkeys(named):
        stored, names = store.target(name).values("train")
        targets[name] = Target.of(stored[:], names)
    brains, size = {}, 0
    for subject in subjects:
        recorded, rois = store.responses(subject), study.training.rois
        values, stimuli = recorded.view("train", rois=rois)
        for name, target in targets.items():
            _require_all(study, subject, stimuli, name, target)
        unlabelled = recorded.unlabelled_view(rois)
        size += values.nbytes + (0 if unlabelled is None else unlabelled.nbytes)
        table = recorded.voxels if rois is None else recorded.voxels.iloc[recorded.voxels_in(rois)]
        align = {name: targets[name].vectors_of_trials(stimuli) for name in study.roles.align}
        brains[subject] = BrainRows(values, stimuli, [str(roi) for roi in table["roi"]], unlabelled, align)
    if size <= RESPONSES_BYTES:
        brains = {subject: in_memory(one) for subject, one in brains.items()}
    data = TrainingData(brains, targets)
    return data if study.training.stimuli is None else data.only(training_stimuli(study, data.stimuli))


def _require_all(study: Study, subject: str, stimuli: list[str], name: str, target: Target) -> None:
    missing = [stimulus for stimulus in dict.fromkeys(stimuli) if stimulus not in target.row_of]
    if missing:
        raise StoreError(
            f"{study.store}: {len(missing)} training stimuli of responses/{subject} are not among targets/{name}, such "
            f"as '{missing[0]}'; make both from the same stimuli: run 'brain2video responses' and 'brain2video targets'"
        )
