"""Fits a study's routes on its stores, chooses one on validation, scores all: a training run on disk, not registered.

Several processes train the networks together; see `studies.training.distributed_worker`.
"""

import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import relative_to_root
from core.code import code_digest
from core.files import digest_json, read_json, staged_folder, write_bytes, write_json
from core.machine import this_machine
from core.progress import report
from core.subjects import is_group, members_of
from core.threads import computing
from evaluation.config import EvaluationConfig
from evaluation.report.charts.training import route_table_png
from evaluation.statistics import scores
from evaluation.statistics.ceilings import Ceiling, prediction_ceiling
from evaluation.statistics.order import TimeOrder
from evaluation.statistics.scores import MEAN, NOISE_CEILING, SHUFFLED
from evaluation.statistics.spaces import centre, centred, is_centred
from feature_store import Store
from feature_store.sources.base import SPLITS
from models.decoders.build import Encoder, Regressor, save_part
from models.regressors.penalty import penalty_notes
from models.training.checkpoints import Checkpoints
from models.training.distributed import workers
from models.training.loop import Context, History
from studies.checking.stored import faults_of_store
from studies.checking.trials import require
from studies.decoding.control_predictions import PartialControls
from studies.decoding.order import diagnose_time, refuse_dense
from studies.decoding.predictions import (
    Predictions,
    common_order,
    common_stimuli,
    predict_test,
    shuffled_scores,
    stimuli_trained_on,
)
from studies.decoding.training_data import (
    decoded_subjects,
    describe_target,
    read_training_data,
    stored_subjects,
)
from studies.decoding.voxel_record import record_voxels
from studies.runs import (
    KEPT_FITS,
    PICTURES,
    RECORD,
    SCORES,
    TRAINING,
    UNFINISHED,
    VALIDATION,
    TrainingRef,
    git_commit,
    place_run,
    publish_latest,
    write_timed_record,
)
from studies.stores.kept import Kept
from studies.study import Study
from studies.training.cross_validation import CrossValidation, require_folds
from studies.training.fitted import FittedBaseline, FittedRoute, fit_baseline, fit_route
from studies.training.kept_fits import NO_KEPT_FITS, KeptFits
from studies.training.pictures import held_out_sheet, write_curves, write_filled_in
from studies.training.routes import Choice, choose_route, comparable

Array = NDArray[Any]


def predict_role(
    store: Store,
    encoder: Encoder,
    regressor: Regressor,
    rois: list[str] | None,
    trained_on: Collection[str],
    *,
    dense: bool = False,
) -> dict[str, Predictions]:
    """Return the predictions of every subject's test stimuli; see `predict_test`."""
    return {
        subject: predict_test(store, encoder, regressor, subject, rois, trained_on, noise=True, dense=dense)
        for subject in regressor.subjects
    }


CENTRED_APART = "trained on other stimuli than the first route, so its centred scores are not subtracted"


