"""Reconstructs the test stimuli with a model set and judges them: all rows, every metric, the diagnoses, the leaks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.progress import report as progress
from evaluation.diagnoses.dimension import dimension_report
from evaluation.diagnoses.distance import split_by_distance
from evaluation.statistics.scores import RECONSTRUCTION, Table
from evaluation.statistics.spaces import NEEDS_OF_A_STUDY, centred, why_skipped
from feature_store import Store
from models.registry.production import fetch
from models.registry.sets import ModelSet
from studies.decoding.predictions import Predictions, predict_test_roles, stimuli_trained_on
from studies.decoding.render import Rendered, Renderer
from studies.reconstruction.controls import ControlRows, Nearest
from studies.scoring.leaks import find_leaks
from studies.scoring.views import Judges, Viewer, views_of_targets
from studies.stores.targets import read_clips
from studies.study import Study

Array = NDArray[Any]


@dataclass(frozen=True)
class Judged:
    """A reconstruction with its scores.

    Attributes
    ----------
    stimuli : test stimuli
    seen : (stimulus, frame, height, width, 3) uint8
    captions : of what was seen, some of each stimulus
    reconstruction : what was rendered from the brain
    table : every row's values
    report : `rows`, `comparisons`, `permutations`, `diagnoses`, `notes`, as `metrics.json` holds them
    predicted, truth : z, (stimulus, …), less the training mean
    nearest_to_prediction, nearest_to_truth : training stimuli
    """

    stimuli: list[str]
    seen: NDArray[np.uint8]
    captions: list[list[str]]
    reconstruction: Rendered
    table: Table
    report: dict[str, Any]
    predicted: Array
    truth: Array
    nearest_to_prediction: Nearest
    nearest_to_truth: Nearest


def judge(study: Study, store: Store, chosen: ModelSet, subject: str) -> Judged:
    """Render and score every row; nothing is written."""
    encoder, regressors = fetch(chosen)
    made = predict_test_roles(study, store, encoder, regressors, subject, chosen.record["rois"], halves=True)
    z, training = made["z"], stimuli_trained_on(study, store, regressors["z"].subjects)
    leaks = find_leaks(study, store, z.stimuli, sorted(training))
    seen = read_clips(study.source.build(project_root()), z.stimuli, study.clips)
    captions = true_captions(study, store, z.stimuli)
    rows = ControlRows(study, store, Renderer(study, store), made, training)
    targets = views_of_targets(study, store, z.stimuli, training)
    viewer = Viewer(Judges(study.judges), targets, rows.training_captions)
    truth = viewer.truth(seen, captions)
    table = Table(truth, study.evaluation, seed=study.seed, groups=z.groups)
    ours: Rendered | None = None
    for row, rendered in rows.rendered():
        progress(f"scoring the row {row}", 0, 1)
        table.add(row, viewer.look(rendered.clips, rendered.captions))
        ours = rendered if row == RECONSTRUCTION else ours
    progress("scoring", 1, 1)
    assert ours is not None  # it is the first row
    of_truth = rows.nearest(z.truth)
    report = table.report()
    skipped = why_skipped(study.evaluation.metrics, list(report["rows"][RECONSTRUCTION]), truth, NEEDS_OF_A_STUDY)
    diagnoses = {"leaks": leaks, **_diagnoses(study, made, table, report["rows"][RECONSTRUCTION], of_truth)}
    return Judged(
        stimuli=z.stimuli,
        seen=seen,
        captions=captions,
        reconstruction=ours,
        table=table,
        report={**report, "diagnoses": diagnoses, "notes": [*rows.notes, *skipped]},
        predicted=z.predicted - z.mean,
        truth=z.truth - z.mean,
        nearest_to_prediction=rows.of_prediction,
        nearest_to_truth=of_truth,
    )


def _diagnoses(
    study: Study, made: dict[str, Predictions], table: Table, scored: dict[str, Any], nearest: Nearest
) -> dict[str, Any]:
    """Return the diagnoses of spurious reconstruction; see `evaluation.diagnoses.dimension` and
    `evaluation.diagnoses.distance`.
    """
    named = study.roles.regressed()
    chances = {name: entry["chance"] for name, entry in scored.items()}
    values, groups = table.values[RECONSTRUCTION], made["z"].groups
    by_distance = split_by_distance(values, nearest.distance, seed=study.seed, chances=chances, groups=groups)
    return {
        "dimension": {
            study.space(named[role]): dimension_report(one.predicted, one.truth) for role, one in made.items()
        },
        "distance": {"space": centred(study.space(named["z"])), "metrics": by_distance},
    }


def true_captions(study: Study, store: Store, stimuli: list[str]) -> list[list[str]]:
    """Return the captions of what was shown, some of each stimulus."""
    table = store.target(study.roles.z or "").stimuli("test").set_index("stimulus")
    return [list(captions) for captions in table.loc[stimuli, "caption"]]
