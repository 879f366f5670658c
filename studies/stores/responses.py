"""Responses: from a source to one immutable Zarr group per subject.

Work is spread subject by subject: reading a subject's recordings, whether a GLM or one large pickle, cannot be cut by
rows without every worker reading all of it.
"""

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.checkout import project_root, relative_to_root, require_same_root
from core.code import code_digest
from core.digests import INPUTS
from core.errors import ConfigError, ServerError, SourceError
from core.executors import IN_PROCESS, ExecutorConfig, open_executor
from core.files import digest_json
from core.progress import report
from feature_store import versioning
from feature_store.chunks import StorageConfig
from feature_store.manifest import read_manifest
from feature_store.reader import open_group
from feature_store.schema import ENCODING_VERSION, UNLABELLED
from feature_store.sources.base import SPLITS, Source
from feature_store.sources.settings import SourceConfig
from feature_store.writer import is_published
from simulation.write import is_there, simulate
from studies.runs import GroupRef
from studies.stores.ingestion import write_responses
from studies.stores.pictures import picture_of_responses
from studies.study import Study


def simulate_source(study: Study, destination: Path | None = None, *, replace: bool = False) -> tuple[Path, bool]:
    """Write the study's simulated dataset to its source's folder, or elsewhere, unless it is already there.

    Returns
    -------
    folder, fresh
        The dataset's folder, and whether it was already there.

    Raises
    ------
    ConfigError
        The study does not describe a simulation.
    SourceError
        The folder holds something else.
    """
    if study.simulation is None:
        raise ConfigError(f"{study.study}: has no 'simulation' section; only a simulated study can be simulated")
    folder = destination or project_root() / study.source.path
    fresh = is_there(study.simulation, folder, replace=replace)
    return simulate(study.simulation, folder, replace=replace), fresh


def subjects_of(source: SourceConfig) -> list[str]:
    """Return a source's subjects; its files are read for them."""
    return source.build(project_root()).subjects


@dataclass(frozen=True)
class IngestionTask:
    """What a worker needs to ingest any subject of a study.

    Attributes
    ----------
    root : the checkout of the calling process, from which relative paths start
    """

    source: SourceConfig
    storage: StorageConfig
    store: Path
    pictures: Path
    root: Path


def ingest(study: Study, subject: str, executor: ExecutorConfig = IN_PROCESS) -> GroupRef:
    """Write one subject's responses to the store, unless its group is up to date.

    Parameters
    ----------
    executor : whose worker does it, from the reading to the picture. The next worker after one that dies continues from
        the chunks that were whole. Several threads may ask for subjects at once; in this process they take turns.

    Raises
    ------
    SourceError
        The recordings are not what the source declares, or a test stimulus is also in training.
    ServerError
        Workers cannot be had, do not see the study's folder, or died of this subject too often.
    """
    pictures = study.outputs / "stores"
    function = partial(
        _ingest_subject, IngestionTask(study.source, study.storage, study.store, pictures, project_root())
    )
    shared = study.store.resolve().parent / ".staging"
    with open_executor(executor) as workers:
        if executor.kind != "here":
            shared.mkdir(parents=True, exist_ok=True)
        with closing(workers.run(function, [subject], "ingesting", shared=shared)) as coming:
            reference = next(reference for _, reference in coming)
    if executor.kind == "dask" and read_manifest(study.store / "responses" / subject).digest != reference.digest:
        raise ServerError(f"{study.store}: workers write to another folder of this name; share it among all machines")
    return reference


def _ingest_subject(task: IngestionTask, subject: str) -> GroupRef:
    """Ingest one subject in the calling process, which may be a worker."""
    require_same_root(task.root)
    source = task.source.build(project_root())
    fingerprint = digest_json(responses_made_from(task.source, task.storage, source, subject))
    group = task.store / "responses" / subject
    fresh = is_published(group, fingerprint)
    if fresh:
        report(f"responses/{subject} is up to date", 1, 1)
    else:
        report(f"ingesting {subject}", 0, 1)
        write_responses(task.store, source.responses(subject), task.source.kind, task.storage.compression, fingerprint)
        report(f"ingesting {subject}", 1, 1)
    return group_ref(group, fresh=fresh, pictures=picture_of_responses(task.pictures, group))


def responses_made_from(config: SourceConfig, storage: StorageConfig, source: Source, subject: str) -> dict[str, Any]:
    """Return the inputs, settings and code of one subject's responses; its digest is the group's fingerprint.

    Raises `SourceError` where the source has no such subject.
    """
    known = source.subjects
    if subject not in known:
        raise SourceError(f"{config.path}: no subject '{subject}' in the source; there are {', '.join(known)}")
    parameters = {"subject": subject, "storage": storage.model_dump()}
    return made_from(config, source.response_files(subject), [write_responses], parameters)


def made_from(
    config: SourceConfig, files: list[Path], code: list[object], parameters: dict[str, Any]
) -> dict[str, Any]:
    """Return what a group is made from: the files' contents, the settings, the code that reads and writes."""
    return {
        "code": code_digest(*code, config),
        "inputs": [(file.name, INPUTS.digest(file)) for file in files if file.is_file()],
        "source": config.model_dump(mode="json", exclude={"path", "stimuli", "subjects"}),
        "parameters": parameters,
        "encoding": ENCODING_VERSION,
    }


def group_ref(group: Path, *, fresh: bool, pictures: list[str]) -> GroupRef:
    """Return the reference to a published group."""
    array = "betas" if group.parent.name == "responses" else "values"
    opened = open_group(group)
    arrays = [*(f"{split}/{array}" for split in SPLITS), *([UNLABELLED] if opened.has(UNLABELLED) else [])]
    return GroupRef(
        kind=group.parent.name,
        name=group.name,
        path=relative_to_root(group),
        digest=opened.digest,
        shapes={name: list(opened.rows(name).shape) for name in arrays},
        fresh=fresh,
        attributes=opened.attributes,
        dvc_state=versioning.states(project_root(), [group])[group],
        pictures=pictures,
    )
