"""Decodes targets from each ROI's voxels alone and from all voxels but these, and scores both on the test stimuli.

Every fit is the study's ridge on other columns of the same features. Where it has one penalty a role, the targets are
turned into their own principal components first, all of them: this changes neither the penalty that is chosen nor what
is predicted, and a fit then costs what its rows do, however many values a target has.
"""

from collections.abc import Mapping, Sequence
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
from feature_store.rows import mean_over_repeats
from models.decoders.build import encode_trials
from models.decoders.rows import RegressorRows, flat_targets
from models.encoders.linear import Standardise
from models.encoders.settings import StandardiseConfig
from models.regressors.basis import Basis
from models.regressors.ridge import Ridge, fit_columns
from models.regressors.settings import RidgeConfig
from studies.decoding.predictions import common_stimuli, predict_test
from studies.decoding.training_data import TrainingData
from studies.regions.voxels import Index, Region, outside, same_voxels
from studies.study import RouteConfig

Array = NDArray[Any]
METRICS = ("correlation", "two_way")


@dataclass(frozen=True)
class RidgeRoute:
    """The encoder and the regressor that every ROI is decoded by.

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


def ridge_route(routes: Mapping[str, RouteConfig]) -> RidgeRoute:
    """Return a study's first route of standardised voxels and ridge, or the plain one where it has none."""
    for name, route in routes.items():
        if isinstance(route.encoder, StandardiseConfig) and isinstance(route.regressor, RidgeConfig):
            return RidgeRoute(name, route.encoder, route.regressor)
    return RidgeRoute(None, StandardiseConfig(), RidgeConfig())


@dataclass(frozen=True)
class Decoding:
    """What is decoded from, the same for every role.

    Attributes
    ----------
    store : Store
    rois : the regions that the encoder was fitted on, None for all voxels
    data : TrainingData
    encoder : fitted on `data`
    regressor : RidgeConfig
    trained_on : the training stimuli, whose targets' mean is the control
    permutations : of the test stimuli, for the shuffled brain
    seed : the study's
    """

    store: Store
    rois: list[str] | None
    data: TrainingData
    encoder: Standardise
    regressor: RidgeConfig
    trained_on: set[str]
    permutations: int
    seed: int


