"""Scores paired clips with every metric and control that applies to a folder of videos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from core.progress import report as progress
from evaluation.config import EvaluationConfig
from evaluation.rows import MEAN, NEAREST, RECONSTRUCTION
from evaluation.table import Table
from models.classifiers.config import JudgesConfig
from studies.aligned_clips import Clips, Sampling, black_note, read_made, read_shown
from studies.folder_captions import Captions
from studies.folder_training import Diagnosed, Nearest, TrainingClips
from studies.left_out import OF_A_FOLDER, why_left_out
from studies.paired_folders import Paired
from studies.views import Judges, Viewer

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
    why = why_left_out(config.metrics, list(scored), truth, OF_A_FOLDER)
    if not scored:
        raise ConfigError(f"no metric can be had: {'; '.join(why)}")
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
