"""Makes a video again from what it says of itself, and compares the bytes.

An input that is not what the video was made from is refused; other code or another machine is noted, and the bytes
decide.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from core.checkout import relative_to_root
from core.clips import Clip, read_frames, read_metadata
from core.config import explain
from core.errors import RegistryError, SourceError, SourceMissing
from core.files import digest_file, disk_explained
from feature_store import Store
from models.registry.client import versions_of
from models.registry.production import fetch
from models.registry.sets import ModelSet, model_name, set_of_versions
from studies.decoding.predictions import predict_roles, predict_test_roles, stimuli_trained_on
from studies.decoding.render import Rendered, Roles, renderer_of
from studies.reconstruction.explain import AS_WRITTEN, run_folder, written_as
from studies.reconstruction.new import NewFile, read_new
from studies.reconstruction.provenance import (
    Input,
    Machine,
    MadeFrom,
    Provenance,
    digest_frames,
    made_from,
    read_provenance,
    stored_input,
    threads_of,
    write_video,
)
from studies.reconstruction.response_file import IMAGES, RESPONSES, TRIALS, VOXELS
from studies.runs import MANIFEST, REPRODUCED, git_commit
from studies.study import Study

SHORT = 12
REGISTRY = "set MLFLOW_TRACKING_URI to the registry that it was made with"
CHECKOUT = "run 'dvc checkout'"
WEIGHTS = "bring those weights back"
NEVER = "from responses that were never stored"


@dataclass(frozen=True)
class Reproduced:
    """A video and what was made again from its provenance.

    Attributes
    ----------
    video, output : the original and the new file
    identical : whether both have the same bytes
    video_sha256, output_sha256 : of either
    difference : the first one, of the metadata, of a frame or of the encoding only; empty where there is none
    notes : what is not as it was when the video was made: code, commit, machine, the file itself
    """

    video: Path
    output: Path
    identical: bool
    video_sha256: str
    output_sha256: str
    difference: str
    notes: list[str]


@dataclass(frozen=True)
class _Asked:
    """A reconstruction that is to be made again, what it says of itself, and the study that this describes."""

    video: Path
    said: Provenance
    told: MadeFrom
    study: Study


def reproduce(video: Path, output: Path | None = None, *, responses: Path | None = None) -> Reproduced:
    """Make a reconstruction again from its provenance, and say whether it has the same bytes.

    Parameters
    ----------
    video : Path
        An mp4 that a reconstruction wrote.
    output : Path, optional
        Where to write; by default ``outputs/<study>/reproduced/<stimulus>.mp4``. Never a file of a run.
    responses : Path, optional
        The file that the video was made from, where it was never stored; by default the run's own copy of it.

    Raises
    ------
    SourceError
        The video carries no provenance, shows what was seen, or its responses are not those it was made from.
    RegistryError
        A model version is gone, or its files are others.
    StoreError, ModelError
        Stores or weights are absent.
    """
    asked = _asked(video)
    file = _responses_file(asked, responses)
    chosen = _registered(asked)
    with threads_of(asked.told.machine):
        store = Store(asked.study.store)
        given = stored_input(store, asked.told.subject) if file is None else asked.told.input
        now = made_from(asked.study, store, chosen, asked.told.subject, given)
        _require_same_inputs(asked, now)
        output = _output(asked, output)
        made = _rendered(asked, store, chosen, file)
    again = asked.said.model_copy(
        update={"caption": made.captions[0] if made.captions else None, "frames": digest_frames(made.clips[0])}
    )
    with disk_explained(output.parent):
        write_video(output, made.clips[0], asked.study.clips.fps, again)
    return _compared(asked, again, output, _notes(asked, now))


def _asked(video: Path) -> _Asked:
    said = read_provenance(video)
    if said.made_from is None or said.role != "reconstruction":
        raise SourceError(
            f"{video}: shows stimulus {said.stimulus} as it was seen; name a reconstruction, of 'videos/'"
        )
    try:
        study = Study.model_validate(said.config)
    except ValidationError as error:
        line = explain(error, Study, f"{video}, the study that it carries")
        raise SourceError(f"{line}; {_at_commit(said)}") from error
    if set(said.made_from.models.versions) != set(study.parts):
        parts = ", ".join(said.made_from.models.versions) or "none"
        raise SourceError(
            f"{video}: made by the parts {parts}, its study has {', '.join(study.parts)}; its provenance was changed, "
            "take the video as it was written"
        )
    return _Asked(video, said, said.made_from, study)


def _registered(asked: _Asked) -> ModelSet:
    """Return the versions that the video names, which must have the digests that it names."""
    study, models, found = asked.study.study, asked.told.models, {}
    for part in asked.study.parts:
        name, number = model_name(study, part), models.versions[part]
        listed = {int(version.version): version for version in versions_of(name)}
        if number not in listed:
            known = ", ".join(map(str, listed)) or "none"
            raise RegistryError(f"{asked.video}: was made by {name} v{number}, the registry has {known}; {REGISTRY}")
        held, told = str(listed[number].tags.get("digest", "nothing")), models.digests.get(part, "nothing")
        if held != told:
            raise RegistryError(
                f"{asked.video}: was made by {name} v{number} with the files {told[:SHORT]}, the registry's v{number} "
                f"has {held[:SHORT]}; {REGISTRY}"
            )
        found[part] = listed[number]
    try:
        return set_of_versions(study, found)
    except KeyError as error:
        raise RegistryError(
            f"{study}: {', '.join(found)} lack the tag {error}, which training gives them; {REGISTRY}"
        ) from error


def _responses_file(asked: _Asked, given: Path | None) -> NewFile | None:
    """Return the file that the video was made from, None where the responses are the store's."""
    told = asked.told.input
    if told.kind == "store":
        if given is not None:
            raise SourceError(f"{asked.video}: was made from {told.name} of the feature store; leave {given} out")
        return None
    run = run_folder(asked.video)
    kept = [run / f"responses{suffix}" for suffix in (".npy", *IMAGES)] + [run / "responses" / RESPONSES]
    found = given or next((path for path in kept if path.is_file()), None)
    if found is None:
        raise SourceMissing(
            f"{asked.video}: was made {NEVER} ({told.name}), and no copy lies in {run}; give the file: --responses FILE"
        )
    _require_own_file(asked, found / RESPONSES if found.is_dir() else found, told)
    return NewFile.model_validate({"path": found, "check_scale": False, **_kept_tables(run)})


