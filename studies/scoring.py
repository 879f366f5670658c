"""What is compared of clips and captions: the arrays, by space, and test stimuli that training has seen.

Arrays are made by the extractors of a study's targets and by its `judges`; each of them is optional.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.clips import ClipConfig
from core.progress import track
from evaluation.config import LOW_LEVEL
from evaluation.diagnoses.leaks import near_duplicates, shared_captions, shared_stimuli, thumbnails
from evaluation.metrics.protocols import Looked
from evaluation.report.wording import named
from evaluation.statistics.controls_partial import Residual, low_level_features
from evaluation.statistics.spaces import centre, centred, residual
from feature_store import Store
from feature_store.reader import Targets
from feature_store.sources.base import Source, Split
from models.classifiers.judges import Judges, resized
from models.classifiers.settings import JudgesConfig
from models.extractors.base import Extractor
from models.extractors.settings import ExtractorConfig, GivenConfig, PixelsConfig
from simulation.world import Combination
from studies.stores.clip_reading import READERS

Array = NDArray[Any]
Clips = NDArray[np.uint8]
BLOCK = 256
"""Training targets that are read together for their mean."""


@dataclass(frozen=True)
class TargetView:
    """A stored target by which clips, or captions, are compared as well.

    Attributes
    ----------
    mean : (…) the training targets' mean
    truth : (stimulus, …) the test targets
    """

    space: str
    extractor: Extractor
    mean: Array
    truth: Array


@dataclass(frozen=True)
class LowLevel:
    """A target less what luminance, contrast and motion of the same clip explain, in the space `<target>_residual`.

    Attributes
    ----------
    view : the target, with the truth of the stimuli that are scored
    regression : fitted on training stimuli; see `Residual`
    """

    view: TargetView
    regression: Residual

    def of(self, clips: Clips, values: Array | None = None) -> dict[str, Array]:
        """Return the residuals of clips; `values` are the clips' targets, where they have been made already."""
        made = self.view.extractor.extract(clips) if values is None else values
        return {residual(self.view.space): self.regression.of(made, small_features(clips))}


def small_features(clips: Clips) -> NDArray[np.float64]:
    """Return the low-level features of clips at the size at which those of training clips are read."""
    return low_level_features(resized(clips, (FRAMES, SIDE, SIDE)))


def load_judges(config: JudgesConfig) -> Judges:
    """Load the models that a study's `judges` name."""
    return config.build(project_root(), Combination.read)


def looked_by(config: JudgesConfig) -> dict[str, Looked]:
    """Return the model that makes each space's arrays, by which a report says what protocol it follows."""
    return {space: Looked(weights, frames) for space, (weights, frames) in config.looking().items()}


def revisions_of(config: JudgesConfig) -> dict[str, str]:
    """Return what changes whenever a judge may give other values; see `JudgesConfig.revisions`."""
    return config.revisions(project_root())


class Viewer:
    """Makes the arrays of clips and captions with all judges and extractors that a study has.

    Parameters
    ----------
    targets : of the stimuli that are scored, in their order
    known : captions of the training stimuli, whose mean embedding is what all captions share
    low_level : adds the space of a target's residuals
    """

    def __init__(
        self,
        judges: Judges,
        targets: Sequence[TargetView] = (),
        known: Sequence[str] = (),
        low_level: LowLevel | None = None,
    ) -> None:
        self._judges, self._targets, self._low_level = judges, targets, low_level
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
        if self._low_level is not None:
            space = self._low_level.view.space
            known = made.get(space) if space in {target.space for target in self._targets} else None
            made |= self._low_level.of(clips, known)
        return made

    def _of_captions(self, captions: Sequence[str]) -> dict[str, Array]:
        made = self._judges.of_captions(captions)
        if self._mean_words is not None:
            made[centred("text")] = centre(made["text"], self._mean_words)
        return made

    def cut_notes(
        self, stimuli: Sequence[str], decoded: Sequence[str], seen: Sequence[Sequence[str]] = ()
    ) -> list[str]:
        """Return notes on captions, of each stimulus, that CLIP cuts before it compares them: CLIPScore and others."""
        clip = self._judges.clip
        if clip is None:
            return []
        read = {"decoded": list(decoded), "true": [several[0] for several in seen if several]}
        notes = []
        for what, captions in read.items():
            cut = clip.cut(captions)
            if any(cut):
                names = [stimulus for stimulus, is_cut in zip(stimuli, cut, strict=False) if is_cut]
                which = f" ({named(names)})" if len(captions) == len(stimuli) else ""
                notes.append(
                    f"{sum(cut)} of {len(captions)} {what} captions have more than {clip.max_tokens} tokens{which}: "
                    "CLIPScore and the caption embedding compare their beginnings"
                )
        return notes

    def truth(self, seen: Clips, captions: Sequence[Sequence[str]]) -> dict[str, Array]:
        """Return the arrays of what was shown: clips, and one or more captions of each, none where it has none."""
        made: dict[str, Array] = {"pixels": seen, **self._judges.of_clips(seen)}
        if all(captions):
            first = [several[0] for several in captions]
            made |= self._of_captions(first)
            made["captions"] = _padded(captions)
            if "clip_frames" in made:
                made["caption_clip"] = made["clip_frames"]
            if "caption_attributes" in made and (made["caption_attributes"] >= 0).all():
                made["video_attributes"] = made["caption_attributes"]
        elif any(captions):  # words are compared one stimulus by one; all else takes the captions of all
            made["captions"] = _padded(captions)
        for target in self._targets:
            made |= {target.space: target.truth, centred(target.space): centre(target.truth, target.mean)}
        if self._low_level is not None:
            made |= self._low_level.of(seen, self._low_level.view.truth)
        return made


