"""Scores paired clips with every metric and control that applies to a folder of videos, and draws what came out: the
gallery page, a contact sheet, the diagnoses, the clips as scored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.clips import write_clip
from core.errors import ConfigError
from core.files import canonical_json, write_bytes
from core.progress import report as progress
from core.progress import track
from evaluation.config import LOW_LEVEL, EvaluationConfig
from evaluation.diagnoses.leaks import near_duplicates, shared_stimuli, thumbnails
from evaluation.diagnoses.recall import Nearest, dimension_report, split_by_distance
from evaluation.report.gallery.cards import gallery_items
from evaluation.report.gallery.page import GalleryFigure, diagnosis_figures, render_gallery
from evaluation.report.notes import in_order, missing_notes
from evaluation.report.sheet import contact_sheet, sheet_png
from evaluation.report.verdict import verdict
from evaluation.statistics.controls_partial import (
    Residual,
    cluster_labels,
    held_frame,
    low_level_features,
    shuffle_frames,
)
from evaluation.statistics.scores import CATEGORY, MEAN, NEAREST, RECONSTRUCTION, SHUFFLED_FRAMES, STILL
from evaluation.statistics.spaces import NEEDS_OF_A_FOLDER, centre, centred, residual, why_skipped
from evaluation.statistics.table import Table
from models.classifiers.judges import resized
from models.classifiers.settings import JudgesConfig
from studies.comparison.videos import (
    Captions,
    Clips,
    Paired,
    Sampling,
    black_note,
    probe_all,
    read_made,
    read_shown,
    read_whole,
    videos_in,
)
from studies.runs import GALLERY, SEEN, SHEET, VIDEOS
from studies.scoring import Viewer, load_judges, looked_by

Array = NDArray[Any]
Embed = Callable[[Clips], Array]
NO_MODEL = (
    "no prior, oracle and noise ceiling, no caption_only, z_only, time_only, nuisance and other_brain: they take the "
    "generator, the models and the responses, which a folder does not hold"
)
SHOWN = 24
"""Clips on the contact sheet, the first by name."""
NO_TRAINING = (
    "no mean predictor, nearest training clip, category, low_level and leak checks: name the training clips with "
    "--training"
)
MIN_LOW_LEVEL = 24
"""Training clips that the regression on low-level features needs: twice as many as features."""
SMALL = (8, 32, 32)
"""Frames, height and width at which clips are compared with training clips."""
BATCH = 32


@dataclass(frozen=True)
class Diagnosed:
    """The diagnoses of an evaluation; see `TrainingClips.diagnoses`.

    Attributes
    ----------
    report : `dimension` and `distance`, as `metrics.json` holds them
    nearest_to_truth : the training clip that is most like what was shown
    predicted, truth : (n, …) what clips are compared by, less its training mean
    """

    report: dict[str, Any]
    nearest_to_truth: Nearest
    predicted: Array
    truth: Array


@dataclass(frozen=True)
class Scored:
    """A folder with its scores.

    Attributes
    ----------
    stimuli : those that have a video, in the order of the arrays
    made, seen : (stimulus, frame, height, width, 3) uint8
    captions : where there are any
    table : every row's values
    report : `rows`, `comparisons`, `permutations`, `notes`, `protocols` and, with training clips, `diagnoses`
    diagnosed, like : with training clips, see `TrainingClips.diagnoses`, and those most like the predictions
    """

    stimuli: list[str]
    made: Clips
    seen: Clips
    captions: Captions | None
    table: Table
    report: dict[str, Any]
    diagnosed: Diagnosed | None
    like: Nearest | None


def score_pairs(
    paired: Paired,
    sampling: Sampling,
    captions: Captions | None,
    *,
    training: Path | None,
    judges: JudgesConfig,
    metrics: tuple[str, ...],
    seed: int,
    whole: bool,
) -> Scored:
    """Read and score what was made; nothing is written.

    Raises `ConfigError` where no metric applies.

    Parameters
    ----------
    training : a folder of the clips that the model was trained on
    metrics : `space.metric` or bare names; where empty, all but those that are computed only where they are named
    seed : of the shuffled brain and of the intervals
    whole : see `read_made`
    """
    looking = load_judges(judges)
    clip = looking.clip
    embed = None if clip is None else lambda clips: clip.frames(clips).mean(axis=1)
    known = None if training is None else TrainingClips(training, sampling, embed)
    made, seen = read_made(paired, sampling, whole=whole), read_shown(paired, sampling)
    viewer = Viewer(looking)
    config = EvaluationConfig(metrics=metrics) if metrics else EvaluationConfig()
    truth = _views(_truth(viewer, seen, captions), known)
    table = Table(truth, config, seed=seed, looked=looked_by(judges))
    like = _add_rows(table, viewer, made, captions, known)
    frames = _add_partial(table, viewer, (made, seen), paired.stimuli, known, clusters=config.clusters, seed=seed)
    scored = table.values[RECONSTRUCTION]
    why = why_skipped(config.metrics, list(scored), truth, NEEDS_OF_A_FOLDER)
    if not scored:
        raise ConfigError(f"no metric can be computed: {'; '.join(why)}")
    report = table.report()
    cut = viewer.cut_notes(paired.stimuli, captions.decoded) if captions else []
    notes = [
        *black_note(made, paired.stimuli),
        *(captions.notes if captions else []),
        *missing_notes(table, paired.stimuli),
        *cut,
        *frames,
        *why,
        NO_MODEL,
    ]
    diagnosed = None
    if known is None:
        notes.append(NO_TRAINING)
    else:
        notes += known.notes
        chances = {name: entry["chance"] for name, entry in report["rows"][RECONSTRUCTION].items()}
        diagnosed = known.diagnoses(made, seen, table, chances, seed=seed)
        report["diagnoses"] = {"leaks": known.leaks(paired.stimuli, seen), **diagnosed.report}
    report["notes"] = in_order(notes)
    return Scored(paired.stimuli, made, seen, captions, table, report, diagnosed, like)


def _add_rows(
    table: Table, viewer: Viewer, made: Clips, captions: Captions | None, known: "TrainingClips | None"
) -> Nearest | None:
    """Score the reconstruction and, with training clips, the rows that take no brain."""
    like = None if known is None else known.nearest(made)
    for row in (RECONSTRUCTION, NEAREST, MEAN) if known is not None else (RECONSTRUCTION,):
        clips, words = made, captions.decoded if captions and row == RECONSTRUCTION else None
        if known is not None and like is not None and row != RECONSTRUCTION:
            clips = known.read(like.rows.tolist()) if row == NEAREST else np.broadcast_to(known.mean, made.shape)
        arrays = _views(viewer.look(clips, words), known)
        progress(f"scoring the row {row}", 0, 1)
        table.add(row, arrays)
        progress(f"scoring the row {row}", 1, 1)
    return like


def _add_partial(
    table: Table,
    viewer: Viewer,
    pairs: tuple[Clips, Clips],
    stimuli: Sequence[str],
    known: "TrainingClips | None",
    *,
    clusters: int,
    seed: int,
) -> list[str]:
    """Score rows that know a part: the true category, one frame, frames without order; return why one is missing."""
    made, seen = pairs
    rows, notes = dict[str, Clips](), list[str]()
    if known is not None:
        rows[CATEGORY] = known.of_category(seen, clusters, seed)
    if made.shape[1] > 1:
        rows |= {STILL: held_frame(made), SHUFFLED_FRAMES: shuffle_frames(made, stimuli, seed=seed)}
    else:
        notes.append(f"no {STILL} and {SHUFFLED_FRAMES}: clips have one frame")
    for row, clips in rows.items():
        progress(f"scoring the row {row}", 0, 1)
        table.add(row, _views(viewer.look(clips, None), known))
        progress(f"scoring the row {row}", 1, 1)
    return notes


def _views(arrays: dict[str, Array], known: "TrainingClips | None") -> dict[str, Array]:
    return arrays if known is None else known.views(arrays)


def _truth(viewer: Viewer, seen: Clips, captions: Captions | None) -> dict[str, Array]:
    references = captions.references if captions else None
    arrays = viewer.truth(seen, [[caption] if caption else [] for caption in references or [""] * len(seen)])
    if "clip_frames" in arrays:  # a decoded caption can be compared with the frames where none was written of them
        arrays.setdefault("caption_clip", arrays["clip_frames"])
    return arrays


class TrainingClips:
    """The clips that a model was trained on, each read once; what is kept of them is small.

    Parameters
    ----------
    folder : of videos; see `studies.comparison.videos.videos_in`
    embed : clips (n, frame, height, width, 3) to embeddings (n, width), by which they are compared; by pixels without
    """

    def __init__(self, folder: Path, sampling: Sampling, embed: Embed | None = None) -> None:
        self._sampling, self._embed = sampling, embed
        self.names, paths = map(list, zip(*videos_in(folder).items(), strict=True))
        self._infos = probe_all(paths, "looking at training clips")
        total = np.zeros((sampling.frames, sampling.height, sampling.width, 3))
        vectors, looks, measured, waiting = [], [], [], []
        for row, clip in enumerate(track(read_whole(self._infos, sampling), "reading training clips", len(paths))):
            total += clip
            waiting.append(clip)
            if len(waiting) == BATCH or row == len(paths) - 1:
                clips = np.stack(waiting)
                small = resized(clips, SMALL)
                vectors.append(small if embed is None else embed(clips))
                looks.append(thumbnails(small))
                measured.append(low_level_features(small))
                waiting = []
        self.mean: Clips = np.rint(total / len(paths)).astype(np.uint8)
        """(frame, height, width, 3)"""
        self._rows, self._thumbnails = np.concatenate(vectors), np.concatenate(looks)
        self.notes: list[str] = []
        self._residual: Residual | None = None
        if len(paths) < MIN_LOW_LEVEL:
            self.notes.append(f"no {LOW_LEVEL}: needs {MIN_LOW_LEVEL} training clips, found {len(paths)}")
        else:
            self._residual = Residual.fit(self._rows, np.concatenate(measured))

    @property
    def space(self) -> str:
        """What clips are compared by."""
        return "pixels" if self._embed is None else "clip"

    def _vectors(self, clips: Clips) -> Array:
        return resized(clips, SMALL) if self._embed is None else self._embed(clips)

    def views(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Return arrays of clips with those less their training mean beside them."""
        clips = arrays["pixels"]
        views = {centred("pixels"): centre(clips, self.mean)}
        if self._embed is not None and "clip" in arrays:
            views[centred("clip")] = centre(arrays["clip"], self._rows.mean(axis=0))
        if self._residual is not None:
            small = resized(clips, SMALL)
            rows = small if self._embed is None else arrays["clip"]
            views[residual(self.space)] = self._residual.of(rows, low_level_features(small))
        return arrays | views

    def of_category(self, seen: Clips, clusters: int, seed: int) -> Clips:
        """Return for each clip that was seen the mean of the training clips in its cluster, (n, frame, …) uint8.

        Clusters are found by what clips are compared by; see `evaluation.statistics.controls_partial.cluster_labels`.
        """
        labels, truth = cluster_labels(self._rows, self._vectors(seen), clusters=clusters, seed=seed)
        made = np.empty_like(seen)
        for label in track(np.unique(truth).tolist(), "averaging clusters of training clips"):
            members = np.flatnonzero(labels == label).tolist()
            total = np.zeros(seen.shape[1:])
            for clip in read_whole([self._infos[row] for row in members], self._sampling):
                total += clip
            made[truth == label] = np.rint(total / len(members)).astype(np.uint8)
        return made

    def nearest(self, clips: Clips) -> Nearest:
        """Return the training clips that are most like some clips."""
        return Nearest.among(self._vectors(clips), self._rows, self.names)

    def read(self, rows: Sequence[int]) -> Clips:
        """Return training clips in full, (n, frame, height, width, 3)."""
        return np.stack(list(read_whole([self._infos[row] for row in rows], self._sampling)))

    def leaks(self, stimuli: Sequence[str], seen: Clips) -> dict[str, Any]:
        """Return the part of `metrics.json` on test clips that are training clips; their captions are not known."""
        ours = thumbnails(resized(seen, SMALL))
        clips = near_duplicates(ours, self._thumbnails, test_names=stimuli, train_names=self.names)
        return {"stimuli": shared_stimuli(stimuli, self.names), "clips": clips}

    def diagnoses(
        self, made: Clips, seen: Clips, table: Table, chances: dict[str, float | None], *, seed: int
    ) -> Diagnosed:
        """Return how predictions spread, and how scores depend on the distance to the training clips."""
        near = self.nearest(seen)
        values, defined = table.values[RECONSTRUCTION], table.defined
        split = split_by_distance(values, near.distance, seed=seed, chances=chances, defined=defined)
        mean = self._rows.mean(axis=0, dtype=np.float64)
        ours, truth = (centre(self._vectors(clips), mean) for clips in (made, seen))
        report = {
            "dimension": {self.space: dimension_report(ours, truth)},
            "distance": {"space": centred(self.space), "metrics": split},
        }
        return Diagnosed(report, near, ours, truth)


