"""Reconstruction of responses that were never stored: from a file to videos with captions.

study = load_study("configs/demo.yaml")
made = reconstruct_file(study, NewFile(path="new.npy"), resolve_production(study))
made.clips, made.captions

Writes ``outputs/<study>/new/<run>/`` with `videos/`, `captions.csv`, `sheet.png`, `manifest.json` and the file itself.
There is no truth to score against.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.clips import Clip
from core.config import Config
from core.errors import ConfigError, RegistryError
from core.files import digest_json, staged_folder, write_bytes, write_json
from core.progress import report
from evaluation.report.sheet import contact_sheet, sheet_png
from feature_store import Store
from models.decoders.build import Encoder
from models.registry.production import fetch
from models.registry.sets import ModelSet
from studies.decoding.predictions import predict_roles
from studies.decoding.render import Rendered, renderer_of
from studies.decoding.voxel_record import VoxelRecord, VoxelScale
from studies.reconstruction.provenance import Input, MadeFrom, made_from, portable, write_videos
from studies.reconstruction.response_file import IMAGES, NewResponses, read_responses
from studies.reconstruction.run import reference_to, subject_of
from studies.references import ReconstructionRef
from studies.registry.production import require_same_targets
from studies.runs import (
    CAPTIONS,
    MANIFEST,
    NEW,
    SHEET,
    VIDEOS,
    file_digests,
    find_run,
    git_commit,
    publish_latest,
    run_name,
)
from studies.study import Study


class NewFile(Config):
    """A file of responses with what belongs to it; see `studies.reconstruction.response_file.read_responses`.

    Attributes
    ----------
    path : `.npy`, a folder with `responses.npy`, or a NIfTI image
    voxels, trials : tables of its voxels and trials; by default those beside it
    mask : for an image, where its voxels lie
    check_scale : False takes values of another scale than training's
    """

    path: Path
    voxels: Path | None = None
    trials: Path | None = None
    mask: Path | None = None
    check_scale: bool = True


@dataclass(frozen=True)
class NewVideos:
    """What was made of a file of responses.

    Attributes
    ----------
    names : the trials' stimuli where a table names them, else ``trial-0001``, …
    clips : (name, frame, height, width, 3) uint8
    captions : decoded, empty where the study decodes no words
    notes : what could not be checked of the file
    folder : where the videos lie
    reference : what a ZenML step hands on
    """

    names: list[str]
    clips: NDArray[np.uint8]
    captions: list[str]
    notes: list[str]
    folder: Path
    reference: ReconstructionRef


def reconstruct_file(study: Study, file: NewFile, chosen: ModelSet) -> NewVideos:
    """Render a file of one subject's responses (`reconstruction.subject`) with a model set.

    Raises
    ------
    ConfigError
        The study renders nothing.
    RegistryError
        The set does not predict what the study renders, or was registered without a record of its voxels.
    SourceError
        The file is not what the encoder was trained on, which one line says.
    """
    nothing = study.why_nothing_to_render()
    if nothing is not None:
        raise ConfigError(nothing)
    subject, store = subject_of(study, chosen), Store(study.store)
    require_same_targets(study, chosen)
    encoder, regressors = fetch(chosen)
    new = read_new(store, file, chosen, encoder, subject)
    for note in new.notes:
        report(f"note: {note}", 1, 1)
    names, roles = predict_roles(encoder, regressors, subject, new.values, new.names)
    made = renderer_of(study, store).render_row(roles, names)
    given = Input(kind="file", name=file.path.name, digest=new.digest)
    folder, fresh = _write(study, made_from(study, store, chosen, subject, given), file, new, names, made)
    reference = reference_to(study, folder, MANIFEST, fresh=fresh)
    return NewVideos(names, made.clips, made.captions, new.notes, folder, reference)


def read_new(store: Store, file: NewFile, chosen: ModelSet, encoder: Encoder, subject: str) -> NewResponses:
    """Read a file and hold it against what the encoder recorded of the subject's voxels."""
    told = chosen.record.get("voxels", {}).get(subject)
    if told is None:
        raise RegistryError(f"{chosen}: no record of the voxels of {subject}; train again, then promote")
    return read_responses(
        file.path,
        subject,
        VoxelRecord.model_validate(told),
        scale=VoxelScale.of_encoder(encoder, subject),
        table=_table(store, chosen, subject),
        voxels=file.voxels,
        trials=file.trials,
        mask=file.mask,
        check_scale=file.check_scale,
    )


def _table(store: Store, chosen: ModelSet, subject: str) -> pd.DataFrame | None:
    """Return the store's table of voxels where it is the one that the encoder was trained on."""
    if subject not in store.names("responses"):
        return None
    group = store.responses(subject)
    return group.voxels if group.digest == chosen.record["stores"].get(f"responses/{subject}") else None


def _write(
    study: Study, origin: MadeFrom, file: NewFile, new: NewResponses, names: list[str], made: Rendered
) -> tuple[Path, bool]:
    """Write the run, or find it as it was; return its folder, and whether it was there."""
    runs = study.outputs / NEW
    record = {"study": study.study, "made_from": origin.model_dump(mode="json"), "config": portable(study)}
    record |= {"trials": new.names, "notes": new.notes}
    fingerprint = digest_json(record)
    found = find_run(runs, MANIFEST, fingerprint)
    folder = found or runs / run_name(fingerprint)
    if found is None:
        with staged_folder(folder) as building:
            write_videos(building / VIDEOS, study, origin, made, names)
            captions = {"name": names, "decoded": made.captions or "", "nearest": made.nearest or ""}
            pd.DataFrame(captions).to_csv(building / CAPTIONS, index=False)
            write_bytes(building / SHEET, _sheet(made.clips, made.captions))
            _keep(file, new, building)
            more = {"fingerprint": fingerprint, "run": folder.name, "git_commit": git_commit()}
            write_json(building / MANIFEST, {**record, **more, "files": file_digests(building)})
    publish_latest(folder)
    return folder, found is not None


def _sheet(clips: Clip, captions: list[str]) -> bytes:
    """Return the first and the last frame of the first clips, with what was decoded."""
    words = [("", caption) for caption in captions[:24]] or None
    labels = ("first frame", "last frame")
    return sheet_png(contact_sheet(clips[:24, :1], clips[:24, -1:], captions=words, labels=labels))


def _keep(file: NewFile, new: NewResponses, folder: Path) -> None:
    """Copy the responses with their tables into the run, so that its videos can be made again."""
    source = file.path / "responses.npy" if file.path.is_dir() else file.path
    suffix = next((one for one in IMAGES if source.name.lower().endswith(one)), source.suffix)
    shutil.copyfile(source, folder / f"responses{suffix}")
    pd.DataFrame({"stimulus_id": new.names}).to_csv(folder / "trials.csv", index=False)
    beside = file.voxels or source.parent / "voxels.csv"
    if beside.is_file():
        shutil.copyfile(beside, folder / "voxels.csv")
    if file.mask is not None:
        mask = next((one for one in IMAGES if file.mask.name.lower().endswith(one)), file.mask.suffix)
        shutil.copyfile(file.mask, folder / f"mask{mask}")
