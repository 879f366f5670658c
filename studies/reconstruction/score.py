"""Reconstructs the test stimuli with a model set and scores them: all rows, every metric, the diagnoses, the leaks.

Rows beside the reconstruction show what the generator, the training set and the mean can do alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.progress import report as progress
from core.subjects import members_of
from evaluation.config import LOW_LEVEL
from evaluation.diagnoses.recall import Nearest, dimension_report, split_by_distance
from evaluation.report.notes import in_order, missing_notes
from evaluation.report.wording import number
from evaluation.statistics.ceilings import Ceiling, prediction_ceiling, widened, with_test_noise
from evaluation.statistics.controls_partial import held_frame, shuffle_frames
from evaluation.statistics.scores import (
    CAPTION_ONLY,
    CATEGORY,
    MEAN,
    NEAREST,
    NOISE_CEILING,
    NUISANCE,
    ORACLE,
    PRIOR,
    RECONSTRUCTION,
    SHUFFLED_FRAMES,
    STILL,
    TIME_ONLY,
    Z_ONLY,
)
from evaluation.statistics.spaces import NEEDS_OF_A_STUDY, centred, why_skipped
from evaluation.statistics.table import Table
from feature_store import Store
from feature_store.reader import Targets
from models.extractors.settings import ExtractorConfig, LatentsConfig, PixelsConfig
from models.registry.production import fetch
from models.registry.sets import ModelSet
from studies.decoding.control_predictions import partial_roles
from studies.decoding.order import diagnose_time
from studies.decoding.predictions import Predictions, predict_test_roles, stimuli_trained_on
from studies.decoding.render import Rendered, Renderer, RoleArrays, renderer_of
from studies.scoring import (
    SmallClips,
    TargetView,
    Viewer,
    find_leaks,
    fit_low_level,
    load_judges,
    looked_by,
    views_of_targets,
)
from studies.stores.clip_reading import read_clips
from studies.stores.kept import NOTHING_KEPT, Kept
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


def render_and_score(study: Study, store: Store, chosen: ModelSet, subject: str, kept: Kept = NOTHING_KEPT) -> Judged:
    """Render and score every row of a subject's test stimuli; nothing is written but what is kept for later runs.

    Parameters
    ----------
    kept : rows that earlier runs rendered of the same
    """
    encoder, regressors = fetch(chosen)
    training = stimuli_trained_on(store, regressors["z"].subjects, study.training.stimuli, study.seed)
    rois, roles, source = chosen.record["rois"], study.roles.regressed(), study.source.build(project_root())
    allowed, targets_of = study.evaluation.allow_dense_time, list(roles.values())
    time = diagnose_time(store, members_of(subject), targets_of, training, allowed=allowed, seed=study.seed)
    dense = bool(time["dense"])
    predictions = predict_test_roles(store, encoder, regressors, subject, rois, training, noise=True, dense=dense)
    z, stored = predictions["z"], store.target(roles["z"])
    small = SmallClips(source, study.clips)
    leaks = find_leaks(small, stored, z.stimuli, sorted(training))
    spaces = {role: study.spaces[target] for role, target in roles.items()}

    def read(stimuli: list[str]) -> Clips:
        return read_clips(source, stimuli, study.clips)

    seen, captions = read(z.stimuli), true_captions(stored, z.stimuli)
    partial, notes = partial_roles(
        store, encoder, regressors, subject, predictions, rois, training, study.evaluation, study.seed
    )
    rows = ControlRows(
        stored,
        read,
        renderer_of(study, store, kept),
        predictions,
        training,
        Partial(partial, study.evaluation.controls, study.evaluation.render_controls, study.seed),
    )
    targets = views_of_targets(study.targets, study.spaces, store, z.stimuli, training)
    known = [caption for caption in rows.captions.values() if caption]
    low_level = None
    if LOW_LEVEL in study.evaluation.controls:
        view = _view_of_z(study.targets[roles["z"]], targets, spaces["z"], z)
        low_level, missing = fit_low_level(small, view, stored, training, study.seed)
        notes += missing
    viewer = Viewer(load_judges(study.judges), targets, known, low_level)
    truth = viewer.truth(seen, captions)
    table = Table(
        truth, study.evaluation, seed=study.seed, groups=z.groups, order=z.order, looked=looked_by(study.judges)
    )
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
    missing = [*missing_notes(table, z.stimuli), *viewer.cut_notes(z.stimuli, ours.captions, captions)]
    why = why_skipped(study.evaluation.metrics, list(scored), truth, NEEDS_OF_A_STUDY)
    diagnoses = _diagnoses(predictions, spaces, table, scored, nearest_to_truth, study.seed)
    return Judged(
        stimuli=z.stimuli,
        seen=seen,
        captions=[several[0] if several else "" for several in captions],
        reconstruction=ours,
        table=table,
        report={
            **report,
            "diagnoses": {"leaks": leaks, "time": time, **diagnoses},
            "notes": in_order([*rows.notes, *notes, *missing, *study.evaluation.controls_left_out(), *why]),
        },
        predicted=z.predicted - z.mean,
        truth=z.truth - z.mean,
        nearest_to_prediction=rows.nearest_to_prediction,
        nearest_to_truth=nearest_to_truth,
        training_captions=rows.captions,
    )


def _view_of_z(config: ExtractorConfig, views: Sequence[TargetView], space: str, z: Predictions) -> TargetView:
    """Return z as clips are compared by it: one of the views, or pixels, which are none of them."""
    assert isinstance(config, PixelsConfig | LatentsConfig)  # else there is nothing to render
    known = [view for view in views if view.space == space]
    return known[0] if known else TargetView(space, config.build(project_root()), z.mean[0], z.truth)


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
    by_distance = split_by_distance(
        values, nearest.distance, seed=seed, chances=chances, groups=groups, defined=table.defined
    )
    dimension = {spaces[role]: dimension_report(own.predicted, own.truth) for role, own in predictions.items()}
    return {"dimension": dimension, "distance": {"space": centred(spaces["z"]), "metrics": by_distance}}


@dataclass(frozen=True)
class Partial:
    """Controls that know a part of what a reconstruction claims to know.

    Attributes
    ----------
    roles : by row, what is predicted of each role without this subject's brain, or by another's model
    wanted : names of controls; see `EvaluationConfig.controls`
    render : see `EvaluationConfig.render_controls`
    seed : of the frames' order
    """

    roles: Mapping[str, RoleArrays] = field(default_factory=dict)
    wanted: Sequence[str] = ()
    render: bool = False
    seed: int = 0

    @property
    def direct(self) -> list[str]:
        """The rows whose z is decoded without the generator."""
        return [] if self.render else [row for row in self.roles if row in DIRECT]


DIRECT = (CATEGORY, TIME_ONLY, NUISANCE)
"""Rows that are decoded directly, unless a study asks for the generator."""


class ControlRows:
    """Renders the rows of a report one after the other; a note gives the reason for each that is skipped.

    Parameters
    ----------
    target : the stored z
    read : returns the clips of some stimuli, (n, frame, height, width, 3) uint8
    predictions : by role, those of the test stimuli, with their noise
    training : the stimuli that the models were trained on
    partial : further controls, those that are wanted
    """

    def __init__(
        self,
        target: Targets,
        read: Callable[[list[str]], Clips],
        renderer: Renderer,
        predictions: Mapping[str, Predictions],
        training: set[str],
        partial: Partial = Partial(),
    ) -> None:
        self._read, self._renderer, self._predictions, self._partial = read, renderer, predictions, partial
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
            **self._partial.roles,
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
            noisy[role] = with_test_noise(own.truth, own.predicted, own.noise, own.mean, order=own.order)
            ceiling = prediction_ceiling(own.truth, own.predicted, own.noise, own.mean, order=own.order)
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
            made = self._renderer.render_row(roles, z.stimuli, direct=row in self._partial.direct, row=row)
            yield row, made
            if row == RECONSTRUCTION:
                yield from self._of_frames(made.clips)
        if self._renderer.generates and self._partial.direct:
            rows = ", ".join(self._partial.direct)
            self.notes.append(f"decoded without the generator: {rows}; evaluation.render_controls: true takes it")
        yield from self._of_one_role()
        prior = self._renderer.render_prior(z.predicted.shape, z.stimuli, row=PRIOR)
        if prior is None:
            self.notes.append("no prior: z is decoded directly, without a generator that could invent something")
        else:
            yield PRIOR, prior
        nearest = self.nearest_to_prediction.stimuli
        captions = [self.captions[name] for name in nearest]
        yield NEAREST, Rendered(self._read(nearest), captions if all(captions) else [], [], [])

    def _of_frames(self, clips: Clips) -> Iterator[tuple[str, Rendered]]:
        """Yield the reconstruction as a still, and with its frames shuffled; without captions, which are the same."""
        wanted = [row for row in (STILL, SHUFFLED_FRAMES) if row in self._partial.wanted]
        if wanted and clips.shape[1] < 2:
            self.notes.append(f"no {' and '.join(wanted)}: clips have one frame")
            return
        for row in wanted:
            stimuli, seed = self._predictions["z"].stimuli, self._partial.seed
            made = held_frame(clips) if row == STILL else shuffle_frames(clips, stimuli, seed=seed)
            yield row, Rendered(made, [], [], [])

    def _of_one_role(self) -> Iterator[tuple[str, Rendered]]:
        """Yield what b gives without z, and z without b."""
        wanted = [row for row in (CAPTION_ONLY, Z_ONLY) if row in self._partial.wanted]
        z, b = self._predictions["z"], self._predictions.get("b")
        if not wanted:
            return
        if b is None or not self._renderer.generates:
            lacks = "the study predicts no caption (roles.b)" if b is None else "z is decoded without a generator"
            self.notes.append(f"no {' and '.join(wanted)}: {lacks}")
            return
        for row in wanted:
            progress(f"rendering the row {row}", 0, 1)
            if row == CAPTION_ONLY:
                made = self._renderer.render_row({"z": z.mean, "b": b.predicted}, z.stimuli, row=row)
            else:
                made = self._renderer.render_without_caption(z.predicted, z.stimuli, row=row)
            yield row, Rendered(made.clips, [], [], [])
