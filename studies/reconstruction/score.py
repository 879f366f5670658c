"""Reconstructs the test stimuli with a model set and scores them: all rows, every metric, the diagnoses, the leaks.

Rows beside the reconstruction show what the generator, the training set and the mean can do alone.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.progress import report as progress
from core.subjects import members_of
from evaluation.diagnoses.recall import Nearest, dimension_report, split_by_distance
from evaluation.report.wording import number
from evaluation.statistics.ceilings import Ceiling, prediction_ceiling, widened, with_test_noise
from evaluation.statistics.scores import MEAN, NEAREST, NOISE_CEILING, ORACLE, PRIOR, RECONSTRUCTION, Table
from evaluation.statistics.spaces import NEEDS_OF_A_STUDY, centred, why_skipped
from feature_store import Store
from feature_store.reader import Targets
from models.registry.production import fetch
from models.registry.sets import ModelSet
from studies.decoding.order import diagnose_time
from studies.decoding.predictions import Predictions, predict_test_roles, stimuli_trained_on
from studies.decoding.render import Rendered, Renderer, RoleArrays, renderer_of
from studies.scoring import Viewer, find_leaks, load_judges, views_of_targets
from studies.stores.clip_reading import read_clips
from studies.study import Study

Array = NDArray[Any]
Clips = NDArray[np.uint8]


@dataclass(frozen=True)
class Judged:
    """A reconstruction with its scores.

    Attributes
    ----------
    stimuli : test stimuli
    seen : (stimulus, frame, height, width, 3) uint8
    captions : of what was seen, the first of each stimulus, empty where it has none
    reconstruction : what was rendered from the brain
    table : every row's values
    report : `rows`, `comparisons`, `permutations`, `diagnoses`, `notes`, as `metrics.json` holds them
    predicted, truth : z, (stimulus, …), less the training mean
    nearest_to_prediction, nearest_to_truth : training stimuli
    training_captions : the first caption of each training stimulus, empty where it has none
    """

    stimuli: list[str]
    seen: Clips
    captions: list[str]
    reconstruction: Rendered
    table: Table
    report: dict[str, Any]
    predicted: Array
    truth: Array
    nearest_to_prediction: Nearest
    nearest_to_truth: Nearest
    training_captions: Mapping[str, str]


def render_and_score(study: Study, store: Store, chosen: ModelSet, subject: str) -> Judged:
    """Render and score every row of a subject's test stimuli; nothing is written."""
    encoder, regressors = fetch(chosen)
    training = stimuli_trained_on(store, regressors["z"].subjects, study.training.stimuli, study.seed)
    rois, roles, source = chosen.record["rois"], study.roles.regressed(), study.source.build(project_root())
    allowed, targets_of = study.evaluation.allow_dense_time, list(roles.values())
    time = diagnose_time(store, members_of(subject), targets_of, training, allowed=allowed, seed=study.seed)
    dense = bool(time["dense"])
    predictions = predict_test_roles(store, encoder, regressors, subject, rois, training, noise=True, dense=dense)
    z, stored = predictions["z"], store.target(roles["z"])
    leaks = find_leaks(source, study.clips, stored, z.stimuli, sorted(training))
    spaces = {role: study.spaces[target] for role, target in roles.items()}

    def read(stimuli: list[str]) -> Clips:
        return read_clips(source, stimuli, study.clips)

    seen, captions = read(z.stimuli), true_captions(stored, z.stimuli)
    rows = ControlRows(stored, read, renderer_of(study, store), predictions, training)
    targets = views_of_targets(study.targets, store, z.stimuli, training)
    viewer = Viewer(load_judges(study.judges), targets, [caption for caption in rows.captions.values() if caption])
    truth = viewer.truth(seen, captions)
    table = Table(truth, study.evaluation, seed=study.seed, groups=z.groups)
    ours: Rendered | None = None
    for row, rendered in rows.rendered():
        progress(f"scoring the row {row}", 0, 1)
        table.add(row, viewer.look(rendered.clips, rendered.captions))
        ours = rendered if row == RECONSTRUCTION else ours
    progress("scoring", 1, 1)
    assert ours is not None  # it is the first row
    nearest_to_truth = rows.nearest(z.truth)
    report = table.report()
    if NOISE_CEILING in report["rows"]:
        report["rows"][NOISE_CEILING] = widened(report["rows"], rows.ceilings)
    scored = report["rows"][RECONSTRUCTION]
    why = why_skipped(study.evaluation.metrics, list(scored), truth, NEEDS_OF_A_STUDY)
    diagnoses = _diagnoses(predictions, spaces, table, scored, nearest_to_truth, study.seed)
    return Judged(
        stimuli=z.stimuli,
        seen=seen,
        captions=[several[0] if several else "" for several in captions],
        reconstruction=ours,
        table=table,
        report={**report, "diagnoses": {"leaks": leaks, "time": time, **diagnoses}, "notes": [*rows.notes, *why]},
        predicted=z.predicted - z.mean,
        truth=z.truth - z.mean,
        nearest_to_prediction=rows.nearest_to_prediction,
        nearest_to_truth=nearest_to_truth,
        training_captions=rows.captions,
    )


