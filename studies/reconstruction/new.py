"""Reconstruction of responses that were never stored: from a file to videos with captions.

study = load_study("configs/demo.yaml")
made = reconstruct_file(study, NewFile(path="new.npy"), resolve_production(study))
made.clips, made.captions

Writes ``outputs/<study>/new/<run>/`` with `videos/`, `captions.csv`, `sheet.png`, `manifest.json` and the file itself.
There is no truth to score against.
"""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.clips import Clip, ClipConfig, read_clip
from core.errors import ConfigError, RegistryError
from core.files import digest_json, read_json, write_bytes
from core.progress import report
from core.subjects import is_group, subject_label
from core.threads import computing
from evaluation.report.sheet import contact_sheet, sheet_png
from feature_store import Store
from feature_store.sources.response_file import RESPONSES, TRIALS, VOXELS, suffix_of
from models.decoders.build import Encoder
from models.registry.production import fetch
from models.registry.sets import ModelSet
from studies.decoding.predictions import predict_roles
from studies.decoding.render import renderer_of
from studies.decoding.voxel_record import VoxelRecord, VoxelScale
from studies.reconstruction.checks import NewFile, NewResponses, read_responses
from studies.reconstruction.provenance import Input, made_from, portable, subject_of, write_videos
from studies.registry.production import require_same_targets
from studies.runs import (
    CAPTIONS,
    MANIFEST,
    NEW,
    SHEET,
    VIDEOS,
    ReconstructionRef,
    placed_run,
    publish_latest,
    staged_run,
)
from studies.study import Study

__all__ = ["NewFile", "NewVideos", "read_new", "reconstruct_file"]


@dataclass(frozen=True)
class NewVideos:
    """The videos of a file of responses.

    Attributes
    ----------
    names : the trials' stimuli where a table names them, else ``trial-0001``, …
    notes : what could not be checked of the file
    folder : where the videos lie
    reference : what a ZenML step hands on
    """

    names: list[str]
    notes: list[str]
    folder: Path
    reference: ReconstructionRef

    @cached_property
    def clips(self) -> NDArray[np.uint8]:
        """The clips as their videos show them, (name, frame, height, width, 3) uint8."""
        size = ClipConfig(**read_json(self.folder / MANIFEST)["clips"])
        return np.stack([read_clip(self.folder / VIDEOS / f"{name}.mp4", size) for name in self.names])

    @cached_property
    def captions(self) -> list[str]:
        """The decoded caption of each clip, empty where the study decodes no words."""
        table = pd.read_csv(self.folder / CAPTIONS, dtype=str, keep_default_na=False)
        return [caption for caption in table["decoded"] if caption]


@computing()
def reconstruct_file(study: Study, file: NewFile, chosen: ModelSet) -> NewVideos:
    """Render a file of one subject's responses (`reconstruction.subject`) with a model set.

    Raises
    ------
    ConfigError
        The study renders nothing.
    RegistryError
        The set does not predict what the study renders, or was registered without a record of its voxels.
    SourceError
        The file is not what the encoder was trained on.
    """
    nothing = study.why_nothing_to_render()
    if nothing is not None:
        raise ConfigError(nothing)
    subject, store = subject_of(chosen, study.reconstruction.subject), Store(study.store)
    if is_group(subject):
        raise ConfigError(
            f"{file.path}: holds one subject's responses, and {chosen} are a {subject_label(subject)}; it decodes "
            "stimuli of the store, to which all responded: promote decoders of single subjects for new responses"
        )
    require_same_targets(study, chosen)
    encoder, regressors = fetch(chosen)
    new = read_new(store, file, chosen, encoder, subject)
    for note in new.notes:
        report(f"note: {note}", 1, 1)
    names = list(dict.fromkeys(new.names))
    responses = Input(kind="file", name=file.path.name, digest=new.digest)
    origin = made_from(study, store, chosen, subject, responses)
    config, inputs = portable(study), origin.model_dump(mode="json")
    record = {"study": study.study, "made_from": inputs, "config": config, "trials": new.names, "notes": new.notes}
    fingerprint = digest_json(record)
    with placed_run(study.outputs / NEW, MANIFEST, fingerprint, "reconstruction") as (folder, fresh):
        if not fresh:
            names, roles = predict_roles(encoder, regressors, subject, new.values, new.names)
            rendered = renderer_of(study, store).render_row(roles, names)
            frames, height, width = rendered.clips.shape[1:4]
            size = {"frames": frames, "height": height, "width": width, "window_s": frames / study.clips.fps}
            with staged_run(folder, MANIFEST, record | {"fingerprint": fingerprint, "clips": size}) as building:
                write_videos(building / VIDEOS, config, origin, rendered, names)
                captions = {"name": names, "decoded": rendered.captions or "", "nearest": rendered.nearest or ""}
                pd.DataFrame(captions).to_csv(building / CAPTIONS, index=False)
                write_bytes(building / SHEET, _sheet(rendered.clips, rendered.captions))
                _keep(file, new, building)
        publish_latest(folder)
    reference = ReconstructionRef.to(study.study, folder, MANIFEST, fresh=fresh)
    return NewVideos(names, new.notes, folder, reference)


def read_new(store: Store, file: NewFile, chosen: ModelSet, encoder: Encoder, subject: str) -> NewResponses:
    """Read a file and check it against what the encoder recorded of the subject's voxels."""
    record = chosen.record.get("voxels", {}).get(subject)
    if record is None:
        raise RegistryError(f"{chosen}: no record of the voxels of {subject}; train again, then promote")
    group = store.responses(subject) if subject in store.names("responses") else None
    same = group is not None and group.digest == chosen.record["stores"].get(f"responses/{subject}")
    table = group.voxels if group is not None and same else None
    scale = VoxelScale.of_encoder(encoder, subject)
    return read_responses(file, subject, VoxelRecord.model_validate(record), scale=scale, table=table)


def _sheet(clips: Clip, captions: list[str]) -> bytes:
    """Return the first and the last frame of the first clips, with what was decoded."""
    words = [("", caption) for caption in captions[:24]] or None
    labels = ("first frame", "last frame")
    return sheet_png(contact_sheet(clips[:24, :1], clips[:24, -1:], captions=words, labels=labels))


def _keep(file: NewFile, new: NewResponses, folder: Path) -> None:
    """Copy the responses with their tables into the run, so that its videos can be made again."""
    source = file.path / RESPONSES if file.path.is_dir() else file.path
    shutil.copyfile(source, folder / f"responses{suffix_of(source)}")
    pd.DataFrame({"stimulus_id": new.names}).to_csv(folder / TRIALS, index=False)
    voxels = file.voxels or source.parent / VOXELS
    if voxels.is_file():
        shutil.copyfile(voxels, folder / VOXELS)
    if file.mask is not None:
        shutil.copyfile(file.mask, folder / f"mask{suffix_of(file.mask)}")