class RoleScores:
    """Scores every route's predictions of one target; the predictions themselves are not kept.

    Parameters
    ----------
    target, space : name of the target, and of the space that it is scored in
    evaluation : the metrics, and the permutations of the shuffled control
    """

    def __init__(self, target: str, space: str, evaluation: EvaluationConfig, seed: int) -> None:
        self._target, self._space, self._evaluation, self._seed = target, space, evaluation, seed
        self._values: scores.Values = {}
        self._controls: dict[str, scores.Values] = {}
        self._ceilings: dict[str, scores.Rows] = {}
        self._partial: scores.Values = {}
        self._notes: list[str] = []
        self._described: dict[str, Any] = {}
        self._groups: list[str] | None = None
        self._order: TimeOrder | None = None
        self._subjects = 1
        self._dropped: dict[str, dict[str, int]] = {}
        self._group_decoders: dict[str, list[str]] = {}
        self._mean: Array | None = None
        self._centred_apart: list[str] = []
        self.n_test = 0

    def add(
        self,
        route: str,
        regressor: Regressor,
        predictions: dict[str, Predictions],
        by_models: Mapping[str, Sequence[Array]] | None = None,
    ) -> None:
        """Score one route's predictions, per subject, and those of controls that go by the route's own models.

        Parameters
        ----------
        by_models : by row, every subject's predictions by such a control, (stimulus, …)
        """
        first = predictions[common_stimuli({subject: own.stimuli for subject, own in predictions.items()})]
        self._groups, self.n_test = first.groups, len(first.stimuli)
        self._order = common_order([self._order, *(own.order for own in predictions.values())])
        self._subjects = max(self._subjects, len(predictions))
        self._dropped |= {subject: own.dropped for subject, own in predictions.items()}
        self._mean = first.mean[0] if self._mean is None else self._mean
        if not np.array_equal(first.mean[0], self._mean):
            self._centred_apart.append(route)
        if any(map(is_group, predictions)):
            self._group_decoders[route] = members_of(next(iter(predictions)))
        subjects = list(predictions.values())
        self._values[route] = scores.by_subject([self._score(own, own.predicted) for own in subjects])["row"]
        if MEAN not in self._values:
            self._values[MEAN] = scores.by_subject([self._score(own, np.asarray(own.mean)) for own in subjects])["row"]
        self._controls[route] = {SHUFFLED: self._shuffled(subjects), **self._rows(predictions, by_models or {})}
        self._ceilings[route] = self._ceiling(subjects)
        self._described[route] = regressor.state()[0]
        for subject, note in penalty_notes(self._described[route]).items():
            report(f"{route}, {self._target}, {subject}: {note}", 1, 1)

    def add_partial(
        self, predictions: dict[str, Predictions], rows: Mapping[str, Sequence[Array]], notes: Sequence[str]
    ) -> None:
        """Score rows that know a part of what a model should know, the same for all routes.

        Parameters
        ----------
        predictions : any route's, for the truth
        rows : by row, every subject's predictions, (stimulus, …)
        notes : a reason for each row that is missing
        """
        self._partial = self._rows(predictions, rows)
        self._notes = list(notes)

    def _rows(self, predictions: dict[str, Predictions], rows: Mapping[str, Sequence[Array]]) -> scores.Values:
        return {
            row: scores.by_subject(
                [self._score(own, values) for own, values in zip(predictions.values(), listed, strict=True)]
            )["row"]
            for row, listed in rows.items()
        }

    def report(self, chosen: str, baseline: str) -> dict[str, Any]:
        """Return the target's section of `scores.json`: all routes, with the controls of the chosen one among them.

        Parameters
        ----------
        baseline : the route that every other one is compared with, stimulus by stimulus
        """
        how: dict[str, Any] = {"groups": self._groups, "order": self._order}
        routes = {name: values for name, values in self._values.items() if name != MEAN}
        rows = {**routes, **self._partial, MEAN: self._values[MEAN], **self._controls[chosen]}
        paired, compared = as_many_subjects(routes), as_many_subjects(rows)
        controls = {
            name: {**scores.summarise(values, **how), **self._ceilings[name]} for name, values in self._controls.items()
        }
        return {
            "target": self._target,
            "routes": list(routes),
            "chosen": chosen,
            "rows": {**scores.summarise(rows, **how), **self._ceilings[chosen]},
            "baseline": baseline,
            "differences": self._differences(scores.differences(paired, baseline, **how)),
            "controls": controls,
            "comparisons": scores.comparisons(compared, seed=self._seed, row=chosen, **how),
            "notes": [*self._notes, *(f"{route}: {CENTRED_APART}" for route in self._centred_apart)],
            **({"group_decoders": self._group_decoders} if self._group_decoders else {}),
            "dropped": self._dropped,
            "regressor": self._described[chosen],
            "penalties": {route: notes for route, own in self._described.items() if (notes := penalty_notes(own))},
        }

    def how_computed(self, reports: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Return the keys of `scores.json` that name its intervals; see `scores.how_computed`."""
        rows = [report["rows"] for report in reports]
        return scores.how_computed(rows, subjects=self._subjects, order=self._order)

    def _differences(self, of_all: scores.Rows) -> scores.Rows:
        """Return differences without those of scores that are centred on the means of other training stimuli."""
        return {
            route: {
                name: entry
                for name, entry in entries.items()
                if route not in self._centred_apart or not is_centred(name.rpartition(".")[0])
            }
            for route, entries in of_all.items()
        }

    def _score(self, own: Predictions, rows: Array) -> scores.Values:
        """Score one subject's rows, (stimulus, …), as they are and less the training mean."""
        predicted = {self._space: rows, centred(self._space): centre(rows, own.mean)}
        truth = {self._space: own.truth, centred(self._space): centre(own.truth, own.mean)}
        return scores.per_stimulus({"row": predicted}, truth, metrics=self._evaluation.metrics, groups=own.groups)

    def _shuffled(self, subjects: list[Predictions]) -> dict[str, Any]:
        count = self._evaluation.permutations
        return scores.by_subject(
            [
                shuffled_scores(partial(self._score, own), own.predicted, count, self._seed, own.order)
                for own in subjects
            ]
        )["row"]

    def _ceiling(self, subjects: list[Predictions]) -> scores.Rows:
        name = f"{centred(self._space)}.correlation"
        if not {"correlation", name} & set(self._evaluation.metrics):
            return {}
        ceilings = [
            prediction_ceiling(own.truth, own.predicted, own.noise, own.mean, order=own.order)
            for own in subjects
            if own.noise is not None
        ]
        return {NOISE_CEILING: {name: Ceiling.mean(ceilings).entry()}} if len(ceilings) == len(subjects) else {}


def as_many_subjects(routes: scores.Values) -> scores.Values:
    """Return values by route with a group decoder's repeated for each subject, (subject, n), beside those of subjects.

    Less a subject's values, they are what this subject's decoder lacks, so that differences are over subjects too.
    """
    subjects = max((len(own) for metrics in routes.values() for own in metrics.values() if own.ndim == 2), default=1)
    alone = {route for route, metrics in routes.items() if any(own.ndim == 1 for own in metrics.values())}
    if subjects == 1 or not alone:
        return routes
    repeated = scores.by_subject([{route: routes[route] for route in alone}] * subjects)
    return {route: repeated.get(route, metrics) for route, metrics in routes.items()}


def fit(study: Study) -> TrainingRef:
    """Fit and score the study's models, unless a run made from the same stores, settings and code is already there.

    Writes ``outputs/<study>/training/<run>/`` with `scores.json`, `curves.json`, `training.json`, `pictures/` and one
    folder per part. Killed, it goes on from the checkpoints in a folder beside, to the same bytes.
    """
    store = Store(study.store)
    record = training_made_from(study, store, stored_subjects(store, study.source.named_subjects))
    runs = study.outputs / TRAINING
    sources = {name: record[name] for name in ("stores", "settings", "code")}
    folder, fresh = place_run(runs, RECORD, record["fingerprint"], "training", sources)
    unfinished = runs / f"{UNFINISHED}{record['fingerprint'][:12]}"
    if not fresh:
        require(faults_of_store(store, record["subjects"], study.training, study.seed))
        context = Context(study.seed, checkpoints=Checkpoints(unfinished, made_from=sources), scratch=runs)
        staging = unfinished.with_name(f"{unfinished.name}.staging")
        with computing(study.training.threads), _destination(folder, staging) as building:
            record["digests"] = _fit_into(study, store, record, building, folder.name, context)
            stimuli = stimuli_trained_on(store, record["subjects"], study.training.stimuli, study.seed)
            record |= {"processes": workers().num_processes, "voxels": {}}
            for subject in record["subjects"]:
                voxels = record_voxels(store, subject, study.training.rois, stimuli)
                record["voxels"][subject] = voxels.model_dump(mode="json")
            write_timed_record(building / RECORD, record)
    if workers().is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
        publish_latest(folder)
    workers().wait_for_everyone()
    reference = TrainingRef(
        study=study.study, run="", folder="", fingerprint=record["fingerprint"], digests={}, fresh=False
    )
    if not workers().is_main_process:  # which alone keeps what was written
        return reference
    written = {"run": folder.name, "folder": relative_to_root(folder), "fresh": fresh}
    return reference.model_copy(update={**written, "digests": read_json(folder / RECORD)["digests"]})


@contextmanager
def _destination(folder: Path, staging: Path) -> Iterator[Path]:
    """Yield where a run is written: of several processes, the first one's is kept."""
    if workers().is_main_process:
        with staged_folder(folder, staging) as building:
            yield building
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)


