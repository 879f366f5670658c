"""What targets are predicted to be by something else than a subject's own brain: its category, the time of its trials,
the head's motion and the global signal, another subject's model.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import nearest
from core.errors import ModelError, StoreError
from core.progress import report
from evaluation.config import EvaluationConfig
from evaluation.statistics.controls_partial import (
    category_prediction,
    cluster_labels,
    linear_prediction,
    standardised,
    time_features,
)
from evaluation.statistics.scores import CATEGORY, NUISANCE, OTHER_BRAIN, TIME_ONLY
from feature_store import Store
from feature_store.reader import Responses, Targets
from feature_store.sources.base import MOTION_COLUMNS, SPLITS
from feature_store.times import places, run_labels, trial_times
from models.decoders.build import TRIALS, Encoder, Regressor, predict_stimuli
from models.decoders.rows import row_blocks
from studies.decoding.predictions import Predictions

Array = NDArray[Any]
Floats = NDArray[np.float64]

INDIVIDUAL = ("", "individual", "native", "T1w", "None")
"""Spaces in which one voxel index is another place in every subject."""


@dataclass(frozen=True)
class BesideTheBrain:
    """What is known of each stimulus beside one subject's responses, averaged over its trials.

    Attributes
    ----------
    training, test : stimuli
    features : by control, (training stimulus, feature) and (test stimulus, feature)
    notes : a reason for each control that has no features
    """

    training: list[str]
    test: list[str]
    features: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def beside_the_brain(
    responses: Responses,
    target: Targets,
    trained_on: Collection[str],
    test: Sequence[str],
    wanted: Collection[str],
    rois: list[str] | None = None,
) -> BesideTheBrain:
    """Return what the controls `time_only` and `nuisance` predict from, those of them that are wanted and can be had.

    Parameters
    ----------
    responses : of the subject
    target : any of the store's; its tables hold the places of clips in movies
    trained_on : training stimuli of the models; those of them that this subject saw are used
    test : the test stimuli that are scored, in their order
    wanted : names of controls, others among them
    rois : the regions whose mean response is the global signal; all by default
    """
    tables = {split: responses.trials(split) for split in SPLITS}
    names = [str(name) for split in SPLITS for name in tables[split]["stimulus"]]
    trials = pd.concat([tables[split] for split in SPLITS], ignore_index=True)
    training = [name for name in dict.fromkeys(str(name) for name in tables["train"]["stimulus"]) if name in trained_on]
    known = BesideTheBrain(training, list(test))

    def keep(control: str, of_trials: Floats) -> None:
        both = (_by_stimulus(of_trials, names, training), _by_stimulus(of_trials, names, known.test))
        known.features[control] = both

    if TIME_ONLY in wanted:
        when = _when(trials, pd.concat([target.stimuli(split) for split in SPLITS], ignore_index=True), names)
        if when is None:
            known.notes.append(f"no {TIME_ONLY}: the trials of {responses.subject} have no run, and clips no movie")
        else:
            if when[1] is None:
                known.notes.append(f"{TIME_ONLY} knows the run alone: onsets are not known, or not of every trial")
            keep(TIME_ONLY, time_features(*when))
    if NUISANCE in wanted:
        signals = np.concatenate([global_signal(responses, split, rois) for split in SPLITS])
        motion = [name for name in MOTION_COLUMNS if name in trials]
        measured = [_numbers(trials[name]) for name in motion]
        keep(NUISANCE, np.column_stack([signals, *measured]))
        known.features[NUISANCE] = standardised(*known.features[NUISANCE])
        if not motion:
            known.notes.append(f"{NUISANCE} knows the global signal alone: the trials have no motion confounds")
    return known


def global_signal(responses: Responses, split: Any, rois: list[str] | None = None) -> Floats:
    """Return the mean over voxels of every trial's response, (trial, 1) or (trial, time); NaN is passed over."""
    view, _ = responses.view(split, rois=rois)
    parts = []
    for block in row_blocks(view, TRIALS):
        values = np.asarray(view[block], np.float64)
        finite = np.isfinite(values)
        counts = np.maximum(finite.sum(axis=-1), 1)
        parts.append(np.where(finite, values, 0.0).sum(axis=-1) / counts)
    together = np.concatenate(parts)
    return together.reshape(len(together), -1)


