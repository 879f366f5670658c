"""Scores paired clips with every metric and control that applies to a folder of videos.

The pictures of an evaluated folder: the gallery page, a contact sheet, the diagnoses, the clips as scored.
"""

from collections.abc import Sequence
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
from evaluation.config import EvaluationConfig
from evaluation.report.gallery.page import GalleryFigure, GalleryItem, diagnosis_figures, write_gallery
from evaluation.report.sheet import contact_sheet, sheet_png
from evaluation.report.wording import verdict
from evaluation.statistics import scores
from evaluation.statistics.scores import MEAN, NEAREST, RECONSTRUCTION, Table
from evaluation.statistics.spaces import NEEDS_OF_A_FOLDER, why_skipped
from models.classifiers.settings import JudgesConfig
from studies.comparison.sampling import Clips, Sampling, black_note, read_made, read_shown
from studies.comparison.training_clips import Diagnosed, Nearest, TrainingClips
from studies.comparison.videos import Captions, Paired
from studies.reconstruction.provenance import SEEN, VIDEOS
from studies.scoring.views import Judges, Viewer

Array = NDArray[Any]
NO_MODEL = "no prior, oracle and noise ceiling: they take the generator and the responses, which a folder does not hold"
NO_TRAINING = "no mean predictor, nearest training clip and leak checks: name the training clips with --training"


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

    Parameters
    ----------
    training : Path, optional
        A folder of the clips that the model was trained on.
    metrics : `space.metric` or bare names; where empty, all but those that are computed only where they are named
    seed : int
        Of the shuffled brain and of the intervals.
    whole : bool
        See `read_made`.

    Raises
    ------
    ConfigError
        No metric applies.
    """
    looking = Judges(judges)
    known = _training(training, sampling, looking)
    made, seen = read_made(paired, sampling, whole=whole), read_shown(paired, sampling)
    viewer = _View(Viewer(looking), known)
    config = EvaluationConfig(metrics=metrics) if metrics else EvaluationConfig()
    truth = viewer.truth(seen, captions)
    table = Table(truth, config, seed=seed)
    like = _add_rows(table, viewer, made, captions, known)
    scored = table.values[RECONSTRUCTION]
    why = why_skipped(config.metrics, list(scored), truth, NEEDS_OF_A_FOLDER)
    if not scored:
        raise ConfigError(f"no metric can be computed: {'; '.join(why)}")
    report = table.report()
    notes = [*black_note(made, paired.stimuli), *(captions.notes if captions else []), *why, NO_MODEL]
    diagnosed = None
    if known is None:
        notes.append(NO_TRAINING)
    else:
        chances = {name: entry["chance"] for name, entry in report["rows"][RECONSTRUCTION].items()}
        diagnosed = known.diagnoses(made, seen, table.values, chances, seed=seed)
        report["diagnoses"] = {"leaks": known.leaks(paired.stimuli, seen), **diagnosed.report}
    report["notes"] = notes
    return Scored(paired.stimuli, made, seen, captions, table, report, diagnosed, like)


def _training(folder: Path | None, sampling: Sampling, looking: Judges) -> TrainingClips | None:
    if folder is None:
        return None
    clip = looking.clip
    return TrainingClips(folder, sampling, None if clip is None else lambda clips: clip.frames(clips).mean(axis=1))


def _add_rows(
    table: Table, viewer: "_View", made: Clips, captions: Captions | None, known: TrainingClips | None
) -> Nearest | None:
    """Score the reconstruction and, with training clips, the rows that take no brain."""
    _add(table, RECONSTRUCTION, viewer.look(made, captions))
    if known is None:
        return None
    like = known.nearest(made)
    _add(table, NEAREST, viewer.look(known.read(like.rows.tolist()), None))
    _add(table, MEAN, viewer.look(np.broadcast_to(known.mean, made.shape), None))
    return like


def _add(table: Table, row: str, arrays: dict[str, Array]) -> None:
    progress(f"scoring the row {row}", 0, 1)
    table.add(row, arrays)
    progress(f"scoring the row {row}", 1, 1)


class _View:
    """Looks at clips and captions with the judges and, with training clips, less their mean as well."""

    def __init__(self, viewer: Viewer, training: TrainingClips | None) -> None:
        self._viewer, self._training = viewer, training

    def look(self, clips: Clips, captions: Captions | None) -> dict[str, Array]:
        return self._centred(self._viewer.look(clips, captions.decoded if captions else None))

    def truth(self, seen: Clips, captions: Captions | None) -> dict[str, Array]:
        told = captions.references if captions else None
        arrays = self._viewer.truth(seen, [[one] for one in told] if told else [[] for _ in seen])
        if "clip_frames" in arrays:  # a decoded caption can be held against the frames where none was written of them
            arrays.setdefault("caption_clip", arrays["clip_frames"])
        return self._centred(arrays)

    def _centred(self, arrays: dict[str, Array]) -> dict[str, Array]:
        return arrays if self._training is None else self._training.views(arrays)


GALLERY, SHEET = "gallery.html", "sheet.png"
SHOWN = 24
"""Clips on the contact sheet, the first by name."""


def write_folder_pictures(folder: Path, name: str, made: Scored, metrics: dict[str, Any], *, fps: float) -> None:
    """Write an evaluation's gallery and pictures into its folder."""
    write_bytes(folder / SHEET, sheet_png(contact_sheet(made.seen[:SHOWN], made.made[:SHOWN])))
    write_gallery(
        folder / GALLERY,
        title=name,
        verdict=verdict(metrics),
        report=metrics,
        items=_items(made),
        fps=fps,
        figures=_diagnoses(folder, made),
    )