def _kept_fits(folder: Path, record: Mapping[str, Any], decoded: Sequence[str]) -> KeptFits:
    """Return what earlier trainings fitted on the same data and left in a folder.

    Nothing where several processes train, which would have to find the same, or where subjects are not in the
    alphabetical order in which saved parts have them.
    """
    if workers().num_processes > 1 or record["subjects"] != sorted(record["subjects"]):
        return NO_KEPT_FITS
    settings = record["settings"]
    made_from = {
        "stores": record["stores"],
        "seed": settings["seed"],
        "roles": settings["roles"],
        "training": {name: own for name, own in settings["training"].items() if name not in ("routes", "selection")},
        "decoded": list(decoded),
        "machine": this_machine().model_dump(mode="json"),
    }
    return KeptFits(Kept(folder, made_from))


def _fit_into(
    study: Study, store: Store, record: Mapping[str, Any], folder: Path, run: str, context: Context
) -> dict[str, str]:
    """Write every part, the scores and the pictures into a folder, and return the parts' digests."""
    subjects: list[str] = record["subjects"]
    training, evaluation, roles = study.training, study.evaluation, study.roles.regressed()
    first = next(iter(training.routes))
    decoded = decoded_subjects(subjects, {route.pooled for route in training.routes.values()})
    for target in roles.values() if evaluation.folds is not None else ():  # before hours of training, not after them
        require_folds(evaluation.folds or 0, sum(len(store.target(target).stimuli(split)) for split in SPLITS))
    time = _diagnose_time(study, store, subjects)
    data = read_training_data(
        store,
        decoded,
        [*roles.values(), *training.baselines],
        align=study.roles.align,
        rois=training.rois,
        count=training.stimuli,
        seed=study.seed,
    )
    curves: dict[str, History] = {}
    context = replace(context, log=curves.__setitem__)
    kept_fits = _kept_fits(study.outputs / KEPT_FITS, record, decoded)
    choice = choose_route(training, roles, data, context, score_alone=True, kept=kept_fits)
    scorers = {role: RoleScores(target, study.spaces[target], evaluation, study.seed) for role, target in roles.items()}
    known = PartialControls(store, evaluation, training.rois, set(data.stimuli), study.seed)
    kept, pretrained, baselines = None, {}, {}
    for done, (name, route) in enumerate(training.routes.items()):
        report("fitting and scoring routes", done, len(training.routes), name)
        within = context.within(name)
        fitted = kept_fits.once(name, FittedRoute, route, {}, within, partial(fit_route, route, roles, data))
        trained_on = set(data.of(pooled=route.pooled).stimuli)
        predict = partial(
            predict_role, store, fitted.encoder, rois=training.rois, trained_on=trained_on, dense=bool(time["dense"])
        )
        for role, regressor in fitted.regressors.items():
            predictions = predict(regressor)
            scorers[role].add(name, regressor, predictions, known.of_models(fitted.encoder, regressor, predictions))
            if name == first:
                scorers[role].add_partial(predictions, *known.of_all_routes(regressor.target, predictions))
        for target in training.baselines if name == first else ():
            fit_target = partial(fit_baseline, route, fitted.encoder, data, target)
            made_from = {"target": target}
            baseline = kept_fits.once(f"{name}, {target}", FittedBaseline, route, made_from, within, fit_target)
            regressor = baseline.regressor
            scorer = RoleScores(target, study.spaces[target], evaluation, study.seed)
            predictions = predict(regressor)
            scorer.add(name, regressor, predictions)
            scorer.add_partial(predictions, *known.of_all_routes(target, predictions))
            baselines[target] = scorer.report(name, name) | {"chosen": None}
        if held_out := fitted.encoder.state()[0].get("held_out"):
            pretrained[name] = held_out
        if workers().is_main_process:
            write_filled_in(folder / PICTURES / f"{name}-filled-in.png", fitted.encoder, data, study.seed)
        kept = fitted if name == choice.chosen else kept
    report("fitting and scoring routes", len(training.routes), len(training.routes))
    assert kept is not None
    targets = {role: scorer.report(choice.chosen, first) for role, scorer in scorers.items()} | baselines
    table = {
        "schema": scores.SCHEMA,
        "study": study.study,
        "run": run,
        "n_test": next(iter(scorers.values())).n_test,
        **next(iter(scorers.values())).how_computed(targets.values()),
        "targets": targets,
        "selection": choice.summary(training.selection.criterion, study.seed),
        "pretraining": pretrained,
        "diagnoses": {"time": time},
    }
    if evaluation.folds is not None:
        table["cross_validation"] = _cross_validate(study, store, subjects, dense=bool(time["dense"]))
    write_json(folder / SCORES, table)
    if workers().is_main_process:  # what the others write is not kept
        write_bytes(folder / PICTURES / "routes.png", route_table_png(table))
        write_curves(folder, curves)
        _write_validation(study, store, choice, kept.encoder.subjects, folder)
    kept_fits.tidy()
    parts: dict[str, Encoder | Regressor] = {"encoder": kept.encoder}
    parts |= {f"regressor-{role}": regressor for role, regressor in kept.regressors.items()}
    return {name: save_part(folder / name, part, route=choice.chosen) for name, part in parts.items()}


