"""Decodes targets from each ROI's voxels alone and from all voxels but these, and scores both on the test stimuli.

Every fit is the study's ridge on other columns of the same features. Where it has one penalty a role, the targets are
turned into their own principal components first, all of them: this changes neither the penalty that is chosen nor what
is predicted, and a fit then costs what its rows do, however many values a target has.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from core.progress import report
from evaluation.metrics import PerStimulus
from evaluation.statistics import scores
from evaluation.statistics.scores import ALL_VOXELS, SHUFFLED
from evaluation.statistics.spaces import centre, centred
from feature_store import Store
from feature_store.reader import voxels_in
from feature_store.rows import mean_over_repeats
from feature_store.sources.base import NO_ROI, ROI_SEPARATOR
from models.decoders.build import encode_trials
from models.decoders.rows import RegressorRows, flat_targets
from models.encoders.linear import Standardise
from models.encoders.settings import StandardiseConfig
from models.regressors.basis import Basis
from models.regressors.ridge import Ridge
from models.regressors.ridge_columns import fit_columns
from models.regressors.settings import RidgeConfig
from studies.decoding.predictions import common_order, common_stimuli, predict_test, shuffled_scores
from studies.decoding.training_data import TrainingData
from studies.study import RegionsConfig, RouteConfig

Index = NDArray[np.int64]
SIDES = {"l": "r", "r": "l"}


@dataclass(frozen=True)
class Region:
    """A ROI, or the two sides of one.

    Attributes
    ----------
    name : what it is called
    names : what the store calls it, one or one a side
    voxels : by subject, positions among the voxels that were given; subjects with too few are skipped
    """

    name: str
    names: tuple[str, ...]
    voxels: dict[str, Index]


@dataclass(frozen=True)
class Regions:
    """The ROIs of a study, in the order of its store.

    Attributes
    ----------
    kept : those that are decoded from
    skipped : by ROI, the reason
    notes : one line each, what a reader has to know
    """

    kept: list[Region]
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def why_no_regions(study: str, store: Store, subjects: Sequence[str]) -> str | None:
    """Return why there is nothing to decode from region by region, or None where there is something."""
    for subject in subjects:
        rois = list(store.responses(subject).voxels["roi"])
        if _partial(rois):
            return None
    names = sorted(set(map(str, rois)))
    why = f"all are of '{names[0]}'" if len(names) == 1 and names != [NO_ROI] else "none is named"
    return (
        f"{study}: no ROI that is a part of the brain among the voxels of {', '.join(subjects)} ({why}), so there is "
        "nothing to compare; name ROIs in the source (voxels.csv, source.atlas, or BOLD Moments by region)"
    )


def find_regions(
    config: RegionsConfig, rois: Mapping[str, Sequence[str]], among: Sequence[str] | None = None
) -> Regions:
    """Return the ROIs that are decoded from.

    Raises `ConfigError` where no ROI is left: each has too few voxels, or holds them all.

    Parameters
    ----------
    rois : by subject, the regions of each voxel as the store names them, joined by `ROI_SEPARATOR`
    among : only ROIs of these names, as in `training.rois`; voxels that lie in another one as well are a part of that
    """
    known = {subject: _partial(names) for subject, names in rois.items()}
    partial = set().union(*known.values())
    names = dict.fromkeys(name for own in rois.values() for several in own for name in several.split(ROI_SEPARATOR))
    kept, skipped, notes = [], {}, []
    for name, sides in _grouped([n for n in names if n in partial and _is_among(n, among)], config.sides).items():
        voxels = {
            subject: voxels_in(rois[subject], [side for side in sides if side in there], subject)
            for subject, there in known.items()
            if not there.isdisjoint(sides)
        }
        usable, why = _usable(voxels, rois, config.fewest_voxels)
        if not usable:
            skipped[name] = why
            continue
        kept.append(Region(name, sides, usable))
        notes += [f"{name}: {why}"] if why else []
    if not kept:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(skipped.items())[:3])
        raise ConfigError(
            f"regions: no ROI is left to decode from ({reasons or 'none is named'}); lower regions.fewest_voxels, or "
            "name more ROIs in training.rois"
        )
    largest = sorted(kept, key=lambda region: -sum(map(len, region.voxels.values())))
    skipped |= {region.name: f"not among the {config.most} largest" for region in largest[config.most :]}
    return Regions([region for region in kept if region.name not in skipped], skipped, notes)


def _usable(
    voxels: Mapping[str, Index], rois: Mapping[str, Sequence[str]], min_voxels: int
) -> tuple[dict[str, Index], str]:
    """Return a ROI's voxels in the subjects where it has enough and not all, and why it is skipped in the others."""
    few = {subject: len(rows) for subject, rows in voxels.items() if len(rows) < min_voxels}
    whole = [subject for subject, rows in voxels.items() if len(rows) == len(rois[subject])]
    usable = {subject: rows for subject, rows in voxels.items() if subject not in few and subject not in whole}
    if whole:
        return usable, f"holds every voxel of {', '.join(whole)}"
    counts = ", ".join(f"{subject} ({count})" for subject, count in few.items())
    return usable, f"fewer than {min_voxels} usable voxels in {counts}" if few else ""


def same_voxels(features: NDArray[Any]) -> Index:
    """Return a number for each voxel, (voxel,), equal where two columns of features (row, voxel) are the same bytes.

    Where a dataset comes region by region, a voxel of two regions comes twice, under either name.
    """
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(column.tobytes()).digest() for column in features.T)
    return np.array([seen.setdefault(digest, len(seen)) for digest in digests], dtype=np.int64)