def _kept_tables(run: Path) -> dict[str, Path]:
    """Return the tables of trials and voxels, and the mask, that a run of new responses keeps."""
    if not (run / MANIFEST).is_file():
        return {}
    kept = [("trials", TRIALS), ("voxels", VOXELS), *(("mask", f"mask{suffix}") for suffix in IMAGES)]
    return {what: run / name for what, name in kept if (run / name).is_file()}


def _require_own_file(asked: _Asked, file: Path, told: Input) -> None:
    if not file.is_file():
        raise SourceMissing(f"{file}: no such file; name the responses that {asked.video} was made from ({told.name})")
    digest = digest_file(file)
    if digest != told.digest:
        raise SourceError(
            f"{file}: has the SHA-256 {digest[:SHORT]}, {asked.video} was made from {told.name} with "
            f"{told.digest[:SHORT]}; give that file: --responses FILE"
        )


def _require_same_inputs(asked: _Asked, now: MadeFrom) -> None:
    """Raise where something that the video was made from is another one here."""
    for what, before, here, advice in _inputs(asked, now):
        if before != here:
            raise SourceError(f"{asked.video}: was made with {what} {_brief(before)}, here is {_brief(here)}; {advice}")


def _inputs(asked: _Asked, now: MadeFrom) -> Iterator[tuple[str, Any, Any, str]]:
    """Yield what is held against what: name, then, now, and what to do where they differ."""
    told, at_commit = asked.told, _at_commit(asked.said)
    stored = f"{CHECKOUT} at its commit: {at_commit}"
    yield now.input.name, told.input.digest, now.input.digest, stored
    for role, name in asked.study.roles.regressed().items():
        yield f"targets/{name}", told.targets.get(role), now.targets[role], stored
        yield f"the extractor of '{name}'", told.extractors.get(name), now.extractors[name], f"{WEIGHTS}: {at_commit}"
    for part in ("generator", "captioner"):
        revision = f"{part}_revision"
        yield f"the {part}'s weights", getattr(told, revision), getattr(now, revision), f"{WEIGHTS}: {at_commit}"
    for key in ("rois", "generator", "captioner", "seed", "strength"):
        yield f"its {key}", getattr(told, key), getattr(now, key), at_commit


def _rendered(asked: _Asked, store: Store, chosen: ModelSet, file: NewFile | None) -> Rendered:
    """Predict all that was predicted, and render the video's stimulus in the batch that it was rendered in."""
    names, roles = _predicted(asked, store, chosen, file)
    batch = asked.said.rendered_with or [asked.said.stimulus]
    first = names.index(batch[0]) if batch[0] in names else 0
    if asked.said.stimulus not in batch or names[first : first + len(batch)] != batch:
        raise SourceError(
            f"{asked.video}: stimulus {asked.said.stimulus}, rendered with {', '.join(batch[:4])}, is not so among "
            f"what {asked.told.input.name} holds ({', '.join(names[:4])}, …); bring its table of trials back"
        )
    return renderer_of(asked.study, store).render_again(roles, names, asked.said.stimulus, asked.said.rendered_with)