def _diagnose_time(study: Study, store: Store, subjects: list[str]) -> dict[str, Any]:
    """Return how near test and training are in time; raises `ConfigError` where that cannot be told from decoding."""
    targets, allowed = list(study.roles.regressed().values()), study.evaluation.allow_dense_time
    trained_on = stimuli_trained_on(store, subjects, study.training.stimuli, study.seed)
    found = diagnose_time(store, subjects, targets, trained_on, allowed=allowed, seed=study.seed)
    refuse_dense(found, study.study)
    return found


def _cross_validate(study: Study, store: Store, subjects: list[str], *, dense: bool) -> dict[str, Any]:
    """Return the section `cross_validation` of `scores.json`: of the routes that are comparable with the first."""
    training, evaluation = study.training, study.evaluation
    routes = comparable(training.routes)
    pooled = next(iter(routes.values())).pooled
    folds = CrossValidation(
        evaluation.folds or 0,
        training.model_copy(update={"routes": routes}),
        evaluation,
        study.roles.align,
        study.seed,
        dense,
    )
    scored = folds.run(store, decoded_subjects(subjects, {pooled}), study.roles.regressed(), study.spaces)
    kind = "single subjects" if pooled else "a group"
    skipped = {name: f"decodes {kind}, unlike the first route" for name in training.routes if name not in routes}
    return scored | ({"skipped": skipped} if skipped else {})