def write_folder_pictures(folder: Path, name: str, scored: Scored, metrics: dict[str, Any], *, fps: float) -> None:
    """Write an evaluation's gallery and pictures into its folder."""
    write_bytes(folder / SHEET, sheet_png(contact_sheet(scored.seen[:SHOWN], scored.made[:SHOWN])))
    diagnosed, captions, figures = scored.diagnosed, scored.captions, list[GalleryFigure]()
    if diagnosed is not None:
        distance = diagnosed.nearest_to_truth.distance
        figures = diagnosis_figures(
            folder,
            scored.table,
            scored.report,
            predicted=diagnosed.predicted,
            truth=diagnosed.truth,
            distance=distance,
        )
    items = gallery_items(
        scored.stimuli,
        scored.seen,
        scored.made,
        scored.table.values,
        folders=(SEEN, VIDEOS),
        true_captions=captions.seen if captions else None,
        decoded_captions=captions.decoded if captions else None,
        facts=[_facts(scored, index) for index in range(len(scored.stimuli))],
    )
    page = render_gallery(
        title=name,
        verdict=verdict(metrics),
        report=metrics,
        items=items,
        fps=fps,
        figures=figures,
    )
    write_bytes(folder / GALLERY, page.encode())


def _facts(scored: Scored, index: int) -> dict[str, str]:
    if scored.diagnosed is None or scored.like is None:
        return {}
    near = scored.diagnosed.nearest_to_truth
    return {
        "nearest training clip": f"{near.stimuli[index]} (1 − r = {near.distance[index]:.2f})",
        "training clip most like the prediction": scored.like.stimuli[index],
    }


def write_scored(folder: Path, scored: Scored, sampling: Sampling, *, fps: float) -> None:
    """Write the clips as they were scored; each records how it is to be read, should it be scored again."""
    metadata = {"comment": canonical_json({"config": {"clips": sampling.model_dump()}})}
    for name, clips in ((VIDEOS, scored.made), (SEEN, scored.seen)):
        for stimulus, clip in track(list(zip(scored.stimuli, clips, strict=True)), f"writing {name}"):
            write_clip(folder / name / f"{stimulus}.mp4", clip, fps, metadata=metadata)