def outside(voxels: Index, same: Index) -> Index:
    """Return all other voxels but those that are the same as one of these; see `same_voxels`."""
    return np.flatnonzero(~np.isin(same, same[voxels]))


def _partial(rois: Iterable[object]) -> set[str]:
    """Return the names of the regions that hold some of the voxels and not all of them."""
    of_voxels = [set(str(names).split(ROI_SEPARATOR)) for names in rois]
    everywhere = set.intersection(*of_voxels) if of_voxels else set()
    return set().union(*of_voxels) - everywhere - {NO_ROI, ""}


def _is_among(name: str, among: Sequence[str] | None) -> bool:
    return among is None or name in among or (name[:1] in SIDES and name[1:] in among)


def _grouped(names: Sequence[str], sides: str) -> dict[str, tuple[str, ...]]:
    """Return the store's names of each ROI: both sides of one that has two, unless it is there without a side too."""
    grouped: dict[str, tuple[str, ...]] = {}
    for name in names:
        whole, other = name[1:], SIDES.get(name[:1], "") + name[1:]
        both = sides == "joined" and name[:1] in SIDES and whole and other in names and whole not in names
        grouped.setdefault(whole if both else name, tuple(sorted((name, other))) if both else (name,))
    return grouped


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
    stimuli : what is left out together when a penalty is chosen, one a row; see `RegressorRows.left_out`
    values : (row, component) what is regressed onto
    test : (stimulus, voxel) features of the test stimuli, means over repetitions
    same : see `same_voxels`
    """

    features: Array
    stimuli: Sequence[str]
    values: Array
    test: Array
    same: Index


def ridge_route(routes: Mapping[str, RouteConfig]) -> RidgeRoute:
    """Return a study's first route of standardised voxels and ridge, or the plain one where it has none.

    All of a region's voxels are decoded from, by ridge as it is: a selection of voxels, variance matching and the
    choice of the penalty by identification are left out, and group decoders passed over.
    """
    plain = {"variance_matching": None, "criterion": "leave_one_stimulus_out"}
    for name, route in routes.items():
        if isinstance(route.encoder, StandardiseConfig) and isinstance(route.regressor, RidgeConfig):
            if route.pooled:
                continue
            by_identification = route.regressor.criterion == "identification"
            changed = plain if by_identification else {"variance_matching": None}
            encoder = route.encoder.model_copy(update={"voxels": None})
            return RidgeRoute(name, encoder, route.regressor.model_copy(update=changed))
    return RidgeRoute(None, StandardiseConfig(), RidgeConfig())


@dataclass(frozen=True)
class Decoding:
    """What is decoded from, the same for every role.

    Attributes
    ----------
    rois : the regions that the encoder was fitted on, None for all voxels
    encoder : fitted on `data`
    trained_on : the training stimuli, whose targets' mean is the control
    permutations : of the test stimuli, for the shuffled brain
    dense : whether trials are dense in time; see `studies.decoding.order.order_of`
    """

    store: Store
    rois: list[str] | None
    data: TrainingData
    encoder: Standardise
    regressor: RidgeConfig
    trained_on: set[str]
    permutations: int
    seed: int
    dense: bool = False


class RoleDecoder:
    """Decodes one role's target from any of the voxels.

    Parameters
    ----------
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
        fits = {s: fit_columns(own.features, values[s], own.left_out, self._config) for s, own in rows.items()}
        ridge = Ridge(target, next(iter(rows.values())).shape, fits, self._basis)
        store, rois, trained_on = decoding.store, decoding.rois, decoding.trained_on
        self._whole = {
            s: predict_test(store, decoding.encoder, ridge, s, rois, trained_on, dense=decoding.dense) for s in rows
        }
        self._order = common_order(own.order for own in self._whole.values())
        self._first = self._whole[common_stimuli({s: own.stimuli for s, own in self._whole.items()})]
        self._truth = centre(self._first.truth, self._first.mean)
        self._subjects = {
            s: _Subject(
                own.features,
                own.left_out,
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
        return scores.summarise(values, order=self._order)

    def how_computed(self, rows: scores.Rows) -> dict[str, Any]:
        """Return the keys of a role's part that name its intervals; see `scores.how_computed`."""
        return scores.how_computed([rows], subjects=len(self._whole), order=self._order)

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
        rows, order = {"alone": alone}, self._order
        if not all(map(len, others.values())):
            return {**scores.summarise(rows, order=order), "without": None, "lost": None}
        rows["without"] = self._scored({s: self._predict(s, rest) for s, rest in others.items()})
        whole = self._scored({s: self._whole[s].predicted for s in region.voxels})
        lost = scores.differences({"all": whole, "without": rows["without"]}, "without", order=order)["all"]
        return {**scores.summarise(rows, order=order), "lost": lost}

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
        return scores.by_subject(
            [shuffled_scores(self._score, own, count, seed, self._whole[s].order) for s, own in predicted.items()]
        )["row"]


def decode_role(decoder: RoleDecoder, regions: Sequence[Region], role: str) -> dict[str, Any]:
    """Return a role's part of regions.json; see docs/regions.md."""
    scored, what = {}, f"decoding {role} from each ROI and without it"
    report(what, 0, len(regions))
    for done, region in enumerate(regions, start=1):
        scored[region.name] = decoder.region(region)
        report(what, done, len(regions), region.name)
    metrics = [f"{decoder.space}.{name}" for name in METRICS]
    rows = decoder.everything()
    return {
        "target": decoder.target,
        "metrics": metrics,
        "rows": rows,
        "regions": scored,
        **decoder.how_computed(rows),
    }


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
