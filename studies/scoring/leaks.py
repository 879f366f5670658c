"""Looks, before anything is scored, for test stimuli that training has seen: by name, by clip and by caption."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.clips import ClipConfig
from core.progress import track
from evaluation.diagnoses.leaks import near_duplicates, shared_captions, shared_stimuli, thumbnails
from feature_store import Store
from feature_store.sources.base import Source, Split
from studies.stores.clip_reading import READERS
from studies.study import Study

FRAMES, SIDE = 8, 32
"""How clips are read to be compared; see `evaluation.diagnoses.leaks.near_duplicates`."""
Thumbnails = NDArray[np.float32]


def find_leaks(study: Study, store: Store, test: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    """Return what the report says of leaks; nothing is refused, whatever is found.

    Parameters
    ----------
    store : Store
        Of the study; its tables of targets hold the captions.
    test, train : stimuli
        The ones that are scored, and the ones that the models were trained on.

    Returns
    -------
    dict
        ``{"stimuli": {"count", "examples"}, "clips": {"count", "threshold", "nearest", "examples"},
        "captions": {"count", "examples"}}``; see `evaluation.diagnoses.leaks`. Where there is nothing to compare, "
        "the count is
        null and `note` says why ("no clips", "no captions"); where some stimuli have no clip, `note` says how many.
    """
    return {
        "stimuli": shared_stimuli(test, train),
        "clips": _clips(study, test, train),
        "captions": _captions(study, store, test, train),
    }


def _clips(study: Study, test: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    seen = study.clips.model_dump(include={"start_s", "window_s", "fit"})
    config = ClipConfig(frames=FRAMES, height=SIDE, width=SIDE, **seen)
    source = study.source.build(project_root())
    found = [_thumbnails(source, names, config, what) for names, what in ((test, "test"), (train, "training"))]
    (test_names, ours), (train_names, theirs) = found
    report = near_duplicates(ours, theirs, test_names=test_names, train_names=train_names)
    if not test_names or not train_names:
        return {**report, "count": None, "note": "no clips"}
    missing = len(test) + len(train) - len(test_names) - len(train_names)
    return {**report, "note": f"{missing} of {len(test) + len(train)} stimuli have no clip"} if missing else report


def _thumbnails(source: Source, stimuli: Sequence[str], config: ClipConfig, what: str) -> tuple[list[str], Thumbnails]:
    """Return the stimuli that have a clip, and their thumbnails, (stimulus, window, feature)."""
    look = _look(source, config)
    with ThreadPoolExecutor(max_workers=READERS) as readers:
        seen = list(track(readers.map(look, stimuli), f"looking for {what} clips seen twice", len(stimuli)))
    there = [(name, one) for name, one in zip(stimuli, seen, strict=True) if one is not None]
    return [name for name, _ in there], np.stack([one for _, one in there]) if there else np.empty(
        (0, 0, 0), np.float32
    )


def _look(source: Source, config: ClipConfig) -> Callable[[str], Thumbnails | None]:
    def look(stimulus: str) -> Thumbnails | None:
        clip = source.clip(stimulus, config)
        return None if clip is None else thumbnails(clip[None])[0]

    return look


def _captions(study: Study, store: Store, test: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    target = store.target(next(iter(study.roles.regressed().values())))

    def told(split: Split, stimuli: Sequence[str]) -> list[list[str]]:
        table = target.stimuli(split)
        captions = dict(zip(table["stimulus"], table["caption"], strict=True))
        return [[one for one in captions.get(stimulus, ()) if one] for stimulus in stimuli]

    ours, theirs = told("test", test), told("train", train)
    if not any(ours) or not any(theirs):
        return {"count": None, "examples": [], "note": "no captions"}
    return shared_captions(ours, theirs)
