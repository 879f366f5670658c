"""Training data: every subject's training trials, joined with targets by stimulus.

Where they are large they stay in the store's files, and features are made of one subject at a time.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.config import nearest
from core.errors import ConfigError, StoreError, StoreMissing
from core.seeds import rng_for
from core.subjects import group_of, is_group, members_of
from core.times import Times
from evaluation.diagnoses.time import first_in_time, reach_s
from feature_store import Store
from feature_store.rows import group_by_name, mean_of_runs, select
from models.decoders.build import TRIALS, Encoder, encode_trials
from models.decoders.rows import BrainRows, FeatureCache, RegressorRows, Rows, RowsByRole, in_memory, row_blocks
from models.regressors.settings import RegressorConfig
from studies.decoding.order import fold_times

Array = NDArray[Any]
RESPONSES_BYTES = 256 * 2**20
"""Responses of all subjects up to this size are read into memory; fixed, so that no result depends on the machine."""


@dataclass(frozen=True)
class Target:
    """One target's values of the training stimuli.

    Attributes
    ----------
    values : (stimulus, …)
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
    """Training trials by subject, and the targets of what they saw by name."""

    brains: dict[str, BrainRows]
    targets: dict[str, Target]

    @property
    def stimuli(self) -> list[str]:
        """Every stimulus that any subject saw, in alphabetical order."""
        return sorted({name for brain in self.brains.values() for name in brain.stimuli})

    def only(self, stimuli: Collection[str]) -> "TrainingData":
        """Return the trials of some stimuli alone; recordings without a stimulus stay."""
        wanted = set(stimuli)
        return replace(self, brains={subject: _only(brain, wanted) for subject, brain in self.brains.items()})

    def apart_from(self, held: Collection[str]) -> "TrainingData":
        """Return the trials of all other stimuli, less those that lie too near to one of these in time.

        Near is within `core.times.Times.purge_s` in the same run or movie, where trials have times; where that leaves
        a subject no trial, none of that subject's is dropped.
        """
        rest = self.only(set(self.stimuli) - set(held))
        brains = {}
        for subject, brain in rest.brains.items():
            times, out = self.brains[subject].times, np.array([name in held for name in self.brains[subject].stimuli])
            if times is not None and brain.times is not None and out.any():
                kept = ~brain.times.near(times.take(out), times.purge_s)
                brain = _rows(brain, kept) if kept.any() else brain
            brains[subject] = brain
        return replace(rest, brains=brains)

    def times_of(self, stimuli: Sequence[str]) -> Times | None:
        """Return when stimuli were first shown to the first subject who saw them; None unless that is known of all."""
        first: dict[str, tuple[str, float, float]] = {}
        purge_s = max((brain.times.purge_s for brain in self.brains.values() if brain.times is not None), default=0.0)
        for brain in self.brains.values():
            if brain.times is None:
                return None
            rows = zip(brain.times.segment, brain.times.start_s, brain.times.duration_s, strict=True)
            for name, row in zip(brain.stimuli, rows, strict=True):
                first.setdefault(name, row)
        segment, start_s, duration_s = zip(*(first[name] for name in stimuli), strict=True)
        return replace(Times.of(segment, start_s, duration_s), purge_s=purge_s)

    def of(self, *, pooled: bool) -> "TrainingData":
        """Return what a route of one kind sees: the single subjects, or the group of all of them."""
        brains = {subject: brain for subject, brain in self.brains.items() if is_group(subject) == pooled}
        return replace(self, brains=brains)

    def with_targets(self, named: Mapping[str, str]) -> "TrainingData":
        """Return the same with the targets of each role at hand for encoders that select voxels by them."""
        targets = {role: self.targets[name].of_trials for role, name in named.items()}
        return replace(self, brains={s: replace(brain, targets=targets) for s, brain in self.brains.items()})

    def features(self, config: RegressorConfig, encoder: Encoder) -> FeatureCache:
        """Return what regressors read: features of trials, or their means over a stimulus's repetitions."""
        means = config.repeats == "mean"
        return FeatureCache(lambda subject: _features(encoder, subject, self.brains[subject], means=means))

    def roles(self, config: RegressorConfig, features: FeatureCache, named: Mapping[str, str]) -> RowsByRole:
        """Return what regressors are fitted on, made when it is asked for.

        Parameters
        ----------
        features : as `features` returns them for the same config
        named : by role, the target's name
        """
        means = config.repeats == "mean"
        seen = {s: list(dict.fromkeys(one.stimuli)) if means else one.stimuli for s, one in self.brains.items()}
        times = {s: _times_of_rows(one, means=means) for s, one in self.brains.items()}
        roles: RowsByRole = {}
        for role, name in named.items():
            target = self.targets[name]
            roles[role] = (
                name,
                {
                    subject: RegressorRows(
                        partial(features.features_of, subject),
                        partial(target.of_trials, stimuli),
                        stimuli,
                        target.values.shape[1:],
                        times[subject],
                    )
                    for subject, stimuli in seen.items()
                },
            )
        return roles


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


def _times_of_rows(brain: BrainRows, *, means: bool) -> Times | None:
    """Return the times of trials, or of the first trial of each stimulus in the order of first presentation."""
    if brain.times is None or not means:
        return brain.times
    first = {name: row for row, name in reversed(list(enumerate(brain.stimuli)))}
    return brain.times.take(np.array([first[name] for name in dict.fromkeys(brain.stimuli)], dtype=np.int64))


def _only(brain: BrainRows, wanted: set[str]) -> BrainRows:
    return _rows(brain, np.array([name in wanted for name in brain.stimuli], dtype=bool))