def views_of_targets(
    targets: Mapping[str, ExtractorConfig],
    spaces: Mapping[str, str],
    store: Store,
    stimuli: Sequence[str],
    training: set[str],
) -> list[TargetView]:
    """Return the targets by which rendered clips and captions can be compared, in the order of `targets`.

    Pixels are not among them, because clips hold them already, nor are embeddings made elsewhere, because nothing here
    can make them; nor is a target that lacks one of the stimuli.

    Parameters
    ----------
    targets, spaces : by name, what makes them, and the space that they are scored in
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
        views.append(TargetView(spaces[name], config.build(project_root()), mean, truth))
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


FRAMES, SIDE = 8, 32
"""Frames and pixels a side of the clips that are compared; see `evaluation.diagnoses.leaks.near_duplicates`."""
Thumbnails = NDArray[np.float32]


class SmallClips:
    """A source's clips at a small size, each read once: what leaks and low-level features are found by.

    Parameters
    ----------
    clips : how the study reads them: the same seconds and the same fit are compared
    """

    def __init__(self, source: Source, clips: ClipConfig) -> None:
        self._source = source
        self._config = clips.model_copy(update={"frames": FRAMES, "height": SIDE, "width": SIDE})
        self._read: dict[str, tuple[Thumbnails, NDArray[np.float64]] | None] = {}

    def _look(self, stimuli: Sequence[str], title: str) -> list[str]:
        """Read what is not known yet, and return the stimuli that have a clip."""

        def read(stimulus: str) -> tuple[Thumbnails, NDArray[np.float64]] | None:
            clip = self._source.clip(stimulus, self._config)
            return None if clip is None else (thumbnails(clip[None])[0], low_level_features(clip[None])[0])

        missing = [name for name in dict.fromkeys(stimuli) if name not in self._read]
        if missing:
            with ThreadPoolExecutor(max_workers=READERS) as readers:
                found = list(track(readers.map(read, missing), title, len(missing)))
            self._read |= dict(zip(missing, found, strict=True))
        return [name for name in stimuli if self._read[name] is not None]

    def thumbnails(self, stimuli: Sequence[str], what: str) -> tuple[list[str], Thumbnails]:
        """Return the stimuli that have a clip, and their thumbnails, (stimulus, window, feature)."""
        names = self._look(stimuli, f"looking for {what} clips seen twice")
        seen = [own[0] for name in names if (own := self._read[name]) is not None]
        return names, np.stack(seen) if seen else np.empty((0, 0, 0), np.float32)

    def low_level(self, stimuli: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
        """Return the stimuli that have a clip, and their low-level features, (stimulus, feature)."""
        names = self._look(stimuli, "measuring luminance, contrast and motion")
        seen = [own[1] for name in names if (own := self._read[name]) is not None]
        return names, np.stack(seen) if seen else np.empty((0, 0))


MIN_LOW_LEVEL = 24
"""Training clips that the regression on low-level features needs: twice as many as features."""


def fit_low_level(
    small: SmallClips, view: TargetView, target: Targets, training: set[str], seed: int
) -> tuple[LowLevel | None, list[str]]:
    """Fit a target's regression on luminance, contrast and motion of the training clips.

    Parameters
    ----------
    view : the target, one that is made of clips
    target : the same as stored
    training : the stimuli that the models were trained on

    Returns
    -------
    tuple
        The regression, or None; and notes on what it lacks.
    """
    stored, names = target.values("train")
    row_of = {name: row for row, name in enumerate(names) if name in training}
    known, features = small.low_level(list(row_of))
    if len(known) < MIN_LOW_LEVEL:
        return None, [f"no {LOW_LEVEL}: needs {MIN_LOW_LEVEL} training clips, found {len(known)}"]
    values = stored[np.array([row_of[name] for name in known])]
    return LowLevel(view, Residual.fit(values, features, seed=seed)), []


def find_leaks(small: SmallClips, target: Targets, test: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    """Return a report of leaks; nothing is refused, whatever is found.

    Parameters
    ----------
    small : the study's clips
    target : any of the store's; its tables hold the captions
    test, train : stimuli
        The ones that are scored, and the ones that the models were trained on.

    Returns
    -------
    dict
        ``{"stimuli": {"count", "examples"}, "clips": {"count", "threshold", "nearest", "examples"},
        "captions": {"count", "examples"}}``; see `evaluation.diagnoses.leaks`. Where there is nothing to compare, the
        count is null and `note` gives the reason ("no clips", "no captions"); where some stimuli have no clip, `note`
        gives their number.
    """
    return {
        "stimuli": shared_stimuli(test, train),
        "clips": _clips(small, test, train),
        "captions": _captions(target, test, train),
    }


def _clips(small: SmallClips, test: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    test_names, ours = small.thumbnails(test, "test")
    train_names, theirs = small.thumbnails(train, "training")
    report = near_duplicates(ours, theirs, test_names=test_names, train_names=train_names)
    if not test_names or not train_names:
        return {**report, "count": None, "note": "no clips"}
    missing = len(test) + len(train) - len(test_names) - len(train_names)
    return {**report, "note": f"{missing} of {len(test) + len(train)} stimuli have no clip"} if missing else report


def _captions(target: Targets, test: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    def captions_of(split: Split, stimuli: Sequence[str]) -> list[list[str]]:
        table = target.stimuli(split)
        captions = dict(zip(table["stimulus"], table["caption"], strict=True))
        return [[caption for caption in captions.get(stimulus, ()) if caption] for stimulus in stimuli]

    ours, theirs = captions_of("test", test), captions_of("train", train)
    if not any(ours) or not any(theirs):
        return {"count": None, "examples": [], "note": "no captions"}
    return shared_captions(ours, theirs)