def _predicted(asked: _Asked, store: Store, chosen: ModelSet, file: NewFile | None) -> tuple[list[str], Roles]:
    subject, rois = asked.told.subject, chosen.record["rois"]
    encoder, regressors = fetch(chosen)
    if file is None:
        trained_on = stimuli_trained_on(
            store, chosen.record["subjects"], asked.study.training.stimuli, asked.study.seed
        )
        made = predict_test_roles(store, encoder, regressors, subject, rois, trained_on)
        return next(iter(made.values())).stimuli, {role: one.predicted for role, one in made.items()}
    new = read_new(store, file, chosen, encoder, subject)
    return predict_roles(encoder, regressors, subject, new.values, new.names)


def _output(asked: _Asked, output: Path | None) -> Path:
    """Return where to write, which is no file of a run."""
    if Path(asked.said.stimulus).name != asked.said.stimulus:
        raise SourceError(f"{asked.video}: its stimulus {asked.said.stimulus!r} cannot name a file; it was changed")
    chosen = output or asked.study.outputs / REPRODUCED / f"{asked.said.stimulus}.mp4"
    if chosen.is_dir() or chosen.suffix.lower() != ".mp4":
        raise SourceError(f"{chosen}: is no name of an mp4; name the file to write, such as again.mp4")
    if any(folder.exists() and not folder.is_dir() for folder in chosen.parents):
        raise SourceError(f"{chosen}: a file lies where its folder would be; name another file")
    runs = (chosen.parent, run_folder(chosen))
    if chosen.resolve() == asked.video.resolve() or any((folder / MANIFEST).is_file() for folder in runs):
        raise SourceError(f"{chosen}: is a video of a run, which is never overwritten; name another file")
    return chosen


def _compared(asked: _Asked, again: Provenance, output: Path, notes: list[str]) -> Reproduced:
    before, after = digest_file(asked.video), digest_file(output)
    return Reproduced(
        video=asked.video,
        output=output,
        identical=before == after,
        video_sha256=before,
        output_sha256=after,
        difference="" if before == after else _first_difference(asked, again, output),
        notes=notes,
    )


def _first_difference(asked: _Asked, again: Provenance, output: Path) -> str:
    said, tags, new_tags = asked.said, read_metadata(asked.video), read_metadata(output)
    if said.caption != again.caption:
        return f"metadata: the caption was {said.caption!r}, is {again.caption!r} now"
    if said.frames != again.frames:  # of the pixels, which say more themselves
        del tags["comment"], new_tags["comment"]
    for key in sorted(tags | new_tags):
        if tags.get(key) != new_tags.get(key):
            return f"metadata: the tag '{key}' is not written as it was"
    if frame := _frame_difference(asked.video, output):
        return frame
    if said.frames != again.frames:
        return "metadata: the digest of the frames before compression, which the files' frames do not show"
    return "encoding only: frames and metadata are the same"


def _frame_difference(video: Path, output: Path) -> str:
    """Name the first frame that is shown otherwise, counted from 1; empty where none is."""
    number = 0
    try:
        for number, (before, after) in enumerate(zip_longest(read_frames(video), read_frames(output)), 1):
            if before is None or after is None:
                return f"frame {number}: is only in {relative_to_root(output if before is None else video)}"
            if before.shape != after.shape:
                return f"frame {number}: is {_size(before)}, made again {_size(after)} pixels"
            far = abs(before.astype(int) - after)
            if far.any():
                return (
                    f"frame {number}: {far.any(axis=-1).mean():.1%} of its pixels differ, by up to {far.max()} of 255"
                )
    except SourceError:
        return f"frame {number + 1}: cannot be decoded"
    return ""


def _size(frame: Clip | NDArray[Any]) -> str:
    return f"{frame.shape[1]} x {frame.shape[0]}"


def _notes(asked: _Asked, now: MadeFrom) -> list[str]:
    said, told, notes = asked.said, asked.told, []
    state = written_as(asked.video)
    if state != AS_WRITTEN:
        notes.append(f"the video's file: {state}")
    if told.code != now.code:
        notes.append(f"the code that makes videos was {told.code[:SHORT]}, is {now.code[:SHORT]} now")
    if said.git_commit != (here := git_commit()):
        notes.append(f"the git commit was {said.git_commit}, is {here} now")
    for key in Machine.model_fields:
        before, here = getattr(told.machine, key), getattr(now.machine, key)
        if before != here:
            notes.append(f"the machine's {key} was {before}, is {here} now")
    return notes


def _at_commit(said: Provenance) -> str:
    """Return the command that brings back what the video was made with, as far as git knows it."""
    commit, changed, _ = said.git_commit.partition("+")
    if commit == "unknown":
        return "take the checkout that it was made in, whose commit was not known"
    return f"'git checkout {commit[:SHORT]}'{' and its changes, which were not committed' if changed else ''}"


def _brief(value: Any) -> str:
    return value[:SHORT] if isinstance(value, str) else "nothing" if value is None else str(value)
