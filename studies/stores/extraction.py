"""Writes an extractor's targets of all stimuli as a group of the feature store."""

import functools
import hashlib
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.checkout import require_same_root
from core.clips import Clip, ClipConfig
from core.errors import ModelError, SourceError
from core.progress import report
from core.protocols import require_members
from core.threads import computing, side_by_side
from feature_store.sources.base import SPLITS, Source, Split
from feature_store.sources.settings import SourceConfig
from feature_store.times import PLACE
from feature_store.writer import GroupWriter, HandOut
from models.extractors.base import CountsCut, Extractor
from models.extractors.settings import ExtractorConfig
from studies.stores.clip_reading import read_ahead

LOADING = threading.Lock()
"""Held while models are loaded: transformers cannot be imported by two threads at once."""
BATCH = 32
"""Stimuli whose captions are extracted together."""
BLOCK = 1024
"""Rows of given embeddings that are checked together."""
Seen = tuple[bytes, str, Split]
"""The digest of a clip's pixels, its stimulus, and the split it is in."""


@dataclass(frozen=True)
class ExtractionTask:
    """What a process needs to compute a target's values; travels with every chunk.

    Attributes
    ----------
    fingerprint : of the group; with other files, weights or code it is another task
    root : the checkout of the calling process, from which relative paths start
    at_once : clips that a process computes side by side; the bytes do not depend on it
    """

    source: SourceConfig = field(hash=False)
    clips: ClipConfig
    target: str
    config: ExtractorConfig = field(hash=False)
    fingerprint: str
    root: Path
    at_once: int = 1


def write_targets(store: Path, task: ExtractionTask, revision: str, hand_out: HandOut | None) -> None:
    """Write a target's values of every stimulus to ``<store>/targets/<target>``.

    Raises `SourceError` where a clip or a caption is missing, a given embedding is not finite, or a clip of training is
    also in test; `ModelError` where an extractor's values are not finite.

    Parameters
    ----------
    revision : of the extractor's weights, an attribute of the group
    hand_out : has workers compute and write the chunks; by default this process does
    """
    extraction = _extraction_of(task)
    extractor, stimuli = extraction.extractor, extraction.stimuli
    if isinstance(extractor, Given):
        extractor.require_finite(list(stimuli["stimulus"]))
    attributes: dict[str, Any] = {
        "target": task.target,
        "extractor": task.config.extractor,
        "revision": revision,
        **_cut_captions(extractor, stimuli),
    }
    dtype = "float32" if isinstance(extractor, Given) else np.dtype(extractor.dtype).name
    axes = ("stimulus", *(f"axis{index}" for index in range(1, len(extractor.shape) + 1)))
    name = f"targets/{task.target}"
    try:
        with GroupWriter(store, name, encoding_type="targets", fingerprint=task.fingerprint, **attributes) as group:
            clips = SeenClips()
            for split in SPLITS:
                here = extraction.split(split)
                rows, shape = TargetValues(task, split), (len(here), *extractor.shape)
                group.array(f"{split}/values", shape, dtype, rows, axes, on_summary=clips.add, hand_out=hand_out)
                columns = [column for column in ("stimulus", "caption", "group", *PLACE) if column in here]
                group.table(f"{split}/stimuli", here[columns])
    finally:
        _extraction_of.cache_clear()  # models are not kept in memory once they have done their work


def _cut_captions(extractor: "Given | Extractor", stimuli: pd.DataFrame) -> dict[str, int]:
    """Count captions that are longer than the extractor takes, and report them."""
    if not isinstance(extractor, CountsCut):
        return {}
    captions = list(stimuli["caption"])
    if cut := extractor.count_cut(captions):
        total = sum(len(several) for several in captions)
        report(f"{cut} of {total} captions are longer than the text encoder takes and are cut", 1, 1)
    return {"captions_cut": cut}


