"""Provenance: a video's inputs, in its own metadata, written with it and read from it again.

It holds nothing of the time or of the place, so that the same study gives the same bytes wherever it is rendered:
versions are numbers and digests, and paths are relative to the checkout or reduced to a name.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError

from core.checkout import project_root
from core.clips import Clip, ClipConfig, read_metadata, write_clip
from core.code import code_digest
from core.config import Config, nearest
from core.errors import ConfigError, SourceError
from core.explain import explain
from core.files import canonical_json
from core.machine import Machine, this_machine
from core.progress import track
from core.subjects import is_group, members_of, subject_label
from feature_store import Store
from models.registry.sets import ModelSet
from studies.decoding.render import Rendered, Renderer
from studies.runs import git_commit, reduced_path, without_places
from studies.study import Study

SCHEMA = 1
KEPT = {"study", "seed", "source", "clips", "targets", "roles", "generator", "captioner"}
"""Sections of a study that a video depends on, once its models are trained."""


class Input(Config):
    """The responses that a video was made from.

    Attributes
    ----------
    kind : "store" for test stimuli of the feature store, "file" for responses that were never stored
    name : ``responses/sub-01``, or the file's name without its folder
    digest : of the store's group, or the SHA-256 of the file
    """

    kind: Literal["store", "file"]
    name: str
    digest: str


class Models(Config):
    """The registered versions that predicted, part to number and part to digest of the files."""

    versions: dict[str, int]
    digests: dict[str, str]


class MadeFrom(Config):
    """The inputs of every video of a run.

    Attributes
    ----------
    subject : whose brain
    input, models : the responses and what predicted from them
    rois : regions that the encoder was trained on, all where None
    targets : role to the digest of the target's group, which the order of stimuli and the nearest captions come from
    extractors : target to the revision of the extractor that made z and b
    generator, generator_revision : settings without places, and the digest of the weights
    captioner, captioner_revision : likewise
    seed, strength : the study's seed, and how far z was renoised
    code : digest of the code that makes a video of predictions
    machine : see `Machine`
    """

    subject: str
    input: Input
    models: Models
    rois: list[str] | None = None
    targets: dict[str, str]
    extractors: dict[str, str]
    generator: dict[str, Any] | None = None
    generator_revision: str | None = None
    captioner: dict[str, Any] | None = None
    captioner_revision: str | None = None
    seed: int
    strength: float | None = None
    code: str
    machine: Machine


class Provenance(Config):
    """A video's own record of what it shows and was made from.

    Attributes
    ----------
    version : of this form, `schema` in the JSON
    role : "reconstruction", or "seen" for what had been shown
    study, stimulus : the study's name and the stimulus's
    caption : what was decoded, or None where the study decodes no words
    rendered_with : the stimuli of the batch that the generator rendered it in, in order
    frames : SHA-256 of the frames before compression
    git_commit : the checkout's, see `studies.runs.git_commit`
    config : the study, as far as it is needed to make the video again
    made_from : see `MadeFrom`; None for what had been shown
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    version: Literal[1] = Field(default=1, alias="schema")
    role: Literal["reconstruction", "seen"]
    study: str
    stimulus: str
    caption: str | None = None
    rendered_with: list[str] = Field(default_factory=list)
    frames: str
    git_commit: str
    config: dict[str, Any]
    made_from: MadeFrom | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that is written into a video, without what is None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def title(self) -> str:
        """A line for a person, which players show."""
        if self.made_from is None:
            return f"{self.study}: stimulus {self.stimulus} as it was shown"
        return f"{self.study}: stimulus {self.stimulus} reconstructed from {subject_label(self.made_from.subject)}"


def made_from(study: Study, store: Store, chosen: ModelSet, subject: str, responses: Input) -> MadeFrom:
    """Return the inputs of a run's videos.

    Parameters
    ----------
    responses : `stored_input` returns those of the store
    """
    roles, captioner = study.roles.regressed(), study.captioner_of_b()
    return MadeFrom(
        subject=subject,
        input=responses,
        models=Models(versions=chosen.versions, digests=chosen.digests),
        rois=chosen.record["rois"],
        targets={role: store.target(name).digest for role, name in roles.items()},
        extractors={name: study.targets[name].revision(project_root()) for name in roles.values()},
        generator=_settings(study.generator),
        generator_revision=study.generator.revision(project_root()) if study.generator else None,
        captioner=_settings(captioner),
        captioner_revision=captioner.revision(project_root()) if captioner else None,
        seed=study.seed,
        strength=study.generator.strength if study.generator else None,
        code=code_digest(
            made_from, Renderer, [study.targets[name] for name in roles.values()], study.generator, captioner
        ),
        machine=this_machine(),
    )