def _when(trials: pd.DataFrame, stimuli: pd.DataFrame, names: list[str]) -> tuple[Array, Floats | None] | None:
    """Return the run, or the movie, of every trial and its start there in seconds, None where only the run is known.

    None at all where neither the run of trials nor the place of clips in a movie is known.
    """
    shown = trial_times(trials)
    for times in (shown, places(stimuli, names)):
        if times is not None and times.known:
            return times.segment, times.start_s
    runs = run_labels(trials)
    return None if runs is None else (runs, None)


def _numbers(column: "pd.Series[Any]") -> Floats:
    """Return a column as numbers, its mean where it has none."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    known = np.isfinite(numbers)
    return np.where(known, numbers, numbers[known].mean() if known.any() else 0.0)


def _by_stimulus(of_trials: Floats, trials: Sequence[str], stimuli: Sequence[str]) -> Floats:
    """Average features of trials (trial, feature) over those of each stimulus, (stimulus, feature)."""
    row_of = {name: row for row, name in enumerate(stimuli)}
    rows = np.array([row_of.get(name, -1) for name in trials])
    total = np.zeros((len(stimuli), of_trials.shape[1]))
    np.add.at(total, rows[rows >= 0], of_trials[rows >= 0])
    return total / np.maximum(np.bincount(rows[rows >= 0], minlength=len(stimuli)), 1)[:, None]


@dataclass(frozen=True)
class Categories:
    """The category of every training stimulus, and the true one of every test stimulus: classes, or clusters.

    Attributes
    ----------
    training : by stimulus
    test : (stimulus,)
    """

    training: dict[str, Any]
    test: list[Any]

    @classmethod
    def of(
        cls, store: Store, target: str, own: Predictions, trained_on: Collection[str], clusters: int, seed: int
    ) -> "Categories":
        """Return the classes that the store knows, or the clusters of a target where it knows none."""
        table = store.target(target).stimuli("train")
        if own.groups is not None and "group" in table:
            groups = dict(zip((str(name) for name in table["stimulus"]), table["group"], strict=True))
            return cls({name: groups[name] for name in groups if name in trained_on}, list(own.groups))
        values, names = training_targets(store, target, trained_on)
        labels, truth = cluster_labels(values, own.truth, clusters=clusters, seed=seed)
        return cls(dict(zip(names, labels.tolist(), strict=True)), truth.tolist())


def training_targets(store: Store, target: str, trained_on: Collection[str]) -> tuple[NDArray[np.float32], list[str]]:
    """Return a target's values of the stimuli that models were trained on, (stimulus, …), in the store's order."""
    stored, names = store.target(target).values("train")
    rows = np.array([row for row, name in enumerate(names) if name in trained_on], np.int64)
    return stored[rows].astype(np.float32), [names[row] for row in rows]


def control_predictions(
    store: Store,
    target: str,
    own: Predictions,
    known: BesideTheBrain,
    trained_on: Collection[str],
    evaluation: EvaluationConfig,
    seed: int,
    categories: Categories | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Return a target's predictions by what is known beside the brain, by control, (stimulus, …) each.

    Parameters
    ----------
    own : the subject's predictions, with the truth and the classes of the test stimuli
    known : of this subject and these test stimuli
    categories : those of another target, so that all roles of a stimulus have one; the target's own by default
    """
    rows: dict[str, NDArray[np.float32]] = {}
    values, names = training_targets(store, target, trained_on)
    if CATEGORY in evaluation.controls:
        of_stimuli = categories or Categories.of(store, target, own, trained_on, evaluation.clusters, seed)
        kept = [row for row, name in enumerate(names) if name in of_stimuli.training]
        labels = [of_stimuli.training[names[row]] for row in kept]
        rows[CATEGORY] = category_prediction(values[kept], labels, of_stimuli.test)
    row_of = {name: row for row, name in enumerate(names)}
    for control, (features, wanted) in known.features.items():
        seen = [row for row, name in enumerate(known.training) if name in row_of]
        of_seen = values[[row_of[known.training[row]] for row in seen]]
        rows[control] = linear_prediction(features[seen], of_seen, wanted, seed=seed)
    return rows