def _write_validation(study: Study, store: Store, choice: Choice, subjects: list[str], folder: Path) -> None:
    """Write what promotion compares by, and a picture to look at before it."""
    record = choice.record(subjects)
    if record is None or choice.validation is None:
        return
    write_json(folder / VALIDATION, record)
    if (picture := held_out_sheet(study, store, choice.validation)) is not None:
        write_bytes(folder / PICTURES / "held-out.png", picture)


def training_made_from(study: Study, store: Store, subjects: list[str]) -> dict[str, Any]:
    """Return the inputs, settings and code of a training of these subjects as they are now, as in `training.json`.

    Raises `StoreMissing` where a subject or a target is not in the store.

    Returns
    -------
    dict
        `stores`, `settings` and `code`, the `fingerprint` of these three, and `subjects`, `targets` and `git_commit`.
    """
    targets = {*study.roles.regressed().values(), *study.roles.align, *study.training.baselines}
    parts = [(route.encoder, route.regressor) for route in study.training.routes.values()]
    made_from = {
        "stores": {
            **{f"responses/{subject}": store.responses(subject).digest for subject in subjects},
            **{f"targets/{target}": store.target(target).digest for target in sorted(targets)},
        },
        "settings": {
            "seed": study.seed,
            "roles": study.roles.model_dump(mode="json"),
            "training": study.training.model_dump(mode="json"),
            "order": list(study.training.routes),  # of equal routes the first is preferred; a digest knows no order
            "evaluation": study.evaluation.model_dump(mode="json"),
        },
        "code": code_digest(fit, parts, study.generator, study.captioner, study.targets),
    }
    fingerprint = digest_json(made_from)
    described = {role: describe_target(store, name) for role, name in study.roles.regressed().items()}
    more = {"subjects": subjects, "targets": described, "git_commit": git_commit()}
    return {**made_from, "fingerprint": fingerprint, **more}