def _rows(brain: BrainRows, kept: NDArray[np.bool_]) -> BrainRows:
    """Return some trials of a subject."""
    return replace(
        brain,
        responses=select(brain.responses, kept),
        stimuli=[name for name, keep in zip(brain.stimuli, kept, strict=True) if keep],
        align={target: values[kept] for target, values in brain.align.items()},
        times=None if brain.times is None else brain.times.take(kept),
    )


def stored_subjects(store: Store, wanted: Sequence[str] | None) -> list[str]:
    """Return the subjects that a study names, or all of the store; the recordings themselves are not needed.

    Raises `StoreMissing` where a subject that is named has not been ingested, or none has.
    """
    known = store.names("responses")
    subjects = list(wanted or known)
    for subject in subjects:
        if subject not in known:
            raise StoreMissing(
                f"{store.path}: no responses of {subject}{nearest(subject, known)}; run 'brain2video responses'"
            )
    if not subjects:
        raise StoreMissing(f"{store.path}: no responses of any subject; run 'brain2video responses'")
    return subjects


def decoded_subjects(subjects: Sequence[str], pooled: Collection[bool]) -> list[str]:
    """Return what routes are trained on: single subjects, the group of all of them, or both.

    Raises `ConfigError` where a group would have one member.

    Parameters
    ----------
    pooled : of each route, whether it is a group decoder
    """
    return [*(subjects if False in pooled else ()), *([group_of(subjects)] if True in pooled else ())]


def seen_in_training(store: Store, subjects: Collection[str]) -> list[str]:
    """Return the training stimuli that any of the subjects saw, or any member of a group, in alphabetical order."""
    members = dict.fromkeys(member for subject in subjects for member in members_of(subject))
    return sorted({str(name) for member in members for name in store.responses(member).trials("train")["stimulus"]})


def describe_target(store: Store, name: str) -> dict[str, str]:
    """Return a target's name, extractor and revision, as its store records them."""
    attributes = store.target(name).attributes
    return {"name": name, "extractor": str(attributes["extractor"]), "revision": str(attributes["revision"])}


def training_stimuli(names: list[str], count: int | None, seed: int) -> list[str]:
    """Return so many of the training stimuli, drawn by the seed, in the order of `names`; all where `count` is None.

    Raises `ConfigError` where there are fewer.
    """
    if count is None:
        return names
    if count > len(names):
        raise ConfigError(f"training.stimuli: {count} of {len(names)} training stimuli; ask for at most as many")
    drawn = rng_for(seed, "training stimuli").permutation(len(names))[:count]
    return [names[row] for row in sorted(drawn)]


def read_training_data(
    store: Store,
    subjects: Sequence[str],
    targets: Sequence[str],
    *,
    align: Sequence[str] = (),
    rois: list[str] | None = None,
    count: int | None = None,
    seed: int = 0,
) -> TrainingData:
    """Read what routes are trained on; responses stay in their files where all together are large.

    Raises `StoreError` where a subject saw a training stimulus that a target lacks: both must come from the same
    stimuli.

    Parameters
    ----------
    targets, align : names of the targets that are regressed, and of those that encoders are aligned with
    rois : only the voxels of these regions
    count, seed : see `training_stimuli`
    """
    read = {}
    for name in dict.fromkeys([*targets, *align]):
        stored, names = store.target(name).values("train")
        read[name] = Target.of(stored[:], names)
    stimuli_table = store.target(targets[0]).stimuli("train")
    brains, size = {}, 0
    for subject in subjects:
        recorded = store.responses(subject)
        values, stimuli = recorded.view("train", rois=rois)
        for name, target in read.items():
            _require_all(store, subject, stimuli, name, target)
        unlabelled = recorded.unlabelled_view(rois)
        size += values.nbytes + (0 if unlabelled is None else unlabelled.nbytes)
        table = recorded.voxels if rois is None else recorded.voxels.iloc[recorded.voxels_in(rois)]
        aligned = {name: read[name].vectors_of_trials(stimuli) for name in align}
        times = with_reach(fold_times(recorded.trials("train"), stimuli_table), values, stimuli, read.values())
        brains[subject] = BrainRows(values, stimuli, [str(roi) for roi in table["roi"]], unlabelled, aligned, times)
    if size <= RESPONSES_BYTES:
        brains = {subject: in_memory(brain) for subject, brain in brains.items()}
    data = TrainingData(brains, read)
    return data if count is None else data.only(training_stimuli(seen_in_training(store, subjects), count, seed))


def with_reach(times: Times | None, responses: Rows, stimuli: list[str], targets: Iterable[Target]) -> Times | None:
    """Return times with how long rows depend on each other, as responses and targets show it; None without times.

    Parameters
    ----------
    responses : (trial, voxel) or (trial, time, voxel), in memory or a view of files
    stimuli : the stimulus of each trial
    """
    if times is None:
        return None
    rows = first_in_time(times)
    brain, when = np.asarray(responses[rows], np.float32), times.take(rows)
    shown = [stimuli[row] for row in rows]
    reach = max(reach_s(target.of_trials(shown), brain, when) for target in targets)
    return replace(times, purge_s=max(times.purge_s, reach))


def _require_all(store: Store, subject: str, stimuli: list[str], name: str, target: Target) -> None:
    missing = [stimulus for stimulus in dict.fromkeys(stimuli) if stimulus not in target.row_of]
    if missing:
        raise StoreError(
            f"{store.path}: {len(missing)} training stimuli of responses/{subject} are not among targets/{name}, such "
            f"as '{missing[0]}'; make both from the same stimuli: run 'brain2video responses' and 'brain2video targets'"
        )