def stored_input(store: Store, subject: str) -> Input:
    """Return a subject's responses as the store holds them."""
    return Input(kind="store", name=f"responses/{subject}", digest=store.responses(subject).digest)


def subjects_known(chosen: ModelSet) -> list[str]:
    """Return the subjects, or the group of them, whose responses a model set decodes."""
    return [str(subject) for subject in chosen.record["subjects"]]


def subject_of(chosen: ModelSet, wanted: str | None) -> str:
    """Return whose brain is reconstructed from: the one asked for, else the first that the models know.

    Raises `ConfigError` where the models do not know it.
    """
    known = subjects_known(chosen)
    subject = wanted or known[0]
    if subject not in known and any(is_group(name) and subject in members_of(name) for name in known):
        raise ConfigError(
            f"reconstruction.subject: {chosen} are a {subject_label(known[0])}, which decodes from all their responses "
            f"together and not from {subject} alone; leave the subject out, or promote decoders of single subjects"
        )
    if subject not in known:
        raise ConfigError(f"reconstruction.subject: {chosen} knows no '{subject}'{nearest(subject, known)}")
    return subject


def write_videos(
    folder: Path, config: dict[str, Any], origin: MadeFrom, rendered: Rendered, stimuli: Sequence[str]
) -> None:
    """Write ``<folder>/<stimulus>.mp4`` for each of the reconstructed clips, with its provenance.

    Parameters
    ----------
    config : the study, as `portable` returns it
    """
    commit = git_commit()
    for index, stimulus in track(list(enumerate(stimuli)), "writing videos"):
        provenance = Provenance(
            role="reconstruction",
            study=config["study"],
            stimulus=stimulus,
            caption=rendered.captions[index] if rendered.captions else None,
            rendered_with=rendered.together[index] if rendered.together else [],
            frames=digest_frames(rendered.clips[index]),
            git_commit=commit,
            config=config,
            made_from=origin,
        )
        write_video(folder / f"{stimulus}.mp4", rendered.clips[index], provenance)


def write_seen(folder: Path, config: dict[str, Any], clips: NDArray[np.uint8], stimuli: Sequence[str]) -> None:
    """Write what had been shown beside the reconstructions, as far as its provenance goes; see `write_videos`."""
    shared: dict[str, Any] = {"study": config["study"], "git_commit": git_commit(), "config": config}
    for clip, stimulus in track(list(zip(clips, stimuli, strict=True)), "writing what was seen"):
        provenance = Provenance(role="seen", stimulus=stimulus, frames=digest_frames(clip), **shared)
        write_video(folder / f"{stimulus}.mp4", clip, provenance)


def write_video(path: Path, clip: Clip, provenance: Provenance) -> None:
    """Write a clip with its provenance in the tag `comment`, as canonical JSON, and a line for people in `title`."""
    fps = ClipConfig.model_validate(provenance.config["clips"]).fps
    metadata = {"title": provenance.title, "comment": canonical_json(provenance.to_json())}
    write_clip(path, clip, fps, metadata=metadata)


def read_provenance(video: Path) -> Provenance:
    """Read a video's provenance.

    Raises `SourceMissing` or `SourceError` where the file is absent, no video, or carries no provenance that this
    version reads.
    """
    comment = read_metadata(video).get("comment", "")
    try:
        content = json.loads(comment)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or "schema" not in content:
        raise SourceError(
            f"{video}: carries no provenance; expected an mp4 that 'brain2video reconstruct' wrote, as it wrote it"
        )
    if content["schema"] != SCHEMA:
        raise SourceError(
            f"{video}: its provenance has schema {content['schema']!r}, this version reads {SCHEMA}; update brain2video"
        )
    try:
        return Provenance.model_validate(content)
    except ValidationError as error:
        lines = explain(error, Provenance, content, f"{video}, provenance")
        raise SourceError("; ".join(lines.splitlines())) from error


def digest_frames(clip: Clip) -> str:
    """Return the SHA-256 of a clip's shape and pixels."""
    return hashlib.sha256(repr(clip.shape).encode() + np.ascontiguousarray(clip).tobytes()).hexdigest()


def portable(study: Study) -> dict[str, Any]:
    """Return what a video needs of its study, as JSON without the paths of this machine.

    A path is relative to the checkout where it lies inside, else its last component.
    """
    content = study.model_dump(mode="json", include=KEPT)
    roles = study.roles.regressed()
    content["targets"] = {name: content["targets"][name] for name in roles.values()}
    content["roles"] = roles
    content["source"]["path"] = reduced_path(content["source"]["path"])
    reduced: dict[str, Any] = without_places(content)
    return reduced


def _settings(config: Config | None) -> dict[str, Any] | None:
    """Return a model's settings without its weights' place; their digest is the revision."""
    return without_places(config.model_dump(mode="json", exclude={"weights"})) if config is not None else None
