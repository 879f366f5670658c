"""Views of clips and captions: the arrays, by space, that metrics compare.

They are made by the extractors of a study's targets and by its `judges`; each of them is optional.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from evaluation.statistics.spaces import centre, centred
from feature_store import Store
from models.classifiers.judges import Judges
from models.classifiers.settings import JudgesConfig
from models.extractors.base import Extractor
from models.extractors.settings import ExtractorConfig, GivenConfig, PixelsConfig
from simulation.world import Combination

Array = NDArray[Any]
Clips = NDArray[np.uint8]
BLOCK = 256
"""Training targets that are read together for their mean."""


@dataclass(frozen=True)
class TargetView:
    """A stored target by which clips, or captions, are compared as well.

    Attributes
    ----------
    space : the space's name
    extractor : what made the target
    mean : (…) the training targets' mean
    truth : (stimulus, …) the test targets
    """

    space: str
    extractor: Extractor
    mean: Array
    truth: Array


def load_judges(config: JudgesConfig) -> Judges:
    """Load the models that a study's `judges` name."""
    return config.build(project_root(), Combination.read)


def revisions_of(config: JudgesConfig) -> dict[str, str]:
    """Return what changes whenever a judge may give other values; see `JudgesConfig.revisions`."""
    return config.revisions(project_root())


class Viewer:
    """Makes the arrays of clips and captions with all judges and extractors that a study has.

    Parameters
    ----------
    judges : Judges
    targets : sequence of TargetView
        Of the stimuli that are scored, in their order.
    known : sequence of str
        Captions of the training stimuli, whose mean embedding is what all captions share.
    """

    def __init__(self, judges: Judges, targets: Sequence[TargetView] = (), known: Sequence[str] = ()) -> None:
        self._judges, self._targets = judges, targets
        clip = judges.clip if known else None
        self._mean_words = None if clip is None else clip.words(list(known)).mean(axis=0)

    def look(self, clips: Clips, captions: Sequence[str] | None) -> dict[str, Array]:
        """Return the arrays of reconstructed clips and, where there are any, of their captions."""
        made: dict[str, Array] = {"pixels": clips, **self._judges.of_clips(clips)}
        if captions:
            made |= self._of_captions(captions)
        for target in self._targets:
            if target.extractor.reads == "clips":
                values = target.extractor.extract(clips)
            elif captions:
                values = target.extractor.extract([[caption or " "] for caption in captions])
            else:
                continue
            made |= {target.space: values.astype(np.float32), centred(target.space): centre(values, target.mean)}
        return made

    def _of_captions(self, captions: Sequence[str]) -> dict[str, Array]:
        made = self._judges.of_captions(captions)
        if self._mean_words is not None:
            made[centred("text")] = centre(made["text"], self._mean_words)
        return made

    def truth(self, seen: Clips, captions: Sequence[Sequence[str]]) -> dict[str, Array]:
        """Return the arrays of what was shown: clips, and one or more captions of each, empty without captions."""
        made: dict[str, Array] = {"pixels": seen, **self._judges.of_clips(seen)}
        if all(captions):
            first = [several[0] for several in captions]
            made |= self._of_captions(first)
            made["captions"] = _padded(captions)
            if "clip_frames" in made:
                made["caption_clip"] = made["clip_frames"]
            if "caption_attributes" in made and (made["caption_attributes"] >= 0).all():
                made["video_attributes"] = made["caption_attributes"]
        for target in self._targets:
            made |= {target.space: target.truth, centred(target.space): centre(target.truth, target.mean)}
        return made


def views_of_targets(
    targets: Mapping[str, ExtractorConfig], store: Store, stimuli: Sequence[str], training: set[str]
) -> list[TargetView]:
    """Return the targets by which rendered clips and captions can be compared, in the order of `targets`.

    Pixels are not among them, because clips hold them already, nor are embeddings made elsewhere, because nothing here
    can make them; nor is a target that lacks one of the stimuli.

    Parameters
    ----------
    targets : by name, what makes them
    stimuli : test stimuli that are scored
    training : the stimuli that the models were trained on
    """
    views = []
    for name, config in targets.items():
        if isinstance(config, PixelsConfig | GivenConfig):
            continue
        target = store.target(name)
        values, names = target.values("test")
        row_of = {stimulus: row for row, stimulus in enumerate(names)}
        if not all(stimulus in row_of for stimulus in stimuli):
            continue
        truth = values[np.array([row_of[stimulus] for stimulus in stimuli])].astype(np.float32)
        mean = _mean_of(target.values("train"), training)
        views.append(TargetView(config.extractor, config.build(project_root()), mean, truth))
    return views


def _mean_of(stored: tuple[Any, list[str]], training: set[str]) -> NDArray[np.float32]:
    values, names = stored
    total, count = np.zeros(values.shape[1:], np.float64), 0
    for start in range(0, len(names), BLOCK):
        kept = np.array([name in training for name in names[start : start + BLOCK]])
        total += values[start : start + BLOCK][kept].sum(axis=0, dtype=np.float64)
        count += int(kept.sum())
    return np.asarray(total / max(1, count), np.float32)


def _padded(captions: Sequence[Sequence[str]]) -> Array:
    """Return captions as (n, reference), empty where a stimulus has fewer than others."""
    most = max(len(several) for several in captions)
    return np.array([[*several, *[""] * (most - len(several))] for several in captions], dtype=object)