def write_scored(folder: Path, made: Scored, sampling: Sampling, *, fps: float) -> None:
    """Write the clips as they were scored; each says how it is to be read, should it be scored again."""
    for name, clips in ((VIDEOS, made.made), (SEEN, made.seen)):
        _write_clips(folder / name, made.stimuli, clips, sampling, fps)


def _write_clips(folder: Path, stimuli: Sequence[str], clips: Clips, sampling: Sampling, fps: float) -> None:
    said = {"comment": canonical_json({"config": {"clips": sampling.model_dump()}})}
    for stimulus, clip in track(list(zip(stimuli, clips, strict=True)), f"writing {folder.name}"):
        write_clip(folder / f"{stimulus}.mp4", clip, fps, metadata=said)


def _items(made: Scored) -> list[GalleryItem]:
    captions = made.captions
    return [
        GalleryItem(
            stimulus=stimulus,
            seen=made.seen[index],
            reconstructed=made.made[index],
            seen_file=f"{SEEN}/{stimulus}.mp4",
            reconstructed_file=f"{VIDEOS}/{stimulus}.mp4",
            true_caption=(captions.seen[index] or None) if captions and captions.seen else None,
            decoded_caption=(captions.decoded[index] or None) if captions else None,
            scores=scores.scores_of(made.table.values, index),
            facts=_facts(made, index),
        )
        for index, stimulus in enumerate(made.stimuli)
    ]


def _facts(made: Scored, index: int) -> dict[str, str]:
    if made.diagnosed is None or made.like is None:
        return {}
    near = made.diagnosed.nearest_to_truth
    return {
        "nearest training clip": f"{near.stimuli[index]} (1 − r = {near.distance[index]:.2f})",
        "training clip most like the prediction": made.like.stimuli[index],
    }


def _diagnoses(folder: Path, made: Scored) -> list[GalleryFigure]:
    if made.diagnosed is None:
        return []
    found = made.diagnosed
    distance = found.nearest_to_truth.distance
    return diagnosis_figures(
        folder, made.table, made.report, predicted=found.predicted, truth=found.truth, distance=distance
    )
