"""Checks that what subjects were shown can be trained on and scored; no response is read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from core.config import nearest
from core.errors import Brain2VideoError, ConfigError, ModelError, SourceError, StoreError
from core.subjects import group_of, is_group, members_of, subject_label
from feature_store.reader import voxels_in
from feature_store.sources.base import SPLITS, Split
from models.encoders.settings import MbmConfig
from studies.decoding.predictions import MIN_STIMULI
from studies.decoding.training_data import decoded_subjects, training_stimuli
from studies.study import RouteConfig

MIN_TRAINING = 2
"""Training stimuli that a decoder of a subject, or of a group, needs: of one alone nothing can be learnt."""


@dataclass(frozen=True)
class Shown:
    """The stimulus of every trial of each subject.

    Attributes
    ----------
    trials : by subject and split, names of stimuli
    times : by subject, the time points of each response; 1 for betas
    """

    trials: Mapping[str, Mapping[Split, Sequence[str]]]
    times: Mapping[str, int]

    @classmethod
    def of(cls, tables: Mapping[str, Mapping[Split, pd.DataFrame]], times: Mapping[str, int]) -> "Shown":
        """Return what is shown in tables of trials, which have the column ``stimulus``."""
        trials = {s: {split: list(own[split]["stimulus"]) for split in SPLITS} for s, own in tables.items()}
        return cls(trials, times)

    @property
    def subjects(self) -> list[str]:
        """The single subjects."""
        return list(self.trials)

    def seen(self, subject: str, split: Split) -> set[str]:
        """Return the stimuli of a split that a subject saw, or that all members of a group saw."""
        return set.intersection(*(set(self.trials[member][split]) for member in members_of(subject)))

    def training(self) -> list[str]:
        """Return the training stimuli that any subject saw, in alphabetical order."""
        return sorted(set().union(*(set(own["train"]) for own in self.trials.values())))


def faults_of_trials(
    shown: Shown, routes: Mapping[str, RouteConfig], count: int | None, seed: int
) -> Iterator[Brain2VideoError]:
    """Yield what of the trials cannot be trained on or scored.

    Parameters
    ----------
    routes : by name, those that are trained
    count, seed : see `training_stimuli`
    """
    try:
        decoded = decoded_subjects(shown.subjects, {route.pooled for route in routes.values()})
        drawn = set(training_stimuli(shown.training(), count, seed))
    except ConfigError as error:
        yield error
        return
    for subject in decoded:
        yield from _faults_of_subject(shown, subject, drawn, of="" if count is None else f" of the {count} drawn")
    single = [subject for subject in decoded if not is_group(subject)]
    for other in single[1:]:
        differing = sorted(shown.seen(single[0], "test") ^ shown.seen(other, "test"))
        if differing:
            yield StoreError(
                f"{single[0]} and {other} saw different test stimuli ({len(differing)} differ, such as "
                f"'{differing[0]}'); scores are averaged over subjects who saw the same: name them in source.subjects"
            )
    for name, route in routes.items():
        yield from (ModelError(f"{name}: {fault}") for fault in _faults_of_encoder(shown, route, drawn))


def _faults_of_encoder(shown: Shown, route: RouteConfig, drawn: set[str]) -> Iterator[str]:
    """Yield what an encoder asks of trials and these do not have."""
    times = sorted(set(shown.times.values()))
    if isinstance(route.encoder, MbmConfig) and len(times) > 1:
        yield f"mbm: subjects with {times} time points; one network needs one number"
    if getattr(route.encoder, "reliability", 0):  # which not every kind has
        for subject, own in shown.trials.items() if not route.pooled else ():
            seen = [name for name in own["train"] if name in drawn]
            if len(seen) == len(set(seen)):
                yield f"{subject}: no training stimulus was repeated, so voxels cannot be weighted by reliability"


def _faults_of_subject(shown: Shown, subject: str, drawn: set[str], of: str) -> Iterator[Brain2VideoError]:
    train, test, who = shown.seen(subject, "train"), shown.seen(subject, "test"), subject_label(subject)
    if both := sorted(train & test):
        yield SourceError(
            f"{who}: stimulus '{both[0]}' is in training and in test; each stimulus belongs into one split"
        )
    if len(train & drawn) < MIN_TRAINING:
        yield SourceError(
            f"{who}: saw {_counted(len(train & drawn), 'training stimulus', 'training stimuli')}{of}; at least "
            f"{MIN_TRAINING} are needed to train on; move some into training, or leave the subject out"
        )
    if len(test) < MIN_STIMULI:
        yield SourceError(
            f"{who}: saw {_counted(len(test), 'test stimulus', 'test stimuli')}; at least {MIN_STIMULI} are needed to "
            "score anything; put more into the test set"
        )


def _counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def faults_of_regions(
    regions: Iterable[object], rois: Sequence[str] | None, subject: str
) -> Iterator[Brain2VideoError]:
    """Yield a fault where a subject lacks a region that training is to be restricted to.

    Parameters
    ----------
    regions : of each voxel; see `voxels_in`
    """
    if rois is not None:
        try:
            voxels_in(regions, rois, f"training.rois, {subject}")
        except StoreError as error:
            yield error


def faults_of_subject(subjects: Sequence[str], pooled: bool, wanted: str | None) -> Iterator[Brain2VideoError]:
    """Yield a fault where the subject that is to be reconstructed from is none of those that are decoded.

    Parameters
    ----------
    pooled : whether the registered route is a group decoder
    """
    known = [group_of(subjects)] if pooled and len(subjects) > 1 else list(subjects)
    if wanted is not None and wanted not in known:
        yield ConfigError(f"reconstruction.subject: '{wanted}' is not decoded{nearest(wanted, known)}")


def require(faults: Iterable[Brain2VideoError]) -> None:
    """Raise the first fault, if any, with the number of the others."""
    found = list(faults)
    if found:
        more = f" (and {len(found) - 1} more: 'brain2video check' lists all)" if len(found) > 1 else ""
        raise type(found[0])(f"{found[0]}{more}")
