"""Scores of predicted targets: each route beside the mean predictor and the shuffled brain, averaged over subjects."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.progress import track
from core.seeds import seed_for
from evaluation import scores
from evaluation.controls import shuffle_stimuli
from feature_store import Store
from models.parts import Encoder, Regressor
from studies.cross_validate import cross_validate
from studies.predictions import Predictions, common_stimuli, predict_test
from studies.study import Study


def score_training(
    study: Study, store: Store, encoder: Encoder, regressors: dict[str, Regressor], run: str
) -> dict[str, Any]:
    """Return what `scores.json` holds; see docs/formats.md."""
    targets, n_test = {}, 0
    for role, regressor in track(list(regressors.items()), "scoring on test stimuli"):
        made = {
            subject: predict_test(store, encoder, regressor, subject, study.encoder.rois)
            for subject in regressor.subjects
        }
        first = common_stimuli({subject: one.stimuli for subject, one in made.items()})
        groups, n_test = made[first].groups, len(made[first].stimuli)
        values = scores.average([_values(study, regressor.target, one) for one in made.values()])
        targets[role] = {
            "target": regressor.target,
            "rows": scores.summarise(values, seed=study.seed, groups=groups),
            "dropped": {subject: one.dropped for subject, one in made.items()},
            "regressor": regressor.state()[0],
        }
    report = {"schema": scores.SCHEMA, "study": study.study, "run": run, "n_test": n_test, "targets": targets}
    if study.evaluation.folds is not None:
        report["cross_validation"] = cross_validate(study, store, encoder.subjects)
    return report


def _values(study: Study, target: str, made: Predictions) -> scores.Values:
    space, metrics = study.space(target), study.evaluation.metrics

    def of(rows: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        values = scores.per_stimulus({"row": {space: rows}}, {space: made.truth}, metrics=metrics, groups=made.groups)
        return values["row"]

    # One shuffled order of few stimuli says little, so the control is averaged over several.
    seeds = [seed_for(study.seed, "shuffled brain", index) for index in range(study.evaluation.permutations)]
    shuffled = [{"shuffled_brain": of(made.predicted[shuffle_stimuli(len(made.truth), seed)])} for seed in seeds]
    ours = {study.regressor.kind: of(made.predicted), "mean_predictor": of(made.mean)}
    return {**ours, **scores.average(shuffled)}
