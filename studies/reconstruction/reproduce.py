"""Explains a video by its own provenance and the manifest beside it, makes it again, and compares the bytes.

A video whose inputs are not those of its provenance is refused; other code or another machine is noted, and the bytes
decide.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.checkout import relative_to_root
from core.clips import read_frames, read_metadata
from core.errors import Brain2VideoError, RegistryError, SourceError, SourceMissing
from core.explain import explain as explain_invalid
from core.files import digest_file, disk_explained, read_json
from core.threads import computing
from feature_store import Store
from feature_store.sources.response_file import IMAGES, RESPONSES, TRIALS, VOXELS
from models.registry.client import local_database, versions_of
from models.registry.production import aliased, fetch
from models.registry.sets import ModelSet, model_name, set_of_versions
from studies.decoding.predictions import predict_roles, predict_test_roles, stimuli_trained_on
from studies.decoding.render import Rendered, RoleArrays, renderer_of
from studies.reconstruction.checks import NewFile
from studies.reconstruction.new import read_new
from studies.reconstruction.provenance import (
    MadeFrom,
    Provenance,
    digest_frames,
    made_from,
    read_provenance,
    stored_input,
    write_video,
)
from studies.runs import MANIFEST, REPRODUCED, git_commit
from studies.study import Study

Lines = list[tuple[str, str]]
AS_WRITTEN = "as written"
SHORT = 12


def explain(video: Path) -> Lines:
    """Return what a video was made from, one (what, value) a line, in the order in which a person asks.

    Whether its models are in production now is reported where the registry answers; nothing depends on it. Raises
    `SourceMissing` or `SourceError` where the file is absent, no video, or carries no provenance.
    """
    provenance = read_provenance(video)
    try:
        shown = _reconstructed(provenance, provenance.made_from)
    except (KeyError, TypeError) as error:
        raise SourceError(
            f"{video}, provenance: its inputs and its study do not fit ({error}); it was changed, take the video "
            "as it was written"
        ) from error
    return [
        ("title", read_metadata(video).get("title", provenance.title)),
        ("study", provenance.study),
        ("stimulus", provenance.stimulus),
        *shown,
        ("git commit", provenance.git_commit),
        ("file", written_as(video)),
    ]


def _reconstructed(provenance: Provenance, origin: MadeFrom | None) -> Lines:
    if origin is None:
        return [("shows", "what was seen")]
    kind = "file" if origin.input.kind == "file" else "stored"
    captioner = "none" if origin.captioner is None else str(origin.captioner.get("kind", "unknown"))
    machine = origin.machine
    threads = f"{machine.threads} threads, {machine.blas_threads} of BLAS"
    versions = f"torch {machine.torch}, numpy {machine.numpy}, av {machine.av}"
    return [
        ("subject", origin.subject),
        ("caption", provenance.caption or "none decoded"),
        ("responses", f"{origin.input.name} ({kind}, {origin.input.digest[:SHORT]})"),
        ("regions", ", ".join(origin.rois) if origin.rois else "all voxels"),
        *_models(provenance.study, origin),
        *_targets(provenance, origin),
        ("generator", _generator(origin)),
        ("captioner", _with_revision(captioner, origin.captioner_revision)),
        ("seed", str(origin.seed)),
        ("rendered with", ", ".join(provenance.rendered_with) or "by itself"),
        ("machine", f"{machine.gpu or machine.processor}, {threads}; {versions}"),
        ("code", origin.code[:SHORT]),
    ]


def _models(study: str, origin: MadeFrom) -> Lines:
    production, lines = _production(study, list(origin.models.versions)), []
    for part, number in origin.models.versions.items():
        digest, state = origin.models.digests.get(part, "digest unknown")[:SHORT], ""
        if production is not None:
            now = "empty" if production[part] is None else f"v{production[part]}"
            state = ", in production" if production[part] == number else f", not in production, which is {now}"
        lines.append((part, f"v{number} ({digest}){state}"))
    return lines


def _production(study: str, parts: list[str]) -> dict[str, int | None] | None:
    """Return the version of each part that is in production, or None where the registry does not answer."""
    database = local_database(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if database is not None and not database.exists():
        return None  # looking must not set one up
    with suppress(Brain2VideoError):
        versions = aliased(study, parts)
        return {part: int(version.version) if version else None for part, version in versions.items()}
    return None


def _targets(provenance: Provenance, origin: MadeFrom) -> Iterator[tuple[str, str]]:
    for role, digest in origin.targets.items():
        name = provenance.config["roles"][role]
        extractor, revision = provenance.config["targets"][name]["extractor"], origin.extractors[name]
        yield f"target of {role}", f"{name} ({digest[:SHORT]}) by {extractor}, revision {revision[:SHORT]}"


def _generator(origin: MadeFrom) -> str:
    if origin.generator is None:
        return "none: z is decoded directly"
    known = [f"{key} {origin.generator[key]}" for key in ("strength", "steps", "guidance") if key in origin.generator]
    return _with_revision(", ".join(known), origin.generator_revision)


def _with_revision(text: str, revision: str | None) -> str:
    return text if revision in (None, text) else f"{text} (weights {str(revision)[:SHORT]})"


def run_folder(video: Path) -> Path:
    """Return the folder of the run that a video would be of: the one above its own."""
    return video.parent.resolve().parent


def written_as(video: Path) -> str:
    """Return whether a file has the bytes that the manifest of its run recorded, in words."""
    try:
        digest = read_json(run_folder(video) / MANIFEST)["files"][f"{video.parent.resolve().name}/{video.name}"]
    except FileNotFoundError:
        return "no manifest beside it"
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        return "its manifest does not list it"
    return AS_WRITTEN if digest_file(video) == digest else "differs from its manifest"


REGISTRY = "set MLFLOW_TRACKING_URI to the registry that it was made with"


@dataclass(frozen=True)
class Reproduced:
    """A video that was made again."""

    output: Path
    output_sha256: str
    difference: str
    """The first one, of the metadata, of a frame or of the encoding only; empty where both have the same bytes."""
    notes: list[str]
    """What changed since the video was made: code, commit, machine, the file itself."""

    @property
    def identical(self) -> bool:
        """Whether both files have the same bytes."""
        return not self.difference


@dataclass(frozen=True)
class _Original:
    video: Path
    provenance: Provenance
    origin: MadeFrom
    study: Study


def reproduce(video: Path, output: Path | None = None, *, responses: Path | None = None) -> Reproduced:
    """Make a reconstruction again from its provenance, and return whether it has the same bytes.

    Parameters
    ----------
    video : an mp4 that a reconstruction wrote
    output : where to write; by default ``outputs/<study>/reproduced/<stimulus>.mp4``. Never a file of a run.
    responses : the file that the video was made from, where it was never stored; by default the run's own copy of it

    Raises
    ------
    SourceError
        The video carries no provenance, shows what was seen, or its responses are not those it was made from.
    RegistryError
        A model version is gone, or its files are others.
    StoreError, ModelError
        Stores or weights are absent.
    """
    original = _original(video)
    file = _responses_file(original, responses)
    chosen, subject = _registered(original), original.origin.subject
    with computing(original.origin.machine.threads, original.origin.machine.blas_threads):
        store = Store(original.study.store)
        given = stored_input(store, subject) if file is None else original.origin.input
        now = made_from(original.study, store, chosen, subject, given)
        _require_same_inputs(original, now)
        output = _output(original, output)
        rendered = _rendered(original, store, chosen, file)
    caption = rendered.captions[0] if rendered.captions else None
    again = original.provenance.model_copy(update={"caption": caption, "frames": digest_frames(rendered.clips[0])})
    with disk_explained(output.parent):
        write_video(output, rendered.clips[0], again)
    digest = digest_file(output)
    difference = "" if digest == digest_file(video) else _first_difference(original, again, output)
    return Reproduced(output, digest, difference, _notes(original, now))


def _original(video: Path) -> _Original:
    provenance = read_provenance(video)
    origin = provenance.made_from
    if origin is None or provenance.role != "reconstruction":
        raise SourceError(
            f"{video}: shows stimulus {provenance.stimulus} as it was seen; name a reconstruction, of 'videos/'"
        )
    try:
        study = Study.model_validate(provenance.config)
    except ValidationError as error:
        lines = explain_invalid(error, Study, provenance.config, f"{video}, the study that it carries")
        raise SourceError("; ".join([*lines.splitlines(), _at_commit(provenance)])) from error
    if set(origin.models.versions) != set(study.parts):
        parts = ", ".join(origin.models.versions) or "none"
        raise SourceError(
            f"{video}: made by the parts {parts}, its study has {', '.join(study.parts)}; its provenance was changed, "
            "take the video as it was written"
        )
    return _Original(video, provenance, origin, study)


def _registered(original: _Original) -> ModelSet:
    study, models, versions = original.study.study, original.origin.models, {}
    for part in original.study.parts:
        name, number = model_name(study, part), models.versions[part]
        listed = {int(version.version): version for version in versions_of(name)}
        made_by = f"{original.video}: was made by {name} v{number}"
        if number not in listed:
            known = ", ".join(map(str, listed)) or "none"
            raise RegistryError(f"{made_by}, the registry has {known}; {REGISTRY}")
        here, then = str(listed[number].tags.get("digest", "nothing")), models.digests.get(part, "nothing")
        if here != then:
            raise RegistryError(
                f"{made_by} with the files {then[:SHORT]}, the registry's v{number} has {here[:SHORT]}; {REGISTRY}"
            )
        versions[part] = listed[number]
    try:
        return set_of_versions(study, versions)
    except KeyError as error:
        raise RegistryError(
            f"{study}: {', '.join(versions)} lack the tag {error}, which training gives them; {REGISTRY}"
        ) from error


def _responses_file(original: _Original, given: Path | None) -> NewFile | None:
    """Return the file that the video was made from, None where the responses are the store's."""
    video, origin = original.video, original.origin.input
    if origin.kind == "store":
        if given is not None:
            raise SourceError(f"{video}: was made from {origin.name} of the feature store; leave {given} out")
        return None
    run = run_folder(video)
    kept = [run / f"responses{suffix}" for suffix in (".npy", *IMAGES)] + [run / "responses" / RESPONSES]
    path = given or next((path for path in kept if path.is_file()), None)
    if path is None:
        raise SourceMissing(
            f"{video}: was made from responses that were never stored ({origin.name}), and no copy lies in {run}; give "
            "the file: --responses FILE"
        )
    file = path / RESPONSES if path.is_dir() else path
    if not file.is_file():
        raise SourceMissing(f"{file}: no such file; name the responses that {video} was made from ({origin.name})")
    digest = digest_file(file)
    if digest != origin.digest:
        raise SourceError(
            f"{file}: has the SHA-256 {digest[:SHORT]}, {video} was made from {origin.name} with "
            f"{origin.digest[:SHORT]}; give that file: --responses FILE"
        )
    tables = [("trials", TRIALS), ("voxels", VOXELS), *(("mask", f"mask{suffix}") for suffix in IMAGES)]
    is_run = (run / MANIFEST).is_file()
    beside = {what: run / name for what, name in tables if is_run and (run / name).is_file()}
    return NewFile.model_validate({"path": path, "check_scale": False, **beside})