def true_captions(target: Targets, stimuli: list[str]) -> list[list[str]]:
    """Return the captions of test stimuli, some of each, as a stored target has them."""
    table = target.stimuli("test").set_index("stimulus")
    return [list(captions) for captions in table.loc[stimuli, "caption"]]


def _diagnoses(
    predictions: Mapping[str, Predictions],
    spaces: Mapping[str, str],
    table: Table,
    scored: Mapping[str, Any],
    nearest: Nearest,
    seed: int,
) -> dict[str, Any]:
    """Return the diagnoses of spurious reconstruction; see `evaluation.diagnoses.recall`."""
    chances = {name: entry["chance"] for name, entry in scored.items()}
    values, groups = table.values[RECONSTRUCTION], predictions["z"].groups
    by_distance = split_by_distance(values, nearest.distance, seed=seed, chances=chances, groups=groups)
    dimension = {spaces[role]: dimension_report(own.predicted, own.truth) for role, own in predictions.items()}
    return {"dimension": dimension, "distance": {"space": centred(spaces["z"]), "metrics": by_distance}}


class ControlRows:
    """Renders the rows of a report one after the other; a note gives the reason for each that is skipped.

    Parameters
    ----------
    target : the stored z
    read : returns the clips of some stimuli, (n, frame, height, width, 3) uint8
    predictions : by role, those of the test stimuli, with their noise
    training : the stimuli that the models were trained on
    """

    def __init__(
        self,
        target: Targets,
        read: Callable[[list[str]], Clips],
        renderer: Renderer,
        predictions: Mapping[str, Predictions],
        training: set[str],
    ) -> None:
        self._read, self._renderer, self._predictions = read, renderer, predictions
        self.notes: list[str] = []
        self.ceilings: list[Ceiling] = []
        values, names = target.values("train")
        rows = np.array([row for row, name in enumerate(names) if name in training])
        self._training = values[rows]
        self._names = [names[row] for row in rows]
        captions = target.stimuli("train").set_index("stimulus")["caption"]
        self.captions = {name: (captions[name][0] if captions[name] else "") for name in self._names}
        self.nearest_to_prediction = self.nearest(predictions["z"].predicted)

    def nearest(self, values: Array) -> Nearest:
        """Return the nearest training stimulus of values of z, (n, …)."""
        return Nearest.among(values, self._training, self._names)

    def roles(self) -> dict[str, RoleArrays]:
        """Return z and b of the rows that are rendered as the reconstruction is, without clips yet."""
        rows: dict[str, RoleArrays] = {
            RECONSTRUCTION: {role: own.predicted for role, own in self._predictions.items()},
            MEAN: {role: own.mean for role, own in self._predictions.items()},
            ORACLE: {role: own.truth for role, own in self._predictions.items()},
        }
        ceiling = self._noisy_truth()
        if ceiling is not None:
            rows[NOISE_CEILING] = ceiling
        return rows

    def _noisy_truth(self) -> RoleArrays | None:
        """Return the true targets with the noise of the test responses, and note how well they are known."""
        noisy, said = {}, []
        for role, own in self._predictions.items():
            if own.noise is None:
                self.notes.append("no noise ceiling: most test stimuli were shown once, so their noise is unknown")
                return None
            noisy[role] = with_test_noise(own.truth, own.predicted, own.noise, own.mean)
            ceiling = prediction_ceiling(own.truth, own.predicted, own.noise, own.mean)
            said.append(f"{number(ceiling.value)} [{number(ceiling.low)}, {number(ceiling.high)}] ({role})")
            self.ceilings.append(ceiling)
        self.notes.append(
            f"noise ceiling: before rendering, its targets correlate {', '.join(said)} with the true ones, less the "
            "training mean; the row's intervals cover how uncertain this is"
        )
        return noisy

    def rendered(self) -> Iterator[tuple[str, Rendered]]:
        """Yield every row with its clips and captions, the reconstruction first."""
        z = self._predictions["z"]
        for row, roles in self.roles().items():
            progress(f"rendering the row {row}", 0, 1)
            yield row, self._renderer.render_row(roles, z.stimuli)
        prior = self._renderer.render_prior(z.predicted.shape, z.stimuli)
        if prior is None:
            self.notes.append("no prior: z is decoded directly, without a generator that could invent something")
        else:
            yield PRIOR, prior
        nearest = self.nearest_to_prediction.stimuli
        captions = [self.captions[name] for name in nearest]
        yield NEAREST, Rendered(self._read(nearest), captions if all(captions) else [], [], [])
