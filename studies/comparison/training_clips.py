"""Training clips of an evaluation: the rows without a brain, the leak checks and the diagnoses that they allow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.progress import track
from evaluation.diagnoses.dimension import dimension_report
from evaluation.diagnoses.distance import Nearest, split_by_distance
from evaluation.diagnoses.leaks import near_duplicates, shared_stimuli, thumbnails
from evaluation.statistics.scores import RECONSTRUCTION, Values
from evaluation.statistics.spaces import centre, centred
from studies.comparison.sampling import Clips, Sampling, read_whole
from studies.comparison.videos import probe_all, videos_in
from studies.scoring.views import resized

Array = NDArray[Any]
SMALL = (8, 32, 32)
"""Frames, height and width at which clips are compared with training clips."""
BATCH = 32
Embed = Callable[[Clips], Array]


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
        self.names, paths = map(list, zip(*videos_in(folder).items(), strict=True))
        self._infos = probe_all(paths, "looking at training clips")
        total = np.zeros((sampling.frames, sampling.height, sampling.width, 3))
        vectors, looks, waiting = [], [], []
        for row, clip in enumerate(track(read_whole(self._infos, sampling), "reading training clips", len(paths))):
            total += clip
            waiting.append(clip)
            if len(waiting) == BATCH or row == len(paths) - 1:
                clips = np.stack(waiting)
                vectors.append(self._vectors(clips))
                looks.append(thumbnails(resized(clips, SMALL)))
                waiting = []
        self.mean: Clips = np.rint(total / len(paths)).astype(np.uint8)
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
        views = {centred("pixels"): centre(arrays["pixels"], self.mean)}
        if self._embed is not None and "clip" in arrays:
            views[centred("clip")] = centre(arrays["clip"], self._rows.mean(axis=0))
        return arrays | views

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
