"""What a folder of training clips adds to an evaluation: the rows without a brain, the leak checks, the diagnoses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.progress import track
from evaluation.diagnoses.dimension import dimension_report
from evaluation.diagnoses.distance import nearest_training, split_by_distance
from evaluation.diagnoses.leaks import near_duplicates, shared_stimuli, thumbnails
from evaluation.statistics.scores import RECONSTRUCTION, Values
from evaluation.statistics.spaces import centre, centred
from models.classifiers.judges import resized
from studies.comparison.sampling import Clips, Sampling, read_whole
from studies.comparison.videos import Film, probe_all, videos_in

Array = NDArray[Any]
SMALL = (8, 32, 32)
"""Frames, height and width at which clips are compared with training clips."""
BATCH = 32
Embed = Callable[[Clips], Array]


@dataclass(frozen=True)
class Nearest:
    """The training clip that is most like each of some clips.

    Attributes
    ----------
    stimuli : its name
    rows : (n,) its place among the training clips
    distance : (n,) 1 − Pearson's r of what they are compared by, less its training mean
    """

    stimuli: list[str]
    rows: NDArray[np.int64]
    distance: NDArray[np.float64]


class TrainingClips:
    """The clips that a model was trained on, each read once; what is kept of them is small.

    Parameters
    ----------
    folder : Path
        Of videos; see `studies.comparison.videos.videos_in`.
    sampling : Sampling
    embed : callable, optional
        Clips (n, frame, height, width, 3) to embeddings (n, width), by which they are compared; by pixels without.
    """

    def __init__(self, folder: Path, sampling: Sampling, embed: Embed | None = None) -> None:
        self._sampling, self._embed = sampling, embed
        found = videos_in(folder)
        self.names = list(found)
        self.films: list[Film] = probe_all(list(found.values()), "looking at training clips")
        total = np.zeros((sampling.frames, sampling.height, sampling.width, 3))
        vectors, looks, waiting = [], [], []
        for row, clip in enumerate(track(read_whole(self.films, sampling), "reading training clips", len(found))):
            total += clip
            waiting.append(clip)
            if len(waiting) == BATCH or row == len(found) - 1:
                clips = np.stack(waiting)
                vectors.append(self._vectors(clips))
                looks.append(thumbnails(resized(clips, SMALL)))
                waiting = []
        self.mean: Clips = np.rint(total / len(found)).astype(np.uint8)
        """(frame, height, width, 3)"""
        self._rows, self._thumbnails = np.concatenate(vectors), np.concatenate(looks)

    @property
    def space(self) -> str:
        """What clips are compared by."""
        return "pixels" if self._embed is None else "clip"

    def _vectors(self, clips: Clips) -> Array:
        return resized(clips, SMALL) if self._embed is None else self._embed(clips)

    def views(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Return arrays of clips with those less their training mean beside them."""
        made = {centred("pixels"): centre(arrays["pixels"], self.mean)}
        if self._embed is not None and "clip" in arrays:
            made[centred("clip")] = centre(arrays["clip"], self._rows.mean(axis=0))
        return arrays | made

    def nearest(self, clips: Clips) -> Nearest:
        """Return the training clips that are most like some clips."""
        rows, distance = nearest_training(self._vectors(clips), self._rows)
        return Nearest([self.names[row] for row in rows], rows, distance)

    def read(self, rows: Sequence[int]) -> Clips:
        """Return training clips in full, (n, frame, height, width, 3)."""
        return np.stack(list(read_whole([self.films[row] for row in rows], self._sampling)))

    def leaks(self, stimuli: Sequence[str], seen: Clips) -> dict[str, Any]:
        """Return what `metrics.json` says of test clips that are training clips; captions are not known of these."""
        ours = thumbnails(resized(seen, SMALL))
        found = near_duplicates(ours, self._thumbnails, test_names=stimuli, train_names=self.names)
        return {"stimuli": shared_stimuli(stimuli, self.names), "clips": found}

    def diagnoses(
        self, made: Clips, seen: Clips, values: Values, chances: dict[str, float | None], *, seed: int
    ) -> "Diagnosed":
        """Return how predictions spread, and how scores depend on the distance to the training clips."""
        near = self.nearest(seen)
        split = split_by_distance(values[RECONSTRUCTION], near.distance, seed=seed, chances=chances)
        mean = self._rows.mean(axis=0, dtype=np.float64)
        ours, truth = (centre(self._vectors(clips), mean) for clips in (made, seen))
        report = {
            "dimension": {self.space: dimension_report(ours, truth)},
            "distance": {"space": centred(self.space), "metrics": split},
        }
        return Diagnosed(report, near, ours, truth)


@dataclass(frozen=True)
class Diagnosed:
    """What `TrainingClips.diagnoses` found.

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