def _require_same_inputs(original: _Original, now: MadeFrom) -> None:
    at_commit, roles = _at_commit(original.provenance), original.study.roles.regressed()
    stored = f"run 'dvc checkout' at its commit: {at_commit}"
    weights = f"bring those weights back: {at_commit}"
    for field, before, here in _differences(original.origin, now, {"subject", "models", "code", "machine"}):
        part, _, key = field.partition(".")
        what, advice = {
            "input": (now.input.name, stored),
            "targets": (f"targets/{roles.get(key, key)}", stored),
            "extractors": (f"the extractor of '{key}'", weights),
            "generator_revision": ("the generator's weights", weights),
            "captioner_revision": ("the captioner's weights", weights),
        }.get(part, (f"its {field}", at_commit))
        raise SourceError(f"{original.video}: was made with {what} {_brief(before)}, here is {_brief(here)}; {advice}")


def _differences(before: MadeFrom, now: MadeFrom, without: set[str]) -> Iterator[tuple[str, Any, Any]]:
    """Yield every field that differs, such as ``seed`` or ``targets.z``, with its value then and now."""
    then, here = (each.model_dump(mode="json", exclude=without) for each in (before, now))
    for field, value in then.items():
        if isinstance(value, dict) and isinstance(here[field], dict):
            for key in value | here[field]:
                if value.get(key) != here[field].get(key):
                    yield f"{field}.{key}", value.get(key), here[field].get(key)
        elif value != here[field]:
            yield field, value, here[field]


