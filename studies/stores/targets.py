"""Targets: from clips and captions to one immutable Zarr group per extractor.

Work is spread chunk by chunk. A network's values may differ in the last bit with the number of threads that compute
them, so every worker computes with as many as the process that asked for it.
"""

import functools
import hashlib
import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.checkout import project_root
from core.clips import Clip, ClipConfig
from core.config import nearest
from core.errors import ConfigError, SourceError
from core.executors import IN_PROCESS, ExecutorConfig, open_executor
from core.files import digest_file, digest_json
from core.progress import report
from feature_store.sources.base import SPLITS, Source, Split
from feature_store.writer import GroupWriter, HandOut, is_published
from models.extractors.base import CountsCut, Extractor
from models.extractors.settings import ExtractorConfig, GivenConfig
from studies.references import GroupRef
from studies.stores.pictures import picture_of_targets
from studies.stores.responses import Digest, group_ref, made_from, require_home
from studies.study import Study

_loading = threading.Lock()
"""Several threads may be here, each with another target; transformers cannot be imported by two at once."""
BATCH = 32
READERS, AHEAD = 4, 8
"""Threads that read clips, and how many clips they may be ahead of the extractor."""


def extract(study: Study, target: str, executor: ExecutorConfig = IN_PROCESS) -> GroupRef:
    """Write one extractor's targets for every stimulus to the store, unless they are already there, made from the same.

    Parameters
    ----------
    executor : ExecutorConfig
        Whose workers read the clips and run the extractor, each a chunk at a time. The bytes are the same whoever does.

    Raises
    ------
    ConfigError
        The study has no such target.
    SourceError
        A stimulus lacks the clip or the caption that the extractor reads, or given embeddings are absent.
    ModelError
        The extractor's weights are absent.
    ServerError
        Workers cannot be had, do not see the study's folder, or died of a chunk too often.
    """
    if target not in study.targets:
        raise ConfigError(f"{study.study}: no target '{target}'{nearest(target, list(study.targets))}")
    source, config = study.source.build(project_root()), study.targets[target]
    fingerprint = digest_json(target_made_from(study, source, target, config.revision(project_root())))
    group = study.store / "targets" / target
    fresh = is_published(group, fingerprint)
    if fresh:
        report(f"targets/{target} is as it was", 1, 1)
    else:
        with open_executor(executor) as workers:
            _write(study, target, fingerprint, None if executor.kind == "here" else workers.run)
    with _loading:
        pictures = picture_of_targets(study, group, lambda names: read_clips(source, names, study.clips))
    return group_ref(group, fresh=fresh, pictures=pictures)


def target_made_from(
    study: Study, source: Source, target: str, revision: str, digest: Digest = digest_file
) -> dict[str, Any]:
    """Return what one extractor's targets would be made from now; its digest is the group's fingerprint.

    Parameters
    ----------
    revision : str
        What the target's `revision` says of its weights.
    """
    config = study.targets[target]
    parameters = {
        "target": target,
        "settings": config.model_dump(mode="json", exclude={"weights"}),
        "clips": study.clips.model_dump(),
        "revision": revision,
    }
    return made_from(study, source.stimulus_files(), [extract, config], parameters, digest)


def _made_by(source: Source, config: ExtractorConfig, target: str) -> "Given | Extractor":
    if isinstance(config, GivenConfig):
        return Given(source, config.file or target)
    extractor: Extractor = config.build(project_root())
    return extractor