def other_brain(store: Store, subject: str, others: Sequence[str]) -> tuple[str | None, str]:
    """Return the first other subject whose columns correspond to a subject's, and a note that names it or the reason.

    Columns correspond where both subjects have the same regions, each one column (parcels), or the same voxel indices
    in one common space. Voxels of two brains in their own spaces do not, whatever their number.
    """
    ours = _places(store.responses(subject))
    there = set(store.names("responses"))
    known = [other for other in others if other != subject and other in there]
    if not known:
        return None, f"no {OTHER_BRAIN}: the models know no other subject"
    if ours is None:
        return None, (
            f"no {OTHER_BRAIN}: the columns of {subject} have no names of their own that other subjects could share; "
            "name each parcel in the table of voxels, or take responses in a common space"
        )
    for other in known:
        theirs = _places(store.responses(other))
        if theirs is not None and theirs == ours:
            return other, f"{OTHER_BRAIN} is {other}'s model on the responses of {subject}"
    return None, f"no {OTHER_BRAIN}: the columns of {subject} correspond to those of no other subject of the models"


def _places(responses: Responses) -> list[tuple[Any, ...]] | None:
    """Return what names each column across subjects, or None where it has no name that others could share."""
    table = responses.voxels
    sides = list(table["hemisphere"]) if "hemisphere" in table else [""] * len(table)
    regions = [(str(roi), str(side)) for roi, side in zip(table["roi"], sides, strict=True)]
    if len(set(regions)) == len(regions):
        return list(regions)
    space = str(responses.attributes.get("space", ""))
    if space in INDIVIDUAL or not {"i", "j", "k"} <= set(table):
        return None
    return [(space, *place) for place in zip(table["i"], table["j"], table["k"], strict=True)]


def predict_by_other(
    store: Store,
    encoder: Encoder,
    regressor: Regressor,
    subject: str,
    other: str,
    stimuli: Sequence[str],
    rois: list[str] | None,
) -> NDArray[np.float32]:
    """Predict a subject's test stimuli by another subject's part of the model, (stimulus, …).

    Raises `StoreError` where the subject did not see one of the stimuli.
    """
    pairs = store.pairs([subject], regressor.target, "test", rois=rois, repeats="single")[subject]
    shown, predicted = predict_stimuli(encoder, regressor, other, pairs.responses, pairs.stimuli)
    row_of = {name: row for row, name in enumerate(shown)}
    for name in stimuli:
        if name not in row_of:
            raise StoreError(f"{subject}: did not see the test stimulus '{name}'{nearest(name, shown)}")
    return predicted[[row_of[name] for name in stimuli]]