def _rendered(original: _Original, store: Store, chosen: ModelSet, file: NewFile | None) -> Rendered:
    """Predict all that was predicted, and render the video's stimulus in the batch that it was rendered in."""
    names, roles = _predicted(original, store, chosen, file)
    stimulus, rendered_with = original.provenance.stimulus, original.provenance.rendered_with
    batch = rendered_with or [stimulus]
    first = names.index(batch[0]) if batch[0] in names else 0
    if stimulus not in batch or names[first : first + len(batch)] != batch:
        raise SourceError(
            f"{original.video}: stimulus {stimulus}, rendered with {', '.join(batch[:4])}, is not so among what "
            f"{original.origin.input.name} holds ({', '.join(names[:4])}, …); bring its table of trials back"
        )
    return renderer_of(original.study, store).render_again(roles, names, stimulus, rendered_with)


def _predicted(
    original: _Original, store: Store, chosen: ModelSet, file: NewFile | None
) -> tuple[list[str], RoleArrays]:
    subject, rois = original.origin.subject, chosen.record["rois"]
    encoder, regressors = fetch(chosen)
    if file is None:
        study = original.study
        trained_on = stimuli_trained_on(store, chosen.record["subjects"], study.training.stimuli, study.seed)
        predictions = predict_test_roles(store, encoder, regressors, subject, rois, trained_on)
        stimuli = next(iter(predictions.values())).stimuli
        return stimuli, {role: own.predicted for role, own in predictions.items()}
    new = read_new(store, file, chosen, encoder, subject)
    return predict_roles(encoder, regressors, subject, new.values, new.names)


