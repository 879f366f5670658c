"""Responses: from a source to one immutable Zarr group per subject.

Work is spread subject by subject: reading a subject's recordings, whether a GLM or one large pickle, cannot be cut by
rows without every worker reading all of it.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.checkout import project_root, relative_to_root, require_same_root
from core.code import code_digest
from core.config import nearest
from core.digests import INPUTS
from core.errors import ConfigError, ServerError, SourceError
from core.executors import IN_PROCESS, ExecutorConfig, open_executor
from core.files import digest_json, write_bytes
from core.progress import report
from core.threads import computing
from evaluation.report.charts.regions import roi_chart_png
from feature_store import versioning
from feature_store.chunks import StorageConfig
from feature_store.manifest import read_manifest
from feature_store.noise_ceiling import noise_ceiling
from feature_store.reader import Group, Responses, open_group
from feature_store.schema import ENCODING_VERSION, UNLABELLED
from feature_store.sources.base import ROI_SEPARATOR, SPLITS, Source
from feature_store.sources.copies import check_copies
from feature_store.sources.settings import SourceConfig
from feature_store.writer import is_published, staging_of
from simulation.examples import Form, example_config, write_example
from simulation.write import is_there, simulate
from studies.runs import GroupRef, in_turn
from studies.stores.ingestion import write_responses
from studies.study import Study

FORMS: dict[str, Form] = {form: form for form in get_args(Form)}
MAX_ROIS = 60
"""ROIs that a picture shows at most, the largest."""


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
    with in_turn(folder.absolute().parent, f"{folder.name}.simulate", "simulated recordings"):
        fresh = is_there(study.simulation, folder, replace=replace)
        return simulate(study.simulation, folder, replace=replace), fresh


def simulate_recordings(form: str, destination: Path, seed: int) -> tuple[Path, str]:
    """Write small simulated recordings in a form that own ones come in.

    Returns
    -------
    folder, config
        The dataset's folder, and the YAML of the study that reads it.

    Raises
    ------
    ConfigError
        There is no such form.
    SourceError
        The folder is not empty.
    """
    if form not in FORMS:
        raise ConfigError(f"--form: found '{form}', expected {' or '.join(FORMS)}{nearest(form, list(FORMS))}")
    return write_example(FORMS[form], destination, example_config(seed)), f"configs/{form}_example.yaml"


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
        The recordings are not what the source declares, copies of another's, or a test stimulus is also in training.
    ServerError
        Workers cannot be had, do not see the study's folder, or died of this subject too often.
    """
    pictures = study.outputs / "stores"
    function = partial(
        _ingest_subject, IngestionTask(study.source, study.storage, study.store, pictures, project_root())
    )
    shared = staging_of(study.store)
    with open_executor(executor) as workers:
        if executor.kind != "here":
            shared.mkdir(parents=True, exist_ok=True)
        with closing(workers.run(function, [subject], "ingesting", shared=shared)) as coming:
            reference = next(reference for _, reference in coming)
    if executor.kind == "dask" and read_manifest(study.store / "responses" / subject).digest != reference.digest:
        raise ServerError(f"{study.store}: workers write to another folder of this name; share it among all machines")
    return reference


@computing()
def _ingest_subject(task: IngestionTask, subject: str) -> GroupRef:
    """Ingest one subject in the calling process, which may be a worker."""
    require_same_root(task.root)
    source = task.source.build(project_root())
    fingerprint = digest_json(responses_made_from(task.source, task.storage, source, subject))
    group = task.store / "responses" / subject
    with in_turn(staging_of(task.store), f"responses-{subject}.turn", f"responses/{subject}"):
        fresh = is_published(group, fingerprint)
        if fresh:
            report(f"responses/{subject} is up to date", 1, 1)
        else:
            report(f"ingesting {subject}", 0, 1)
            check_copies(source, subject)
            responses = source.responses(subject)
            write_responses(task.store, responses, task.source.kind, task.storage.compression, fingerprint)
            report(f"ingesting {subject}", 1, 1)
    stored = open_group(group)
    assert isinstance(stored, Responses)
    return group_ref(group, fresh=fresh, pictures=picture_of_group(task.pictures, stored, lambda: _chart(stored)))


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


def picture_of_group(folder: Path, group: Group, draw: Callable[[], bytes]) -> list[str]:
    """Draw a group, unless that is drawn, as ``<folder>/<kind>-<name>-<digest>.png``; return that file's name.

    The name is relative to the checkout.
    """
    file = folder / f"{group.path.parent.name}-{group.path.name}-{group.digest[:12]}.png"
    if not file.is_file():
        write_bytes(file, draw())
    return [relative_to_root(file)]


def _chart(responses: Responses) -> bytes:
    """Draw voxels and noise ceilings of means over either split's repetitions."""
    voxels = responses.voxels
    rois = _by_roi(voxels)
    ceilings = {}
    for split in SPLITS:
        repeats = int(responses.trials(split).groupby("stimulus").size().max())
        percent = noise_ceiling(voxels[f"ncsnr_{split}"].to_numpy(), repeats)
        label = f"{split}, means over {repeats}" if repeats > 1 else f"{split}: shown once, no estimate"
        ceilings[label] = [percent[rows] for rows in rois.values()]
    title = f"{responses.subject}: {len(voxels):,} voxels"
    return roi_chart_png(title, {roi: len(rows) for roi, rows in rois.items()}, ceilings)


def _by_roi(voxels: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Return the voxels of every ROI, the largest ROIs where there are very many, in the store's order."""
    rois = voxels["roi"].astype(str).str.split(ROI_SEPARATOR).reset_index(drop=True).explode()
    rows = {str(roi): members.index.to_numpy() for roi, members in rois.groupby(rois, sort=False)}
    largest = set(sorted(rows, key=lambda roi: -len(rows[roi]))[:MAX_ROIS])
    return {roi: members for roi, members in rows.items() if roi in largest}