class RoleDecoder:
    """Decodes one role's target from any of the voxels.

    Parameters
    ----------
    decoding : Decoding
    target : name of the target
    space : that it is scored in

    Raises
    ------
    ModelError
        The ridge cannot be fitted.
    StoreError
        A subject saw fewer than two test stimuli, or subjects saw other ones.
    """

    def __init__(self, decoding: Decoding, target: str, space: str) -> None:
        self._decoding, self._config = decoding, decoding.regressor
        self.space, self.target = centred(space), target
        features = decoding.data.features(self._config, decoding.encoder)
        rows = decoding.data.roles(self._config, features, {"role": target})["role"][1]
        self._basis = _basis(self._config, rows)
        values = {s: self._projected(own) for s, own in rows.items()}
        fits = {s: fit_columns(own.features, values[s], own.stimuli, self._config) for s, own in rows.items()}
        ridge = Ridge(target, next(iter(rows.values())).shape, fits, self._basis)
        store, rois, trained_on = decoding.store, decoding.rois, decoding.trained_on
        self._whole = {s: predict_test(store, decoding.encoder, ridge, s, rois, trained_on) for s in rows}
        self._first = self._whole[common_stimuli({s: own.stimuli for s, own in self._whole.items()})]
        self._truth = centre(self._first.truth, self._first.mean)
        self._subjects = {
            s: _Subject(
                own.features,
                own.stimuli,
                values[s],
                _test_features(decoding, s, self._whole[s].stimuli),
                same_voxels(own.features),
            )
            for s, own in rows.items()
        }

    @property
    def n_test(self) -> int:
        """How many test stimuli there are."""
        return len(self._first.stimuli)

    def everything(self) -> scores.Rows:
        """Return the scores of all voxels together, and of the same predictions dealt to other stimuli."""
        predicted = {s: own.predicted for s, own in self._whole.items()}
        values = {ALL_VOXELS: self._scored(predicted), SHUFFLED: self._shuffled(predicted)}
        return scores.summarise(values, seed=self._decoding.seed)

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
        rows, seed = {"alone": alone}, self._decoding.seed
        if not all(map(len, others.values())):
            return {**scores.summarise(rows, seed=seed), "without": None, "lost": None}
        rows["without"] = self._scored({s: self._predict(s, rest) for s, rest in others.items()})
        whole = self._scored({s: self._whole[s].predicted for s in region.voxels})
        lost = scores.differences({"all": whole, "without": rows["without"]}, "without", seed=seed)["all"]
        return {**scores.summarise(rows, seed=seed), "lost": lost}

    def _predict(self, subject: str, voxels: Index) -> Array:
        """Fit on some voxels, and return predictions (stimulus, …) of the test stimuli."""
        own = self._subjects[subject]
        fit = fit_columns(own.features[:, voxels], own.values, own.stimuli, self._config)
        ridge = Ridge(self.target, self._first.truth.shape[1:], {subject: fit}, self._basis)
        return ridge.predict(subject, own.test[:, voxels])

    def _projected(self, rows: RegressorRows) -> Array:
        return flat_targets(rows) if self._basis is None else self._basis.project(flat_targets(rows))

    def _scored(self, predicted: dict[str, Array]) -> dict[str, PerStimulus]:
        """Score predictions by subject; (stimulus,) of one subject, (subject, stimulus) of several."""
        return scores.by_subject([self._score(own) for own in predicted.values()])["row"]

    def _score(self, predicted: Array) -> scores.Values:
        metrics = [f"{self.space}.{name}" for name in METRICS]
        rows = {"row": {self.space: centre(predicted, self._first.mean)}}
        return scores.per_stimulus(rows, {self.space: self._truth}, metrics=metrics)

    def _shuffled(self, predicted: dict[str, Array]) -> dict[str, PerStimulus]:
        count, seed = self._decoding.permutations, self._decoding.seed
        orders = [shuffle_stimuli(self.n_test, seed_for(seed, "shuffled brain", index)) for index in range(count)]
        parts = [scores.average([self._score(own[order]) for order in orders]) for own in predicted.values()]
        return scores.by_subject(parts)["row"]


def decode_role(decoder: RoleDecoder, regions: Sequence[Region], role: str) -> dict[str, Any]:
    """Return a role's part of regions.json; see docs/regions.md."""
    scored, what = {}, f"decoding {role} from each ROI and without it"
    report(what, 0, len(regions))
    for done, region in enumerate(regions, start=1):
        scored[region.name] = decoder.region(region)
        report(what, done, len(regions), region.name)
    metrics = [f"{decoder.space}.{name}" for name in METRICS]
    return {"target": decoder.target, "metrics": metrics, "rows": decoder.everything(), "regions": scored}


def _basis(config: RidgeConfig, rows: dict[str, RegressorRows]) -> Basis | None:
    """Return the basis of the targets: the route's components, or all there are, which leaves a common penalty."""
    if config.components is not None:
        return Basis.fit_rows(rows, config.components)
    if config.penalty_per == "target":
        return None
    return Basis.fit_rows(rows, sum(len(set(own.stimuli)) for own in rows.values()))


def _test_features(decoding: Decoding, subject: str, stimuli: list[str]) -> Array:
    """Return features of the test stimuli, (stimulus, voxel), means over repetitions: ridge is linear in them."""
    values, trials = decoding.store.responses(subject).values("test", rois=decoding.rois)
    features, names = mean_over_repeats(encode_trials(decoding.encoder, subject, values), trials)
    row_of = {name: row for row, name in enumerate(names)}
    return np.asarray(features[[row_of[name] for name in stimuli]])