def _output(original: _Original, output: Path | None) -> Path:
    stimulus = original.provenance.stimulus
    if Path(stimulus).name != stimulus:
        raise SourceError(f"{original.video}: its stimulus {stimulus!r} cannot name a file; it was changed")
    chosen = output or original.study.outputs / REPRODUCED / f"{stimulus}.mp4"
    if chosen.is_dir() or chosen.suffix.lower() != ".mp4":
        raise SourceError(f"{chosen}: is no name of an mp4; name the file to write, such as again.mp4")
    if any(folder.exists() and not folder.is_dir() for folder in chosen.parents):
        raise SourceError(f"{chosen}: a file lies where its folder would be; name another file")
    runs = (chosen.parent, run_folder(chosen))
    if chosen.resolve() == original.video.resolve() or any((folder / MANIFEST).is_file() for folder in runs):
        raise SourceError(f"{chosen}: is a video of a run, which is never overwritten; name another file")
    return chosen


def _first_difference(original: _Original, again: Provenance, output: Path) -> str:
    before, tags, new_tags = original.provenance, read_metadata(original.video), read_metadata(output)
    if before.caption != again.caption:
        return f"metadata: the caption was {before.caption!r}, is {again.caption!r} now"
    if before.frames != again.frames:  # the pixels below show more
        del tags["comment"], new_tags["comment"]
    for key in sorted(tags | new_tags):
        if tags.get(key) != new_tags.get(key):
            return f"metadata: the tag '{key}' is not written as it was"
    if frame := _frame_difference(original.video, output):
        return frame
    if before.frames != again.frames:
        return "metadata: the digest of the frames before compression, which the files' frames do not show"
    return "encoding only: frames and metadata are the same"


def _frame_difference(video: Path, output: Path) -> str:
    """Describe the first frame that differs, counted from 1; empty where none does."""
    number = 0
    try:
        for number, (before, after) in enumerate(zip_longest(read_frames(video), read_frames(output)), 1):
            if before is None or after is None:
                return f"frame {number}: is only in {relative_to_root(output if before is None else video)}"
            if before.shape != after.shape:
                sizes = [f"{frame.shape[1]} x {frame.shape[0]}" for frame in (before, after)]
                return f"frame {number}: is {sizes[0]}, made again {sizes[1]} pixels"
            far = abs(before.astype(int) - after)
            if far.any():
                share = far.any(axis=-1).mean()
                return f"frame {number}: {share:.1%} of its pixels differ, by up to {far.max()} of 255"
    except SourceError:
        return f"frame {number + 1}: cannot be decoded"
    return ""


def _notes(original: _Original, now: MadeFrom) -> list[str]:
    then, notes = original.provenance.git_commit, []
    if (state := written_as(original.video)) != AS_WRITTEN:
        notes.append(f"the video's file: {state}")
    if then != (here := git_commit()):
        notes.append(f"the git commit was {then}, is {here} now")
    for field, before, after in _differences(original.origin, now, set(MadeFrom.model_fields) - {"code", "machine"}):
        what = "code that makes videos" if field == "code" else f"machine's {field.partition('.')[2]}"
        was, is_now = (before[:SHORT], after[:SHORT]) if field == "code" else (before, after)
        notes.append(f"the {what} was {was}, is {is_now} now")
    return notes


def _at_commit(provenance: Provenance) -> str:
    """Return the command that brings back what the video was made with, as far as git knows it."""
    commit, changed, _ = provenance.git_commit.partition("+")
    if commit == "unknown":
        return "take the checkout that it was made in, whose commit was not known"
    return f"'git checkout {commit[:SHORT]}'{' and its changes, which were not committed' if changed else ''}"


def _brief(value: Any) -> str:
    return value[:SHORT] if isinstance(value, str) else "nothing" if value is None else str(value)
