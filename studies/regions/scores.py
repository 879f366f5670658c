"""Decodes targets from each ROI's voxels alone and from all voxels but these, and scores both on the test stimuli.

Every fit is the study's ridge on other columns of the same features. Where it has one penalty a role, the targets are
turned into their own principal components first, all of them: this changes neither the penalty that is chosen nor what
is predicted, and a fit then costs what its rows do, however many values a target has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.progress import report
from core.seeds import seed_for
from evaluation.metrics import PerStimulus
from evaluation.statistics import scores
from evaluation.statistics.controls import shuffle_stimuli
from evaluation.statistics.scores import ALL_VOXELS, SHUFFLED
from evaluation.statistics.spaces import centre, centred
from feature_store import Store
from feature_store.views import mean_over_repeats
from models.decoders.predict import encode_trials
from models.decoders.rows import TrainingRows
from models.encoders.settings import StandardiseConfig
from models.encoders.standardise import Standardise
from models.regressors.ridge.basis import Basis
from models.regressors.ridge.columns import fit_columns
from models.regressors.ridge.ridge import Ridge
from models.regressors.settings import RidgeConfig
from studies.decoding.predictions import Predictions, common_stimuli, predict_test
from studies.decoding.training_data import TrainingData
from studies.regions.voxels import Index, Region, outside, same_voxels
from studies.study import Study

Array = NDArray[Any]
METRICS = ("correlation", "two_way")


@dataclass(frozen=True)
class RidgeRoute:
    """What every ROI is decoded by.

    Attributes
    ----------
    name : the study's route, or None where it has none of standardised voxels and ridge
    """

    name: str | None
    encoder: StandardiseConfig
    regressor: RidgeConfig


@dataclass(frozen=True)
class _Subject:
    """One subject's features and targets.

    Attributes
    ----------
    features : (row, voxel) of the training stimuli
    stimuli : the stimulus of each row
    values : (row, component) what is regressed onto
    test : (stimulus, voxel) features of the test stimuli, means over repetitions
    same : see `same_voxels`
    """

    features: Array
    stimuli: list[str]
    values: Array
    test: Array
    same: Index


def ridge_route(study: Study) -> RidgeRoute:
    """Return the study's first route of standardised voxels and ridge, or the plain one where it has none."""
    for name, route in study.training.routes.items():
        if isinstance(route.encoder, StandardiseConfig) and isinstance(route.regressor, RidgeConfig):
            return RidgeRoute(name, route.encoder, route.regressor)
    return RidgeRoute(None, StandardiseConfig(), RidgeConfig())


