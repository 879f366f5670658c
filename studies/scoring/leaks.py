"""Finds test stimuli that training has seen, before anything is scored: by name, by clip and by caption."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.clips import ClipConfig
from core.progress import track
from evaluation.diagnoses.leaks import near_duplicates, shared_captions, shared_stimuli, thumbnails
from feature_store.reader import Targets
from feature_store.sources.base import Source, Split
from studies.stores.clip_reading import READERS

FRAMES, SIDE = 8, 32
"""Frames and pixels a side of the clips that are compared; see `evaluation.diagnoses.leaks.near_duplicates`."""
Thumbnails = NDArray[np.float32]


def find_leaks(
    source: Source, clips: ClipConfig, target: Targets, test: Sequence[str], train: Sequence[str]
) -> dict[str, Any]:
    """Return a report of leaks; nothing is refused, whatever is found.

    Parameters
    ----------
    source : Source
        Where the clips lie.
    clips : ClipConfig
        How the study reads them: the same seconds and the same fit are compared.
    target : Targets
        Any of the store's; its tables hold the captions.
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
        "clips": _clips(source, clips, test, train),
        "captions": _captions(target, test, train),
    }


def _clips(source: Source, clips: ClipConfig, test: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    config = clips.model_copy(update={"frames": FRAMES, "height": SIDE, "width": SIDE})
    test_names, ours = _thumbnails(source, test, config, "test")
    train_names, theirs = _thumbnails(source, train, config, "training")
    report = near_duplicates(ours, theirs, test_names=test_names, train_names=train_names)
    if not test_names or not train_names:
        return {**report, "count": None, "note": "no clips"}
    missing = len(test) + len(train) - len(test_names) - len(train_names)
    return {**report, "note": f"{missing} of {len(test) + len(train)} stimuli have no clip"} if missing else report


def _thumbnails(source: Source, stimuli: Sequence[str], config: ClipConfig, what: str) -> tuple[list[str], Thumbnails]:
    """Return the stimuli that have a clip, and their thumbnails, (stimulus, window, feature)."""

    def read(stimulus: str) -> Thumbnails | None:
        clip = source.clip(stimulus, config)
        return None if clip is None else thumbnails(clip[None])[0]

    with ThreadPoolExecutor(max_workers=READERS) as readers:
        seen = list(track(readers.map(read, stimuli), f"looking for {what} clips seen twice", len(stimuli)))
    known = {name: clip for name, clip in zip(stimuli, seen, strict=True) if clip is not None}
    return list(known), np.stack(list(known.values())) if known else np.empty((0, 0, 0), np.float32)


def _captions(target: Targets, test: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    def captions_of(split: Split, stimuli: Sequence[str]) -> list[list[str]]:
        table = target.stimuli(split)
        captions = dict(zip(table["stimulus"], table["caption"], strict=True))
        return [[caption for caption in captions.get(stimulus, ()) if caption] for stimulus in stimuli]

    ours, theirs = captions_of("test", test), captions_of("train", train)
    if not any(ours) or not any(theirs):
        return {"count": None, "examples": [], "note": "no captions"}
    return shared_captions(ours, theirs)
