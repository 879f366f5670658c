"""Targets: from clips and captions to one immutable Zarr group per extractor."""

import hashlib
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.clips import Clip, ClipConfig
from core.config import nearest
from core.errors import ConfigError, SourceError
from core.files import digest_file, digest_json
from core.progress import report
from feature_store.sources.base import SPLITS, Source
from feature_store.writer import GroupWriter, RowBlock, is_published
from models.extractors.base import CountsCut, Extractor
from models.extractors.config import ExtractorConfig, GivenConfig
from studies.home import home
from studies.ingest import Digest, group_ref, made_from
from studies.pictures import picture_of_targets
from studies.references import GroupRef
from studies.study import Study

BATCH = 32
READERS, AHEAD = 4, 8
"""Threads that read clips, and how many clips they may be ahead of the extractor."""


def extract(study: Study, target: str) -> GroupRef:
    """Write one extractor's targets for every stimulus to the store, unless they are already there, made from the same.

    Raises
    ------
    ConfigError
        The study has no such target.
    SourceError
        A stimulus lacks the clip or the caption that the extractor reads, or given embeddings are absent.
    ModelError
        The extractor's weights are absent.
    """
    if target not in study.targets:
        raise ConfigError(f"{study.study}: no target '{target}'{nearest(target, list(study.targets))}")
    source, config = study.source.build(home()), study.targets[target]
    fingerprint = digest_json(target_made_from(study, source, target, config.revision(home())))
    group = study.store / "targets" / target
    fresh = is_published(group, fingerprint)
    if fresh:
        report(f"targets/{target} is as it was", 1, 1)
    else:
        _write(study, target, _made_by(source, config, target), source.stimuli(), fingerprint)
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
    code = [] if isinstance(config, GivenConfig) else [f"models.extractors.{config.extractor}"]
    parameters = {
        "target": target,
        "settings": config.model_dump(mode="json", exclude={"weights"}),
        "clips": study.clips.model_dump(),
        "revision": revision,
    }
    return made_from(study, source, source.stimulus_files(), [__name__, *code], parameters, digest)


def _made_by(source: Source, config: ExtractorConfig, target: str) -> "Given | Extractor":
    if isinstance(config, GivenConfig):
        return Given(source, config.file or target)
    extractor: Extractor = config.build(home())
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


def _write(study: Study, target: str, made_by: "Given | Extractor", stimuli: pd.DataFrame, fingerprint: str) -> None:
    config = study.targets[target]
    attributes: dict[str, Any] = {
        "target": target,
        "extractor": config.extractor,
        "revision": config.revision(home()),
        **_cut_captions(made_by, stimuli),
    }
    with GroupWriter(
        study.store, f"targets/{target}", encoding_type="targets", fingerprint=fingerprint, **attributes
    ) as group:
        known = SeenClips()
        for split in SPLITS:
            here = stimuli[stimuli["split"] == split]
            axes = ("stimulus", *(f"axis{index}" for index in range(1, len(made_by.shape) + 1)))
            dtype = "float32" if isinstance(made_by, Given) else np.dtype(made_by.dtype).name
            rows = _row_source(study, made_by, here, f"{target}: {split}", known)
            group.array(f"{split}/values", (len(here), *made_by.shape), dtype, rows, axes)
            columns = [name for name in ("stimulus", "caption", "group") if name in here]
            group.table(f"{split}/stimuli", here[columns])


def _cut_captions(made_by: "Given | Extractor", stimuli: pd.DataFrame) -> dict[str, int]:
    """Count captions that are longer than the extractor takes, and say so."""
    if not isinstance(made_by, CountsCut):
        return {}
    captions = list(stimuli["caption"])
    if cut := made_by.count_cut(captions):
        total = sum(len(several) for several in captions)
        report(f"{cut} of {total} captions are longer than the text encoder takes and are cut", 1, 1)
    return {"captions_cut": cut}


def _row_source(
    study: Study, made_by: "Given | Extractor", stimuli: pd.DataFrame, what: str, known: "SeenClips"
) -> RowBlock:
    positions = stimuli.index.to_numpy()
    if isinstance(made_by, Given):
        return lambda start, stop: made_by.rows(positions[start:stop])
    if made_by.reads == "captions":
        return _caption_rows(made_by, stimuli, what)
    source = study.source.build(home())

    def rows(start: int, stop: int) -> NDArray[Any]:
        parts = []
        here = stimuli.iloc[start:stop]
        names, splits = list(here["stimulus"]), list(here["split"])
        for done, clip in enumerate(read_ahead(source, names, study.clips)):
            known.add(clip, names[done], splits[done])
            parts.append(made_by.extract(clip[None]))
            report(f"extracting {what}", start + done + 1, len(stimuli))
        return np.concatenate(parts)

    return rows


def _caption_rows(made_by: Extractor, stimuli: pd.DataFrame, what: str) -> RowBlock:
    for stimulus, captions in zip(stimuli["stimulus"], stimuli["caption"], strict=True):
        if not captions:
            raise SourceError(f"stimulus '{stimulus}' has no caption, which this target needs; add one to the source")

    def rows(start: int, stop: int) -> NDArray[Any]:
        parts = []
        for first in range(start, stop, BATCH):
            last = min(first + BATCH, stop)
            parts.append(made_by.extract(list(stimuli["caption"].iloc[first:last])))
            report(f"extracting {what}", last, len(stimuli))
        return np.concatenate(parts)

    return rows


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


class SeenClips:
    """Remembers clips by their pixels, to find one that is in training and in test under two names."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[str, str]] = {}

    def add(self, clip: Clip, stimulus: str, split: str) -> None:
        """Add a clip; raises `SourceError` where the other split has the same pixels."""
        other, where = self._seen.setdefault(hashlib.sha256(clip.tobytes()).digest(), (stimulus, split))
        if where != split:
            raise SourceError(
                f"stimulus '{stimulus}' ({split}) shows the same pixels as '{other}' ({where}); "
                "a clip belongs into one split, remove one of the two"
            )