def partial_roles(
    store: Store,
    encoder: Encoder,
    regressors: Mapping[str, Regressor],
    subject: str,
    predictions: Mapping[str, Predictions],
    rois: list[str] | None,
    trained_on: Collection[str],
    evaluation: EvaluationConfig,
    seed: int,
) -> tuple[dict[str, dict[str, Array]], list[str]]:
    """Return every role's predictions by each control that knows a part, and a reason for each that is missing.

    Parameters
    ----------
    predictions : by role, of the subject's test stimuli; z among them, whose clusters are the categories of all roles
        where stimuli have no classes

    Returns
    -------
    tuple
        ``{row: {role: (stimulus, …)}}``, and notes.
    """
    wanted, z = evaluation.controls, predictions["z"]
    target = store.target(regressors["z"].target)
    known = beside_the_brain(store.responses(subject), target, trained_on, z.stimuli, wanted, rois)
    categories, notes = None, list(known.notes)
    if CATEGORY in wanted:
        categories = Categories.of(store, regressors["z"].target, z, trained_on, evaluation.clusters, seed)
    of_roles = {
        role: control_predictions(store, regressors[role].target, own, known, trained_on, evaluation, seed, categories)
        for role, own in predictions.items()
    }
    if OTHER_BRAIN in wanted:
        other, note = other_brain(store, subject, regressors["z"].subjects)
        try:
            by_other = {
                role: predict_by_other(store, encoder, regressors[role], subject, other, own.stimuli, rois)
                for role, own in predictions.items()
                if other is not None
            }
        except ModelError as error:  # such as a voxel that only one of the two subjects has
            by_other, note = {}, f"no {OTHER_BRAIN}: {error}"
        notes.append(note)
        for role, predicted in by_other.items():
            of_roles[role][OTHER_BRAIN] = predicted
    return {row: {role: made[row] for role, made in of_roles.items()} for row in of_roles["z"]}, notes


class PartialControls:
    """The controls of a training, subject by subject; what does not depend on a target is found once.

    Parameters
    ----------
    evaluation : which controls are wanted
    rois : the regions that models are fitted on
    trained_on : the stimuli that models are trained on
    """

    def __init__(
        self,
        store: Store,
        evaluation: EvaluationConfig,
        rois: list[str] | None,
        trained_on: Collection[str],
        seed: int,
    ) -> None:
        self._store, self._evaluation, self._rois = store, evaluation, rois
        self._trained_on, self._seed = trained_on, seed
        self._known: dict[str, BesideTheBrain] = {}

    def of_all_routes(
        self, target: str, predictions: Mapping[str, Predictions]
    ) -> tuple[dict[str, list[NDArray[np.float32]]], list[str]]:
        """Return what is the same for all routes: by row every subject's predictions, and a reason for each that lacks.

        A row that one of the subjects cannot have is left out.
        """
        made = {subject: self._of_subject(subject, target, own) for subject, own in predictions.items()}
        first, *others = made.values()
        rows = {row: [one[row] for one in made.values()] for row in first if all(row in other for other in others)}
        notes = [note for subject in predictions for note in self._known[subject].notes]
        if OTHER_BRAIN in self._evaluation.controls:
            notes += [other_brain(self._store, subject, list(predictions))[1] for subject in predictions]
        return rows, list(dict.fromkeys(notes))

    def _of_subject(self, subject: str, target: str, own: Predictions) -> dict[str, NDArray[np.float32]]:
        if subject not in self._known:
            responses, of_target = self._store.responses(subject), self._store.target(target)
            wanted = self._evaluation.controls
            self._known[subject] = beside_the_brain(
                responses, of_target, self._trained_on, own.stimuli, wanted, self._rois
            )
        known = self._known[subject]
        return control_predictions(self._store, target, own, known, self._trained_on, self._evaluation, self._seed)

    def of_models(
        self, encoder: Encoder, regressor: Regressor, predictions: Mapping[str, Predictions]
    ) -> dict[str, list[NDArray[np.float32]]]:
        """Return what goes by a route's own models: every subject's predictions by another's model, or nothing."""
        if OTHER_BRAIN not in self._evaluation.controls:
            return {}
        rows = []
        for subject, own in predictions.items():
            other, _ = other_brain(self._store, subject, regressor.subjects)
            if other is None:
                return {}
            stimuli = own.stimuli
            try:
                rows.append(predict_by_other(self._store, encoder, regressor, subject, other, stimuli, self._rois))
            except ModelError as error:  # such as a voxel that only one of the two subjects has
                report(f"no {OTHER_BRAIN} of {subject}: {error}", 1, 1)
                return {}
        return {OTHER_BRAIN: rows}