class Given:
    """Embeddings made elsewhere, read from the source in the place of an extractor.

    Attributes
    ----------
    shape : of one stimulus's embedding
    """

    def __init__(self, source: Source, file: str) -> None:
        values = source.target(file)
        if values is None:
            raise SourceError(f"targets/{file}.npy: the source has no such embeddings; add the file, or name another")
        self._values, self._file = values, file
        self.shape: tuple[int, ...] = values.shape[1:]

    def require_finite(self, stimuli: Sequence[str]) -> None:
        """Raise `SourceError` where a value is not finite, or is beyond what float32 holds, naming the first.

        Parameters
        ----------
        stimuli : of each row
        """
        for start in range(0, len(self._values), BLOCK):
            values = np.asarray(self._values[start : start + BLOCK]).reshape(-1, math.prod(self.shape))
            bad = ~(np.abs(values) <= np.finfo(np.float32).max)  # NaN is not either
            if bad.any():
                row, column = np.argwhere(bad)[0]
                raise SourceError(
                    f"targets/{self._file}.npy: row {start + row} (the first is 0), stimulus '{stimuli[start + row]}', "
                    f"holds {values[row, column]}; expected finite numbers that float32 holds; correct the file"
                )

    def rows(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Return the embeddings of some stimuli, by their position among all."""
        return self._values[positions]


@dataclass(frozen=True)
class TargetValues:
    """One split's values, computed block by block in any process."""

    task: ExtractionTask
    split: Split

    def __call__(self, start: int, stop: int, /) -> NDArray[Any]:
        """Return the values of some of the split's stimuli, (stimulus, …)."""
        with computing():
            return _extraction_of(self.task).values(self.split, start, stop)

    def summary(self, start: int, stop: int, /) -> list[Seen]:
        """Return the pixels' digests of some of the split's clips; empty where the target is not made from clips."""
        return _extraction_of(self.task).seen(self.split, start, stop)


@functools.lru_cache(maxsize=1)
def _extraction_of(task: ExtractionTask) -> "TargetExtraction":
    """Return what a process computes a task with; kept from one chunk to the next."""
    require_same_root(task.root)
    with LOADING:
        return TargetExtraction(task)


class TargetExtraction:
    """A source's clips and captions, and the extractor that computes a target from them."""

    def __init__(self, task: ExtractionTask) -> None:
        self._source, self._clips, self._target = task.source.build(task.root), task.clips, task.target
        config, self._at_once = task.config, task.at_once
        self.extractor: Given | Extractor = (
            Given(self._source, config.file or task.target) if config.extractor == "given" else config.build(task.root)
        )
        if not isinstance(self.extractor, Given):
            require_members(type(self.extractor), f"targets.{self._target}: the extractor", [Extractor])
        self.stimuli = self._source.stimuli()
        self._digests: dict[str, bytes] = {}
        if self._reads == "captions":
            for stimulus, captions in zip(self.stimuli["stimulus"], self.stimuli["caption"], strict=True):
                if not captions:
                    raise SourceError(
                        f"stimulus '{stimulus}' has no caption, which this target needs; add one to the source"
                    )

    @property
    def _reads(self) -> str:
        return "rows" if isinstance(self.extractor, Given) else self.extractor.reads

    def split(self, split: Split) -> pd.DataFrame:
        """Return the stimuli of a split."""
        return self.stimuli[self.stimuli["split"] == split]

    def values(self, split: Split, start: int, stop: int) -> NDArray[Any]:
        """Return the values of some of a split's stimuli, (stimulus, …)."""
        stimuli, parts = self.split(split), []
        what, here = f"extracting {self._target}: {split}", stimuli.iloc[start:stop]
        if isinstance(self.extractor, Given):
            return self.extractor.rows(here.index.to_numpy())
        names = list(here["stimulus"])
        if self.extractor.reads == "captions":
            for first in range(start, stop, BATCH):
                last = min(first + BATCH, stop)
                parts.append(self.extractor.extract(list(stimuli["caption"].iloc[first:last])))
                report(what, last, len(stimuli))
            return self._finite(np.concatenate(parts), names)
        clips = read_ahead(self._source, names, self._clips)
        for done, (digest, value) in enumerate(side_by_side(self._of_clip, clips, self._at_once)):
            self._digests[names[done]] = digest
            parts.append(value)
            report(what, start + done + 1, len(stimuli))
        return self._finite(np.concatenate(parts), names)

    def _finite(self, values: NDArray[Any], stimuli: list[str]) -> NDArray[Any]:
        """Return an extractor's values of some stimuli, having made sure that they are finite."""
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            raise ModelError(
                f"targets/{self._target}: the extractor gives NaN, or values beyond {values.dtype}, for the stimulus "
                f"'{stimuli[int(np.argmin(finite))]}'; look at its clip or caption, or set dtype: float32"
            )
        return values

    def _of_clip(self, clip: Clip) -> tuple[bytes, NDArray[Any]]:
        """Return a clip's digest and its values, (1, …)."""
        assert not isinstance(self.extractor, Given)
        return _digest_of(clip), self.extractor.extract(clip[None])

    def seen(self, split: Split, start: int, stop: int) -> list[Seen]:
        """Return the digests of some of a split's clips; a clip whose values were there already is read for it."""
        if self._reads != "clips":
            return []
        names = list(self.split(split)["stimulus"].iloc[start:stop])
        unknown = [name for name in names if name not in self._digests]
        for name, clip in zip(unknown, read_ahead(self._source, unknown, self._clips), strict=True):
            self._digests[name] = _digest_of(clip)
        return [(self._digests[name], name, split) for name in names]


def _digest_of(clip: Clip) -> bytes:
    return hashlib.sha256(clip.tobytes()).digest()


class SeenClips:
    """Remembers clips by their pixels, to find one that is in training and in test under two names."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[str, Split]] = {}

    def add(self, clips: list[Seen]) -> None:
        """Add clips; raises `SourceError` where the other split has the same pixels."""
        for digest, stimulus, split in clips:
            other, where = self._seen.setdefault(digest, (stimulus, split))
            if where != split:
                raise SourceError(
                    f"stimulus '{stimulus}' ({split}) shows the same pixels as '{other}' ({where}); "
                    "a clip belongs into one split, remove one of the two"
                )
