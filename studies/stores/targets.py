"""Targets: from clips and captions to one immutable Zarr group per extractor.

Work is spread chunk by chunk over processes, and clip by clip over the threads of each. One thread computes a clip: a
network's values may differ in the last bit with the number of threads that compute them.
"""

from typing import Any

import numpy as np

from core.checkout import project_root
from core.clips import ClipConfig
from core.config import nearest
from core.errors import ConfigError
from core.executors import IN_PROCESS, ExecutorConfig, open_executor, threads_each
from core.files import digest_json
from core.progress import report
from core.threads import computing, pieces_in_memory
from evaluation.report.sheet import contact_sheet, sheet_png
from feature_store.reader import Targets, open_group
from feature_store.sources.base import Source
from feature_store.sources.settings import SourceConfig
from feature_store.writer import is_published, staging_of
from models.extractors.settings import BlipStatesConfig, ClipStatesConfig, ExtractorConfig, LatentsConfig, PixelsConfig
from studies.runs import GroupRef, in_turn
from studies.stores.clip_reading import read_clips
from studies.stores.extraction import LOADING, ExtractionTask, write_targets
from studies.stores.responses import group_ref, made_from, picture_of_group
from studies.study import Study

CLIPS = 12
"""How many training stimuli a contact sheet shows, evenly spaced over them all."""


def extract(study: Study, target: str, executor: ExecutorConfig = IN_PROCESS) -> GroupRef:
    """Write one extractor's targets for every stimulus to the store, unless the group is up to date.

    Parameters
    ----------
    executor : whose workers read the clips and run the extractor, each a chunk at a time. The bytes are the same
        wherever it is done.

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
    inputs = target_made_from(study.source, source, target, config, study.clips)
    fingerprint = digest_json(inputs)
    group = study.store / "targets" / target
    with in_turn(staging_of(study.store), f"targets-{target}.turn", f"targets/{target}"):
        fresh = is_published(group, fingerprint)
        if fresh:
            report(f"targets/{target} is up to date", 1, 1)
        else:
            at_once = _clips_at_once(config, threads_each(executor))
            task = ExtractionTask(study.source, study.clips, target, config, fingerprint, project_root(), at_once)
            with open_executor(executor) as workers:
                revision = inputs["parameters"]["revision"]
                write_targets(study.store, task, revision, None if executor.kind == "here" else workers.run)
    targets, pictures = open_group(group), list[str]()
    assert isinstance(targets, Targets)
    if isinstance(config, PixelsConfig | LatentsConfig):  # which something decodes, so that there is a picture to draw
        with computing(), LOADING:
            pictures = picture_of_group(
                study.outputs / "stores", targets, lambda: _sheet(targets, config, source, study.clips)
            )
    return group_ref(group, fresh=fresh, pictures=pictures)


def target_made_from(
    source_config: SourceConfig, source: Source, target: str, config: ExtractorConfig, clips: ClipConfig
) -> dict[str, Any]:
    """Return the inputs, settings and code of one extractor's targets; its digest is the group's fingerprint."""
    parameters = {
        "target": target,
        "settings": config.model_dump(mode="json", exclude={"weights"}),
        "clips": clips.model_dump(),
        "revision": config.revision(project_root()),
    }
    return made_from(source_config, source.stimulus_files(), [write_targets, config], parameters)


def _clips_at_once(config: ExtractorConfig, threads: int) -> int:
    """Return how many clips a process computes side by side: one a thread where memory holds them, and one on a GPU."""
    if threads == 1 or not isinstance(config, LatentsConfig | ClipStatesConfig | BlipStatesConfig):
        return threads
    from models.generator.footprint import of_model
    from models.weights.load import pick_device

    if pick_device(config.device).type != "cpu":
        return 1
    with LOADING:
        footprint = of_model(config, project_root())
    return threads if footprint is None else min(threads, pieces_in_memory(footprint.working))


def _sheet(targets: Targets, config: PixelsConfig | LatentsConfig, source: Source, clips: ClipConfig) -> bytes:
    """Draw clips above what their targets decode to."""
    values, names = targets.values("train")
    rows = np.unique(np.linspace(0, len(names) - 1, min(CLIPS, len(names))).astype(np.int64))
    seen = read_clips(source, [names[row] for row in rows], clips)
    return sheet_png(contact_sheet(seen, config.build(project_root()).decode(values[rows]), labels=("clip", "decoded")))