class RoleDecoder:
    """Decodes one role's target from any of the voxels.

    Parameters
    ----------
    study, store
    route : RidgeRoute
    encoder : fitted on `data`
    data : TrainingData
    target : name of the target

    Raises
    ------
    ModelError
        The ridge cannot be fitted.
    StoreError
        A subject saw fewer than two test stimuli, or subjects saw other ones.
    """

    def __init__(
        self, study: Study, store: Store, route: RidgeRoute, encoder: Standardise, data: TrainingData, target: str
    ) -> None:
        self._study, self._config = study, route.regressor
        self.space, self.target = centred(study.space(target)), target
        rows = data.roles(route.regressor, encoder, {"role": target})["role"][1]
        self._basis = _basis(route.regressor, rows)
        values = {s: self._projected(one) for s, one in rows.items()}
        fits = {s: fit_columns(one.features, values[s], one.stimuli, route.regressor) for s, one in rows.items()}
        ridge = Ridge(target, next(iter(rows.values())).shape, fits, self._basis)
        rois = study.training.rois
        self._made = {s: predict_test(study, store, encoder, ridge, s, rois) for s in rows}
        self._first = self._made[common_stimuli({s: one.stimuli for s, one in self._made.items()})]
        self._truth = centre(self._first.truth, self._first.mean)
        self._subjects = {
            s: _Subject(
                one.features,
                one.stimuli,
                values[s],
                _test_features(study, store, encoder, s, self._made[s]),
                same_voxels(one.features),
            )
            for s, one in rows.items()
        }

    @property
    def n_test(self) -> int:
        """How many test stimuli there are."""
        return len(self._first.stimuli)

    def everything(self) -> scores.Rows:
        """Return the scores of all voxels together, and of the same predictions dealt to other stimuli."""
        made = {s: one.predicted for s, one in self._made.items()}
        values = {ALL_VOXELS: self._scored(made), SHUFFLED: self._shuffled(made)}
        return scores.summarise(values, seed=self._study.seed)

    def region(self, region: Region) -> dict[str, Any]:
        """Return a ROI's scores: of its voxels alone, of all but these, and what is lost without it.

        Returns
        -------
        dict
            ``{"alone": {METRIC: ENTRY}, "without": …, "lost": {METRIC: {"value", "ci95", "higher_is_better"}}}``, the
            last two None where no other voxel is left. What is lost is all voxels' score less that without the ROI.
        """
        alone = self._scored({s: self._predict(s, rows) for s, rows in region.voxels.items()})
        others = {s: outside(rows, self._subjects[s].same) for s, rows in region.voxels.items()}
        rows, seed = {"alone": alone}, self._study.seed
        if not all(map(len, others.values())):
            return {**scores.summarise(rows, seed=seed), "without": None, "lost": None}
        rows["without"] = self._scored({s: self._predict(s, rest) for s, rest in others.items()})
        whole = self._scored({s: self._made[s].predicted for s in region.voxels})
        lost = scores.differences({"all": whole, "without": rows["without"]}, "without", seed=seed)["all"]
        return {**scores.summarise(rows, seed=seed), "lost": lost}

    def _predict(self, subject: str, voxels: Index) -> Array:
        """Fit on some voxels, and return predictions (stimulus, …) of the test stimuli."""
        one = self._subjects[subject]
        fit = fit_columns(one.features[:, voxels], one.values, one.stimuli, self._config)
        ridge = Ridge(self.target, self._first.truth.shape[1:], {subject: fit}, self._basis)
        return ridge.predict(subject, one.test[:, voxels])

    def _projected(self, rows: TrainingRows) -> Array:
        return rows.flat_targets if self._basis is None else self._basis.project(rows.flat_targets)

    def _scored(self, made: dict[str, Array]) -> dict[str, PerStimulus]:
        """Score predictions by subject; (stimulus,) of one subject, (subject, stimulus) of several."""
        return scores.by_subject([self._of(one) for one in made.values()])["row"]

    def _of(self, predicted: Array) -> scores.Values:
        metrics = [f"{self.space}.{name}" for name in METRICS]
        rows = {"row": {self.space: centre(predicted, self._first.mean)}}
        return scores.per_stimulus(rows, {self.space: self._truth}, metrics=metrics)

    def _shuffled(self, made: dict[str, Array]) -> dict[str, PerStimulus]:
        count, seed = self._study.evaluation.permutations, self._study.seed
        orders = [shuffle_stimuli(self.n_test, seed_for(seed, "shuffled brain", index)) for index in range(count)]
        parts = [scores.average([self._of(one[order]) for order in orders]) for one in made.values()]
        return scores.by_subject(parts)["row"]


def decode_role(decoder: RoleDecoder, regions: Sequence[Region], role: str) -> dict[str, Any]:
    """Return what regions.json says of a role's target; see docs/regions.md."""
    found, what = {}, f"decoding {role} from each ROI and without it"
    report(what, 0, len(regions))
    for done, region in enumerate(regions, start=1):
        found[region.name] = decoder.region(region)
        report(what, done, len(regions), region.name)
    metrics = [f"{decoder.space}.{name}" for name in METRICS]
    return {"target": decoder.target, "metrics": metrics, "rows": decoder.everything(), "regions": found}


def _basis(config: RidgeConfig, rows: dict[str, TrainingRows]) -> Basis | None:
    """Return what targets are expressed in: the route's components, or all there are, which leaves a common penalty."""
    if config.components is not None:
        return Basis.fit_rows(rows, config.components)
    if config.penalty_per == "target":
        return None
    return Basis.fit_rows(rows, sum(len(set(one.stimuli)) for one in rows.values()))


def _test_features(study: Study, store: Store, encoder: Standardise, subject: str, made: Predictions) -> Array:
    """Return features of the test stimuli, (stimulus, voxel), means over repetitions: ridge is linear in them."""
    values, stimuli = store.responses(subject).values("test", rois=study.training.rois)
    features, names = mean_over_repeats(encode_trials(encoder, subject, values), stimuli)
    row_of = {name: row for row, name in enumerate(names)}
    return np.asarray(features[[row_of[name] for name in made.stimuli]])