class Given:
    """Embeddings made elsewhere, served by the source in the place of an extractor."""

    def __init__(self, source: Source, file: str) -> None:
        values = source.target(file)
        if values is None:
            raise SourceError(f"targets/{file}.npy: the source has no such embeddings; add the file, or name another")
        self._values = values
        self.shape: tuple[int, ...] = values.shape[1:]

    def rows(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Return the embeddings of some stimuli, by their position among all."""
        return self._values[positions]


def read_clips(source: Source, stimuli: list[str], config: ClipConfig) -> NDArray[np.uint8]:
    """Return the stimuli's clips, (stimulus, frame, height, width, 3) uint8."""
    return np.stack([_clip(source, stimulus, config) for stimulus in stimuli])


def _clip(source: Source, stimulus: str, config: ClipConfig) -> Clip:
    clip = source.clip(stimulus, config)
    if clip is None:
        raise SourceError(f"stimulus '{stimulus}' has no clip, which this target needs; add its file, or use 'given'")
    return clip


def _write(study: Study, target: str, fingerprint: str, hand_out: HandOut | None) -> None:
    config = study.targets[target]
    order = Order(study.model_dump_json(), target, fingerprint, project_root(), _threads(config))
    workshop = workshop_of(order)
    made_by, stimuli = workshop.made_by, workshop.stimuli
    attributes: dict[str, Any] = {
        "target": target,
        "extractor": config.extractor,
        "revision": config.revision(project_root()),
        **_cut_captions(made_by, stimuli),
    }
    dtype = "float32" if isinstance(made_by, Given) else np.dtype(made_by.dtype).name
    axes = ("stimulus", *(f"axis{index}" for index in range(1, len(made_by.shape) + 1)))
    try:
        with GroupWriter(
            study.store, f"targets/{target}", encoding_type="targets", fingerprint=fingerprint, **attributes
        ) as group:
            known = SeenClips()
            for split in SPLITS:
                here = workshop.split(split)
                rows, shape = TargetRows(order, split), (len(here), *made_by.shape)
                group.array(f"{split}/values", shape, dtype, rows, axes, on_summary=known.add, hand_out=hand_out)
                columns = [name for name in ("stimulus", "caption", "group") if name in here]
                group.table(f"{split}/stimuli", here[columns])
    finally:
        workshop_of.cache_clear()  # models are not kept in memory once they have done their work


def _cut_captions(made_by: "Given | Extractor", stimuli: pd.DataFrame) -> dict[str, int]:
    """Count captions that are longer than the extractor takes, and say so."""
    if not isinstance(made_by, CountsCut):
        return {}
    captions = list(stimuli["caption"])
    if cut := made_by.count_cut(captions):
        total = sum(len(several) for several in captions)
        report(f"{cut} of {total} captions are longer than the text encoder takes and are cut", 1, 1)
    return {"captions_cut": cut}


@dataclass(frozen=True)
class Order:
    """What whoever makes a target's rows must know; it travels with every chunk.

    Attributes
    ----------
    study : the study as JSON
    fingerprint : of the group; with other files, weights or code it is another order
    asked_from : the checkout from which relative paths start
    threads : with how many torch computes; 0 where no network does
    """

    study: str
    target: str
    fingerprint: str
    asked_from: Path
    threads: int


@functools.lru_cache(maxsize=1)
def workshop_of(order: Order) -> "Workshop":
    """Return what a process makes an order's rows with; it is kept from one chunk to the next."""
    require_home(order.asked_from)
    with _loading:
        return Workshop(Study.model_validate_json(order.study), order.target)


@dataclass(frozen=True)
class TargetRows:
    """One split's values, made in whichever process."""

    order: Order
    split: Split

    def __call__(self, start: int, stop: int, /) -> NDArray[Any]:
        """Return the values of some of the split's stimuli."""
        with _computing(self.order.threads):
            return workshop_of(self.order).make(self.split, start, stop)

    def summary(self, start: int, stop: int, /) -> list["Seen"]:
        """Return the pixels' digests of some of the split's clips; nothing where the target is not made from clips."""
        return workshop_of(self.order).seen(self.split, start, stop)


class Workshop:
    """A study's clips and captions, and what makes a target from them."""

    def __init__(self, study: Study, target: str) -> None:
        self._source, self._clips, self._target = study.source.build(project_root()), study.clips, target
        self.made_by = _made_by(self._source, study.targets[target], target)
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
        return "rows" if isinstance(self.made_by, Given) else self.made_by.reads

    def split(self, split: Split) -> pd.DataFrame:
        """Return the stimuli of a split."""
        return self.stimuli[self.stimuli["split"] == split]

    def make(self, split: Split, start: int, stop: int) -> NDArray[Any]:
        """Return the values of some of a split's stimuli."""
        stimuli, parts = self.split(split), []
        what, here = f"extracting {self._target}: {split}", stimuli.iloc[start:stop]
        if isinstance(self.made_by, Given):
            return self.made_by.rows(here.index.to_numpy())
        if self.made_by.reads == "captions":
            for first in range(start, stop, BATCH):
                last = min(first + BATCH, stop)
                parts.append(self.made_by.extract(list(stimuli["caption"].iloc[first:last])))
                report(what, last, len(stimuli))
            return np.concatenate(parts)
        names = list(here["stimulus"])
        for done, clip in enumerate(read_ahead(self._source, names, self._clips)):
            self._digests[names[done]] = _digest_of(clip)
            parts.append(self.made_by.extract(clip[None]))
            report(what, start + done + 1, len(stimuli))
        return np.concatenate(parts)

    def seen(self, split: Split, start: int, stop: int) -> list["Seen"]:
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


def _threads(config: ExtractorConfig) -> int:
    """Return with how many threads this process computes."""
    if isinstance(config, GivenConfig):
        return 0
    import torch

    return int(torch.get_num_threads())


@contextmanager
def _computing(threads: int) -> Iterator[None]:
    """Compute with so many threads for the length of a block."""
    if not threads:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_ahead(source: Source, stimuli: Sequence[str], config: ClipConfig) -> Iterator[Clip]:
    """Yield the stimuli's clips in order; while one is used, the next are being read."""
    waiting: deque[Future[Clip]] = deque()
    left = iter(stimuli)
    with ThreadPoolExecutor(max_workers=READERS) as readers:
        try:
            for stimulus in itertools.islice(left, AHEAD):
                waiting.append(readers.submit(_clip, source, stimulus, config))
            while waiting:
                clip = waiting.popleft().result()
                if (after := next(left, None)) is not None:
                    waiting.append(readers.submit(_clip, source, after, config))
                yield clip
        finally:
            for future in waiting:
                future.cancel()


Seen = tuple[bytes, str, Split]
"""The digest of a clip's pixels, its stimulus, and the split it is in."""


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
