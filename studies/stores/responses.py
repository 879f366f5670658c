"""Responses: from a source to one immutable Zarr group per subject.

Work is spread subject by subject: reading a subject's recordings, be it a GLM or one large pickle, cannot be cut by
rows without every worker reading all of it.
"""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from core.checkout import project_root, relative_to_root
from core.code import code_digest
from core.errors import ServerError, SourceError
from core.executors import IN_PROCESS, ExecutorConfig, open_executor
from core.files import digest_file, digest_json
from core.progress import report
from feature_store import versioning
from feature_store.chunks import Compression
from feature_store.manifest import read_manifest
from feature_store.noise_ceiling import agreement, missing_values, ncsnr
from feature_store.reader import open_group
from feature_store.rows import ChunkedRows
from feature_store.schema import ENCODING_VERSION, UNLABELLED
from feature_store.sources.base import ROI_SEPARATOR, SPLITS, Recording, Rows, Source
from feature_store.writer import GroupWriter, is_published
from studies.references import GroupRef
from studies.stores.pictures import picture_of_responses
from studies.study import Study

Digest = Callable[[Path], str]
"""Returns the SHA-256 of a file's content; whoever writes a group reads the file, `status` may remember it."""


def subjects_of(study: Study) -> list[str]:
    """Return the study's subjects; its source is looked at."""
    return study.source.build(project_root()).subjects


def ingest(study: Study, subject: str, executor: ExecutorConfig = IN_PROCESS) -> GroupRef:
    """Write one subject's responses to the store, unless they are already there, made from the same.

    Parameters
    ----------
    executor : ExecutorConfig
        Whose worker does it, from the reading to the picture. The next worker of one that dies goes on from the chunks
        that were whole. Several threads may ask for subjects at once; in this process one is worked on at a time.

    Raises
    ------
    SourceError
        The recordings are not what the source declares, or a test stimulus is also in training.
    ServerError
        Workers cannot be had, do not see the study's folder, or died of this subject too often.
    """
    function = partial(_ingest_for, study.model_dump_json(), project_root())
    shared = study.store.resolve().parent / ".staging"
    with open_executor(executor) as workers:
        if executor.kind != "here":
            shared.mkdir(parents=True, exist_ok=True)
        with closing(workers.run(function, [subject], "ingesting", shared=shared)) as coming:
            reference = next(reference for _, reference in coming)
    if executor.kind == "dask" and read_manifest(study.store / "responses" / subject).digest != reference.digest:
        raise ServerError(f"{study.store}: workers write to another folder of this name; share it among all machines")
    return reference


def _ingest_for(study: str, asked_from: Path, subject: str) -> GroupRef:
    """Do it in whichever process, for a study as JSON."""
    require_home(asked_from)
    return _ingest(Study.model_validate_json(study), subject)


def require_home(asked_from: Path) -> None:
    """Raise `ServerError` where relative paths start elsewhere than in the process that asked for the work."""
    if project_root() != asked_from:
        raise ServerError(
            f"a worker's checkout is {project_root()}, that of the process that asked for the work is {asked_from}; "
            f"start the "
            f"worker with BRAIN2VIDEO_HOME={asked_from}"
        )


def _ingest(study: Study, subject: str) -> GroupRef:
    source = study.source.build(project_root())
    fingerprint = digest_json(responses_made_from(study, source, subject))
    group = study.store / "responses" / subject
    fresh = is_published(group, fingerprint)
    if fresh:
        report(f"responses/{subject} is as it was", 1, 1)
    else:
        report(f"ingesting {subject}", 0, 1)
        _write(study, source.responses(subject), fingerprint)
        report(f"ingesting {subject}", 1, 1)
    return group_ref(group, fresh=fresh, pictures=picture_of_responses(study, group))


def responses_made_from(study: Study, source: Source, subject: str, digest: Digest = digest_file) -> dict[str, Any]:
    """Return what one subject's responses would be made from now; its digest is the group's fingerprint.

    Raises
    ------
    SourceError
        The source has no such subject.
    """
    known = source.subjects
    if subject not in known:
        raise SourceError(f"{study.study}: no subject '{subject}' in the source; there are {', '.join(known)}")
    parameters = {"subject": subject, "storage": study.storage.model_dump()}
    files = source.response_files(subject)
    return made_from(study, files, [ingest], parameters, digest)


def made_from(
    study: Study, files: list[Path], code: list[object], parameters: dict[str, Any], digest: Digest
) -> dict[str, Any]:
    """Return what a group is made from: the files' contents, the settings, the code that reads them."""
    return {
        "code": code_digest(*code, study.source),
        "inputs": [(file.name, digest(file)) for file in files if file.is_file()],
        "source": study.source.model_dump(mode="json", exclude={"path", "stimuli", "subjects"}),
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


def _write(study: Study, recording: Recording, fingerprint: str) -> None:
    attributes = {**recording.attributes, "subject": recording.subject, "source": study.source.kind}
    name = f"responses/{recording.subject}"
    with GroupWriter(study.store, name, encoding_type="responses", fingerprint=fingerprint, **attributes) as group:
        voxels, damaged = recording.voxels, dict[str, int]()
        for split in SPLITS:
            # a whole brain's splits are never in memory together
            _write_betas(group, f"{split}/betas", recording.values.pop(split), "trial", study.storage.compression)
            group.table(f"{split}/trials", recording.trials[split])
            rows, stimuli = group.rows(f"{split}/betas"), list(recording.trials[split]["stimulus"])
            damaged[split] = _count_missing(recording, split, rows)
            voxels = voxels.assign(**{f"ncsnr_{split}": ncsnr(rows, stimuli)})
        if recording.unlabelled is not None:
            _write_betas(group, UNLABELLED, recording.unlabelled, "row", study.storage.compression)
            damaged["unlabelled"] = _count_missing(recording, "unlabelled", group.rows(UNLABELLED))
        group.table("voxels", voxels)
        group.describe(nan_voxels=damaged, noise_ceiling_agreement=agreement(voxels))


def _write_betas(group: GroupWriter, name: str, values: Rows, first_axis: str, compression: Compression) -> None:
    axes = (first_axis, "time", "voxel") if len(values.shape) == 3 else (first_axis, "voxel")
    group.array(name, tuple(values.shape), "float32", lambda a, b: values[a:b], axes, compression=compression)


def _count_missing(recording: Recording, part: str, rows: ChunkedRows) -> int:
    """Return how many voxels hold NaN in a split or in ``"unlabelled"``; they are kept as they are.

    Raises
    ------
    SourceError
        A region holds nothing else.
    """
    missing = missing_values(rows)
    regions = recording.voxels["roi"].astype(str).str.split(ROI_SEPARATOR).reset_index(drop=True).explode()
    empty = pd.Series((missing == len(rows))[regions.index]).groupby(regions.to_numpy()).all()
    if empty.any():
        raise SourceError(
            f"{recording.subject}: no voxel of {empty.index[empty.to_numpy()][0]} holds a finite value in {part}; "
            "check the recordings, or leave this region out"
        )
    count = int((missing > 0).sum())
    if count:
        report(f"{recording.subject}: {count:,} of {len(missing):,} voxels hold NaN in {part}, kept as they are", 1, 1)
    return count
