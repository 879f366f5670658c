"""Responses: from a source to one immutable Zarr group per subject."""

from pathlib import Path
from typing import Any

import numpy as np

from core.code import code_digest
from core.errors import SourceError
from core.files import digest_file, digest_json
from core.progress import report
from feature_store.reader import Group
from feature_store.schema import ENCODING_VERSION
from feature_store.sources.base import SPLITS, Recording, Source
from feature_store.writer import GroupWriter, RowBlock, is_published
from studies.home import home, shown
from studies.references import GroupRef
from studies.study import Study


def subjects_of(study: Study) -> list[str]:
    """Return the study's subjects; its source is looked at."""
    return study.source.build(home()).subjects


def ingest(study: Study, subject: str) -> GroupRef:
    """Write one subject's responses to the store, unless they are already there, made from the same.

    Raises
    ------
    SourceError
        The recordings are not what the source declares, or a test stimulus is also in training.
    """
    source = study.source.build(home())
    known = source.subjects
    if subject not in known:
        raise SourceError(f"{study.study}: no subject '{subject}' in the source; there are {', '.join(known)}")
    group = study.store / "responses" / subject
    fingerprint = fingerprint_of(study, source, source.response_files(subject), subject=subject)
    fresh = is_published(group, fingerprint)
    if fresh:
        report(f"responses/{subject} is as it was", 1, 1)
    else:
        report(f"ingesting {subject}", 0, 1)
        _write(study, source.responses(subject), fingerprint)
        report(f"ingesting {subject}", 1, 1)
    return group_ref(group, fresh=fresh)


def fingerprint_of(study: Study, source: Source, files: list[Path], *more_code: str, **parameters: Any) -> str:
    """Return the digest of what a group is made from: the files' contents, the settings, the code that reads them."""
    return digest_json(
        {
            "code": code_digest(type(source).__module__, "feature_store.writer", *more_code),
            "inputs": [(file.name, digest_file(file)) for file in files if file.is_file()],
            "source": study.source.model_dump(mode="json", exclude={"path", "stimuli", "subjects"}),
            "parameters": parameters,
            "encoding": ENCODING_VERSION,
        }
    )


def group_ref(group: Path, *, fresh: bool) -> GroupRef:
    """Return the reference to a published group."""
    array = "betas" if group.parent.name == "responses" else "values"
    opened = Group(group)
    return GroupRef(
        kind=group.parent.name,
        name=group.name,
        path=shown(group),
        digest=opened.digest,
        shapes={f"{split}/{array}": list(opened.rows(f"{split}/{array}").shape) for split in SPLITS},
        fresh=fresh,
    )


def _write(study: Study, recording: Recording, fingerprint: str) -> None:
    attributes = {"subject": recording.subject, "source": study.source.kind}
    name = f"responses/{recording.subject}"
    with GroupWriter(study.store, name, encoding_type="responses", fingerprint=fingerprint, **attributes) as group:
        for split in SPLITS:
            values = recording.values[split]
            _check_not_all_nan(recording, values[0:1])
            axes = ("trial", "time", "voxel") if len(values.shape) == 3 else ("trial", "voxel")
            group.array(f"{split}/betas", tuple(values.shape), "float32", _rows(values), axes)
            group.table(f"{split}/trials", recording.trials[split])
        group.table("voxels", recording.voxels)


def _check_not_all_nan(recording: Recording, first: np.ndarray[Any, Any]) -> None:
    if not np.isfinite(first).any():
        raise SourceError(f"{recording.subject}: the first trial holds no finite value; check the responses")


def _rows(values: Any) -> RowBlock:
    return lambda start, stop: values[start:stop]
